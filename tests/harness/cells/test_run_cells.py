"""Cells are run as they say: by their own interpreter, and only where they are not done."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace

import pytest

from harness import runs
from harness.base.errors import DataError, EnvironmentFault, Interrupted, UsageError
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell, Ended
from tests.fixtures import write_tiny_config

# An interpreter that trains nothing: it notes how it was called and ends as it is told to.
STAND_IN = """#!/bin/sh
echo "$@" >> "$NOTES"
echo "$PYTHONPATH" >> "$NOTES"
echo "a first line" >&2
echo "harness: error: what went wrong" >&2
test -z "$ENDS" || exit "$(sed -n 1p "$ENDS"; sed -i 1d "$ENDS")"
"""


@pytest.fixture
def cell(tmp_path):
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    config = write_tiny_config(tmp_path / "tiny.toml")
    return Cell(
        str(config), tmp_path / "data", tmp_path / "runs/one", python=str(python),
        source=tmp_path, environment={"NOTES": str(tmp_path / "notes")},
    )


def ending(cell, *codes):
    path = cell.directory.parents[1] / "ends"
    path.write_text("".join(f"{code}\n" for code in codes))
    return replace(cell, environment={**cell.environment, "ENDS": str(path)})


def notes(cell):
    with open(cell.environment["NOTES"]) as file:
        return file.read().splitlines()


def test_a_cell_is_called_with_what_it_says(cell):
    cell = replace(cell, seed=7, until=3, overrides=("optim.lr=1e-3",), arguments=("--kernels=x",))
    cell = replace(cell, environment={**cell.environment, "PYTHONPATH": "/built"})
    assert cells.train(cell).code == 0
    called, path = notes(cell)
    assert called == (
        f"-m harness train {cell.config} --output-dir {cell.directory} --no-eval --seed 7 "
        f"--until 3 --set optim.lr=1e-3 --data {cell.data} --kernels=x"
    )
    assert path == f"{cell.source}{os.pathsep}/built"
    cells.evaluate(replace(cell, source=None), "--n-samples", 5)
    called, path = notes(cell)[2:]
    assert called == (
        f"-m harness eval {cell.directory} --fid --n-samples 5 --data {cell.data} --kernels=x"
    )
    assert path == "/built"


@pytest.mark.parametrize(
    ("codes", "retries", "calls", "ended"),
    [((5, 0), 1, 2, 0), ((5, 4), 1, 2, 4), ((2, 0), 3, 1, 2)],
)
def test_what_fails_is_tried_again_but_wrong_usage(cell, codes, retries, calls, ended):
    cell = ending(cell, *codes)
    assert cells.train(cell, retries=retries).code == ended
    assert len(notes(cell)) == 2 * calls


def test_what_was_stopped_stops_who_runs_it(cell):
    with pytest.raises(Interrupted, match="runs/one: `harness train` was stopped"):
        cells.train(ending(cell, 75), retries=3)


@pytest.mark.parametrize(
    ("code", "error"),
    [(2, UsageError), (4, DataError), (5, EnvironmentFault), (1, EnvironmentFault)],
)
def test_a_failure_is_an_error_of_its_kind_with_the_last_line(cell, code, error):
    found = cells.train(ending(cell, code)).error()
    assert type(found) is error
    assert str(found).endswith(f"runs/one: `harness train` ended with {code}: what went wrong")


def test_an_interpreter_that_is_none_is_refused(cell, tmp_path):
    with pytest.raises(UsageError, match="nowhere is no Python"):
        cells.interpreter(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="cannot be run"):
        cells.train(replace(cell, python=str(tmp_path / "nowhere")))
    (tmp_path / "link").symlink_to(sys.executable)  # a virtual environment's is one, and it counts
    assert cells.interpreter(str(tmp_path / "link")) == str(tmp_path / "link")


def test_those_that_are_done_are_left_alone(cell, features, capsys):
    """A real run, of which only the checkpoint's presence, config and seed are looked at."""
    real = replace(cell, python=sys.executable, source=cells.CHECKOUT, data=features, until=3)
    assert not cells.done(real)
    ended = dict(cells.train_all([real], "cells"))
    assert ended[real].code == 0, ended[real]
    assert "cells: 1/1 runs" in capsys.readouterr().err
    assert runs.load(real.directory).checkpoint_steps() == [3]
    assert cells.done(real)
    assert list(cells.train_all([real], "cells")) == []
    for other in (replace(real, until=4), replace(real, until=None), replace(real, seed=1),
                  replace(real, overrides=("optim.lr=1e-3",))):
        assert not cells.done(other)
    # What is in the way is refused by the command itself.
    ended = cells.train(replace(real, overrides=("optim.lr=1e-3",)))
    assert ended.code == 2 and isinstance(ended, Ended) and "optim.lr" in str(ended)


@pytest.mark.parametrize(("codes", "retries", "ended"), [
    ((0, 0), 0, [0, 0]), ((5, 0, 0), 1, [0, 0]), ((4, 4), 0, [4, 4]), ((2, 2), 3, [2, 2]),
])
def test_two_beside_each_other_end_as_alone(cell, codes, retries, ended):
    cell = ending(cell, *codes)
    pair = [cell, replace(cell, directory=cell.directory.parent / "two")]
    found = cells.train_in_turns(pair, retries=retries)
    assert [one.code for one in found] == ended and len(notes(cell)) == 2 * len(codes)
    assert all("went wrong" in str(one) for one in found if one.code)


def test_two_take_turns_step_by_step_and_have_the_bits_of_one_alone(features, tmp_path):
    config = write_tiny_config(tmp_path / "tiny.toml")
    pair = [Cell(str(config), features, tmp_path / name, overrides=("train.log_steps=1",))
            for name in ("a", "b")]
    alone = replace(pair[0], directory=tmp_path / "alone")
    assert [one.code for one in cells.train_in_turns(pair)] == [0, 0]
    assert cells.train(alone).code == 0
    found = [runs.load(one.directory) for one in (*pair, alone)]
    losses = [[line["loss_hex"] for line in run.metrics()] for run in found]
    assert losses[0] == losses[1] == losses[2]
    ends = sorted((line["time"], name) for run, name in zip(found, "ab", strict=False)
                  for line in run.timing())
    assert "".join(name for _, name in ends) == "ab" * len(losses[0])
    assert all(map(cells.done, pair)) and [one.code for one in cells.train_in_turns(pair)] == [0, 0]
