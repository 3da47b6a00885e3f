"""A whole report from fabricated runs: its files, its errors, and every figure checked by hand."""

from __future__ import annotations

import csv
import fcntl
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from harness.base.errors import DataError, EnvironmentFault, UsageError
from reports import build
from tests import file_schemas
from tests.reports import fabricate


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return fabricate.pair(root)


@pytest.fixture
def pair(made, tmp_path):
    return [Path(shutil.copytree(run, tmp_path / run.name)) for run in made]


def write(runs, out, **options):
    path = build.write(build.contents(build.build(runs, **options)), out)
    return path, {p.name: p for p in out.iterdir()}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_figure_recomputed_by_other_code(pair, tmp_path):
    _, files = write(pair, tmp_path / "out", price=3.0)
    file_schemas.check(files[build.MANIFEST])
    rows = rows_of(files["comparison.csv"])
    ratios = rows_of(files["ratios.csv"])
    projections = rows_of(files["projection.csv"])
    speeds, losses = [], []
    for run, row, ratio, projected in zip(pair, rows, ratios, projections, strict=True):
        info = json.loads((run / "run.json").read_text())
        metrics, timing = jsonl(run / "metrics.jsonl"), jsonl(run / "timing.jsonl")
        timed = [line for line in timing if line["steps_timed"]]
        seconds = math.fsum(line["seconds"] for line in timed)
        images = math.fsum(line["images_per_second"] * line["seconds"] for line in timed)
        speeds.append(images / seconds)
        losses.append(statistics.fmean(float.fromhex(line["loss_hex"]) for line in metrics[-10:]))
        each_step = sorted(line["step_ms"] for line in timed for _ in range(line["steps_timed"]))
        each_p95 = sorted(line["step_ms_p95"] for line in timed for _ in range(line["steps_timed"]))
        median = each_step[math.ceil(0.5 * len(each_step)) - 1]
        p95 = max(
            each_p95[math.ceil(0.5 * len(each_p95)) - 1],
            each_step[math.ceil(0.95 * len(each_step)) - 1],
        )
        flops = 3 * float(row["gflops_per_image"]) * 1e9
        final = json.loads((run / "eval/00000200-coco-ddim50/result.json").read_text())
        fid = "fid [coco-ddim50, N=30000]"
        expected = {
            "seed": info["seed"], "steps": metrics[-1]["step"],
            "full_steps": info["config"]["train"]["max_steps"],
            "images_per_second": speeds[-1], "images_per_second_per_device": speeds[-1],
            "step_ms": median, "step_ms_p95": p95, "mfu": flops * speeds[-1] / 156e12,
            "data_wait_share": 0.02,
            "peak_device_bytes": max(line["peak_device_bytes"] for line in timing),
            "peak_host_bytes": max(line["peak_host_bytes"] for line in timing),
            "device_hours": math.fsum(line["seconds"] for line in timing) / 3600,
            "loss": losses[-1], fid: final["metrics"]["fid"],
            f"{fid} low": final["uncertainty"]["fid"]["low"],
            f"{fid} high": final["uncertainty"]["fid"]["high"],
            f"{fid} step": 200, fid.replace("fid", "fid_infinity"): final["metrics"]["fid"] - 0.5,
            "kid [coco-ddim50, N=30000] high":
                final["metrics"]["kid"] + statistics.NormalDist().inv_cdf(0.95) * 0.0004,
            "val_loss [coco-ddim50, N=30000]": final["metrics"]["val_loss"],
            "kid [coco-ddim50, N=30000]": final["metrics"]["kid"],
            "accuracy [coco-ddim50, N=30000]": final["metrics"]["accuracy"],
        }  # fmt: skip
        for key, value in expected.items():
            assert float(row[key]) == pytest.approx(value, rel=1e-9), key
        assert row["run"] == run.name and row["config"] == info["config"]["name"]
        assert float(ratio["images_per_second"]) == pytest.approx(speeds[-1] / speeds[0], rel=1e-9)
        assert float(ratio["loss"]) == pytest.approx(losses[-1] / losses[0], rel=1e-9)
        hours = (info["config"]["train"]["max_steps"] - 200) * median / 1e3 / 3600
        assert float(projected["hours_left"]) == pytest.approx(hours, rel=1e-9)
        assert float(projected["cost_left"]) == pytest.approx(3.0 * hours, rel=1e-9)
    assert [int(row["parameters"]) for row in rows] == [44_692_644, 58_345_636]


def test_markdown_shows_tables_pictures_and_samples(pair, tmp_path):
    _, files = write(pair, tmp_path / "out")
    text = files["report.md"].read_text()
    assert "44,692,644" in text and "FID · coco-ddim50, N=30000" in text
    named = [part.split(")")[0] for part in text.split("](")[1:]]
    assert named and all((tmp_path / "out" / name).stat().st_size for name in named)
    for start in ("loss", "quality-01-fid", "samples-1-small-", "samples-1-small_deep-"):
        assert any(name.startswith(start) for name in named), start


def test_markdown_shows_a_run_s_name_and_runs_nothing_of_it(pair, tmp_path):
    name = "<img src=x onerror=alert(1)>|[a](b)_&lt;"
    hostile = pair[0].rename(pair[0].with_name(name))
    _, files = write([hostile, pair[1]], tmp_path / "out")
    text = files["report.md"].read_text()
    assert "<" not in text
    shown = r"&lt;img src=x onerror=alert(1)&gt;\|\[a\](b)\_&amp;lt;"
    assert f"Ratios are against {shown}." in text and f"| {shown} " in text


def test_different_protocols_or_n_never_share_a_column_or_a_ratio(pair, tmp_path):
    first, second = pair
    shutil.rmtree(second / "eval")
    fabricate.evaluate(second, 200, {"fid": 3.25}, n_samples=10_000)
    fabricate.evaluate(second, 100, {"fid": 4.5}, guidance_scale=3.0, name="coco-ddim50-g3")
    _, files = write(pair, tmp_path / "out")
    rows = rows_of(files["comparison.csv"])
    columns = [key for key in rows[0] if key.startswith("fid ") and key.endswith("]")]
    assert len(columns) == 3
    for column in columns:
        assert sum(bool(row[column]) for row in rows) == 1
    ratios = rows_of(files["ratios.csv"])
    assert all(not ratios[1][column] for column in columns)
    apart = [row for row in rows_of(files["not_like_for_like.csv"]) if "fid" in row["figure"]]
    reasons = " / ".join(row["reason"] for row in apart)
    assert "n_samples 10000 against 30000" in reasons
    assert "guidance_scale 3.0 against 2.0" in reasons


def test_same_name_and_n_but_other_reference_statistics_are_two_protocols(pair, tmp_path):
    shutil.rmtree(pair[1] / "eval")
    fabricate.evaluate(pair[1], 200, {"fid": 3.25}, reference="77" * 32)
    _, files = write(pair, tmp_path / "out")
    columns = [k for k in rows_of(files["comparison.csv"])[0] if k.startswith("fid ")]
    columns = [k for k in columns if k.endswith("]")]
    assert len(columns) == 2 and all("#" in column for column in columns)


def test_quality_at_different_steps_is_shown_apart(pair, tmp_path):
    shutil.rmtree(pair[1] / "eval" / "00000200-coco-ddim50")
    _, files = write(pair, tmp_path / "out")
    assert not rows_of(files["ratios.csv"])[1]["fid [coco-ddim50, N=30000]"]
    apart = {row["figure"]: row["reason"] for row in rows_of(files["not_like_for_like.csv"])}
    assert apart["fid [coco-ddim50, N=30000]"] == "steps 100 against 200"


def test_other_machine_takes_no_ratio_of_speed_but_of_loss(tmp_path):
    runs = [
        fabricate.run(tmp_path / "a", device="NVIDIA A100-SXM4-80GB", device_bytes=10),
        fabricate.run(tmp_path / "b", device="Tesla V100-SXM2-32GB", device_bytes=10, seed=2),
    ]
    _, files = write(runs, tmp_path / "out")
    row = rows_of(files["ratios.csv"])[1]
    assert not row["images_per_second"] and not row["step_ms"] and not row["peak_device_bytes"]
    assert row["loss"]


def test_another_path_of_mkl_takes_no_ratio_of_speed_and_is_named(tmp_path):
    paths = ({"env.MKL_DEBUG_CPU_TYPE": "7"}, {"env.MKL_DEBUG_CPU_TYPE": None})
    runs = [fabricate.run(tmp_path / f"s{i}", seed=i, **path) for i, path in enumerate(paths)]
    _, files = write(runs, tmp_path / "out")
    row = rows_of(files["ratios.csv"])[1]
    assert not row["images_per_second"] and row["loss"]
    assert "(avx512f) by MKL's AVX-512 path" in files["report.md"].read_text()


def test_other_kernels_take_no_ratio_of_speed_and_are_shown(tmp_path):
    ways = ({}, {"kernels": "fused"}, {"kernels": "paddle", "execution": "static"})
    runs = [fabricate.run(tmp_path / f"s{i}", seed=i, **way) for i, way in enumerate(ways)]
    _, files = write(runs, tmp_path / "out")
    _, same, other = rows_of(files["ratios.csv"])
    assert same["images_per_second"] and same["peak_host_bytes"]
    assert not other["images_per_second"] and not other["peak_host_bytes"] and other["loss"]
    assert "kernels paddle against fused" in files["report.md"].read_text()
    shown = [row["kernels"] for row in rows_of(files["comparison.csv"])]
    assert shown == ["fused", "fused", "paddle, static"]


def test_reference_may_be_chosen_by_name_or_path(pair, tmp_path):
    for wanted in ("small_deep", pair[1]):
        assert build.build(pair, reference=wanted).reference.label == "small_deep"
    with pytest.raises(UsageError, match="not among the runs"):
        build.build(pair, reference="elsewhere")


def test_seeds_are_joined_only_if_nothing_else_differs(tmp_path):
    runs = [fabricate.run(tmp_path / f"s{s}", seed=s) for s in (1, 2, 3)]
    runs.append(fabricate.run(tmp_path / "other", seed=4, sets=("optim.lr=1e-4",)))
    for i, run in enumerate(runs):
        fabricate.evaluate(run, 200, {"fid": 10.0 + i})
    _, files = write(runs, tmp_path / "out")
    rows = {row["figure"]: row for row in rows_of(files["seeds.csv"])}
    fid = rows["fid [coco-ddim50, N=30000]"]
    assert (fid["n"], fid["seeds"]) == ("3", "1, 2, 3")
    assert float(fid["mean"]) == 11.0 and float(fid["sd"]) == 1.0


def test_a_run_just_started_has_empty_cells(pair, tmp_path):
    young = fabricate.run(tmp_path / "young", "mid", steps=0)
    (young / "metrics.jsonl").unlink()
    _, files = write([young, *pair], tmp_path / "out")
    row = rows_of(files["comparison.csv"])[0]
    assert row["run"] == "young" and row["parameters"] == "130772132" and row["steps"] == "0"
    empty = ("images_per_second", "loss", "step_ms", "fid [coco-ddim50, N=30000]", "device_hours")
    assert not any(row[key] for key in empty)


def test_only_young_runs_still_make_a_report(tmp_path):
    path, _ = write([fabricate.run(tmp_path / "young", steps=0)], tmp_path / "out")
    assert path.is_file()


def test_torn_last_line_is_left_out_and_corrupt_middle_is_named(pair, tmp_path):
    log = pair[0] / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"step": 999, "lo')
    assert build.build(pair).records[0].step == 200
    lines = whole.split(b"\n")
    lines[4] = b'{"step": 40, "loss": '
    log.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"small/metrics.jsonl line 5") as caught:
        build.build(pair)
    assert caught.value.exit_code == 4


def test_a_run_json_changed_afterwards_is_refused(pair):
    path = pair[0] / "run.json"
    path.write_text(path.read_text().replace('"lr": 0.0002', '"lr": 0.0003'))
    with pytest.raises(DataError, match="does not match its digest"):
        build.build(pair)


def test_a_corrupt_grid_is_named(pair, tmp_path):
    grid = pair[0] / "samples" / "00000200.png"
    grid.write_bytes(grid.read_bytes()[:300])
    with pytest.raises(DataError, match=r"00000200.png is not a readable image"):
        build.contents(build.build(pair))


def test_writing_again_replaces_its_own_files_and_nothing_else(pair, tmp_path):
    out = tmp_path / "out"
    write(pair, out)
    (out / "notes.txt").write_text("mine")
    _, files = write(pair[:1], out)
    assert "notes.txt" in files and not any("small_deep" in name for name in files)
    assert sum(name.endswith(".tmp") for name in files) == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "report.md").write_text("mine")
    with pytest.raises(UsageError, match="not of an earlier report"):
        write(pair, theirs)
    assert [p.name for p in theirs.iterdir()] == ["report.md"]
    assert (theirs / "report.md").read_text() == "mine"


def test_the_same_runs_give_the_same_bytes(pair):
    assert build.contents(build.build(pair)) == build.contents(build.build(pair))


def test_what_a_killed_report_left_goes_and_what_another_writes_stays(pair, tmp_path):
    """As a soak of two hours found: three in 539 cycles."""
    out = tmp_path / "report"
    write(pair, out)
    left = [out / f".{name}.ab_c1.tmp" for name in ("report.html", "report.json", "seeds.csv")]
    other = out / ".mine.ab_c1.tmp"
    for path in (*left, other):
        path.write_text("half")
    another = os.open(out, os.O_RDONLY)
    fcntl.flock(another, fcntl.LOCK_SH)
    _, there = write(pair, out)
    os.close(another)
    assert all(path.name in there for path in (*left, other))
    _, there = write(pair, out)
    assert not any(path.name in there for path in left) and other.name in there


def test_output_that_cannot_be_written_is_exit_5(pair, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault) as caught:
        write(pair, tmp_path / "file" / "out")
    assert caught.value.exit_code == 5


def harness(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "harness", "report", *map(str, arguments)], cwd=cwd,
        capture_output=True, text=True, env=environment,
    )


def test_command_says_which_runs_and_ends_with_the_path(made, tmp_path):
    for run in made:
        shutil.copytree(run, tmp_path / "runs" / run.name)
    done = harness(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "over 2 runs" in done.stderr and "small_deep" in done.stderr
    assert (tmp_path / done.stdout.splitlines()[-1]).is_file()
    again = harness(cwd=tmp_path)  # the report under runs/ is not taken for a run
    assert again.returncode == 0 and "over 2 runs" in again.stderr


def test_command_errors_are_one_line_with_their_exit_code(made, tmp_path):
    for arguments in ((), ("nowhere",)):
        done = harness(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.strip().count("\n") == 0
        assert "Traceback" not in done.stderr
