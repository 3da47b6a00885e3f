"""A cell of a bundle run again: really trained, here and by the command."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.base.errors import UsageError
from harness.studies import reproduce_cell, study_bundle, study_directory, study_file
from harness.training import train
from tests.command import assert_one_line_error, harness
from tests.harness.studies.made import write_study

CELL = "tiny-s2"


@pytest.fixture(scope="module")
def study(features, tmp_path_factory):
    """Three seeds of the tiny config, trained here; not evaluated."""
    root = tmp_path_factory.mktemp("study")
    # An interpreter that is none, as a bundle from elsewhere may name: it is never called.
    found = study_file.load(write_study(
        root, "[stacks]", 'theirs = "/nonexistent/python"', seeds="[1, 2, 3]"))
    study_directory.begin(root / "study", found)
    for one in found.cells():
        where = study_directory.run_directory(root / "study", one.id)
        train.train(train.Plan(found.config(one.axes), one.seed, where, features, 0))
    return root / "study"


def bundle(study, path, change=lambda line: line):
    """The study's bundle, every line of its losses changed first."""
    copy = shutil.copytree(study, path.with_suffix(""))
    for log in copy.glob("cells/*/metrics.jsonl"):
        lines = [change(json.loads(line)) for line in log.read_text().splitlines()]
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    study_bundle.write(copy, path)
    return path


def times(factor):
    def change(line):
        loss = line["loss"] * factor
        return {**line, "loss": loss, "loss_hex": loss.hex()}

    return change


def test_the_same_bits_within_the_interval_or_outside_it(study, features, tmp_path):
    out = tmp_path / "out"
    true = bundle(study, tmp_path / "true.tar")
    report = reproduce_cell.reproduce(true, CELL, features, out)
    assert report["verdict"] == reproduce_cell.SAME, report
    assert report["same_bits"] == {"loss": True, "weights": True}
    (row,) = report["figures"]
    assert row["figure"] == "Training loss" and row["low"] < row["here"] < row["high"]
    assert reproduce_cell.text(report).startswith(f"{CELL}: same bits\n")
    log = out / "cells" / CELL / "metrics.jsonl"
    assert log.read_bytes() == (study / "cells" / CELL / "metrics.jsonl").read_bytes()

    # The cell is done by now: it is compared, and not run again.
    written = log.stat().st_mtime_ns
    near = bundle(study, tmp_path / "near.tar", times(1 + 1e-6))
    report = reproduce_cell.reproduce(near, CELL, features, out)
    assert report["verdict"] == reproduce_cell.WITHIN
    assert report["same_bits"] == {"loss": False, "weights": True}

    far = bundle(study, tmp_path / "far.tar", times(0.5))
    ended = harness(
        "study", "reproduce", far, "--cell", CELL, "--data", features, "-o", out, "--json")
    assert_one_line_error(ended, 3, f"{CELL} does not come out as")
    assert json.loads(ended.stdout)["verdict"] == reproduce_cell.OUTSIDE
    assert log.stat().st_mtime_ns == written


def test_one_seed_gives_no_interval_and_a_cell_that_is_none_is_named(study, features, tmp_path):
    shutil.copytree(study, tmp_path / "one")
    for seed in (1, 3):
        shutil.rmtree(tmp_path / "one" / "cells" / f"tiny-s{seed}")
    alone = bundle(tmp_path / "one", tmp_path / "alone.tar", times(1 + 1e-6))
    here = reproduce_cell._here(study_directory.load(study))
    study_directory.begin(tmp_path / "out", here)
    shutil.copytree(study / "cells", tmp_path / "out" / "cells")  # done, as if run before
    report = reproduce_cell.reproduce(alone, CELL, features, tmp_path / "out")
    assert report["verdict"] == reproduce_cell.UNKNOWN and report["seeds"] == 1
    with pytest.raises(UsageError, match="has no cell 'tiny-s9'; choose with --cell: tiny-s1"):
        reproduce_cell.reproduce(alone, "tiny-s9", features, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="tiny-s1 is missing: not run"):
        reproduce_cell.reproduce(alone, "tiny-s1", features, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
