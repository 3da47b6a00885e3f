"""`harness acceptance --rehearse`, the whole way once; and ten faults that it must find."""

import json
import shutil
from dataclasses import replace

import pytest

from baselines import metrics, torch_peer
from harness.doctor import acceptance, acceptance_page, examine, probe
from harness.doctor.findings import Finding
from tests import file_schemas
from tests.baselines import made
from tests.command import assert_one_line_error, harness


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """(folder, the command's end) of a rehearsal in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("acceptance") / "out"
    return folder, harness("acceptance", "-o", folder, "--rehearse", timeout=580)


@pytest.fixture
def lab(rehearsed, tmp_path):
    """Its lab, with what one check has computed and another may use: nothing is trained again."""
    return replace(acceptance.rehearsal(rehearsed[0]), steps=6)


def broken(check, lab):
    return {one.name: one.figure for one in check(lab) if one.met is False}


@pytest.mark.timeout(600)
def test_the_rehearsal_meets_every_promise(rehearsed):
    folder, ended = rehearsed
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith(f"{folder / 'acceptance.html'}\n")
    document = json.loads((folder / "acceptance.json").read_text())
    assert {one["check"] for one in document["promises"]} == set(acceptance.ALL)
    assert {one["name"] for one in document["promises"] if one["met"]} >= {
        "output, fused", "gradients, paddle", "output, static", "paddle.save and load",
        "same bits twice", "same bits after a stop", "same bits on two devices",
        "recompute leaves the bits", "memory", "memory, recompute", "step beside PyTorch's",
        "evaluation", "a sixth run passes the baseline", "500% slower is found",
    }
    file_schemas.check(folder / "acceptance.json")
    assert not document["said"] and document["fingerprint"]["package.numpy"]
    page = (folder / "acceptance.html").read_text()
    assert "0 not met" in page and "package.paddlepaddle" in page and "http:" not in page


def test_the_same_command_goes_on_from_what_is_there(rehearsed):
    folder, _ = rehearsed
    (folder / "checks/saving.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (folder / "checks").iterdir()}
    assert harness("acceptance", "-o", folder, "--rehearse").returncode == 0
    assert (folder / "checks/saving.json").is_file()
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_without_a_gpu_there_is_nothing_to_accept(tmp_path):
    assert_one_line_error(harness("acceptance", "-o", tmp_path), 5, "--rehearse")


def test_1_other_weights(lab, tmp_path, monkeypatch):
    run = torch_peer.run

    def other(folder, section, weights, inputs):
        name = "in_blocks.0.attn.proj.bias"
        wanted = run(folder, section, weights | {name: weights[name] + 1e-3}, inputs)
        run(folder, section, weights, inputs)  # what the worker reads
        return wanted

    monkeypatch.setattr(torch_peer, "run", other)
    monkeypatch.setattr(probe, "WAYS", {"paddle": probe.WAYS["paddle"]})
    found = broken(probe.CHECKS["network"], replace(lab, folder=tmp_path))
    assert set(found) == {"output, paddle", "gradients, paddle"}


def planted(tmp_path, code):
    """Environment of a run in which `code` is run at the start."""
    (tmp_path / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(tmp_path)}


# A kernel whose sum depends on when it is asked.
UNSTEADY = """
import time

from models import ops

_linear = ops.linear


def linear(x, weight, bias=None, onto=None):
    out = _linear(x, weight, bias, onto)
    return out * (1.0 + 1e-6 * (time.time_ns() % 97))


ops.linear = linear
"""
# A gradient of which the second worker hears nothing.
LOST = """
import os

from harness.distributed import gradient_sum

if os.environ.get("PADDLE_TRAINER_ID") == "1":
    _add = gradient_sum.Fold.add
    gradient_sum.Fold.add = lambda self, value: _add(self, 0 * value)
"""


@pytest.mark.parametrize("code, arguments", [
    pytest.param(UNSTEADY, (), id="2 a nondeterministic kernel"),
    pytest.param(LOST, ("--nproc", "2"), id="3 a gradient lost on one worker"),
])
def test_other_bits(lab, tmp_path, code, arguments):
    first = probe.runs.load(lab.folder / "first")
    cell = lab.cell("x", environment=planted(tmp_path, code), directory=tmp_path / "run")
    cell = replace(cell, arguments=(*cell.arguments, *arguments))
    found = probe.same(lab, "other bits", first, cell)
    assert found.met is False and "losses and" in found.figure, found


def test_4_another_seed_where_a_run_goes_on(lab, tmp_path):
    first = probe.runs.load(lab.folder / "first")
    found = probe.same(lab, "after a stop", first, lab.cell("x", seed=5, directory=tmp_path / "x"))
    assert found.met is False and found.figure.startswith("6 of 6 losses")


def test_5_a_slow_step(lab):
    assert set(broken(acceptance.ALL["speed"], replace(lab, beside_torch=1e6))) == {
        "step beside PyTorch's"}


def test_6_more_memory_than_planned(lab, monkeypatch):
    parts = acceptance.memory.parts
    monkeypatch.setattr(acceptance.memory, "parts", lambda *a, **k: {
        key: value / 3 for key, value in parts(*a, **k).items()})
    assert set(broken(acceptance.ALL["memory"], lab)) == {"memory", "memory, recompute"}


def test_7_a_wrong_bound_of_the_gate(lab, monkeypatch):
    """One that lets a step take as long as it likes."""
    monkeypatch.setitem(metrics.METRICS, "throughput", replace(
        metrics.METRICS["throughput"], minimum=5.0))
    assert set(broken(acceptance.ALL["gate"], lab)) == {"500% slower is found"}


def test_8_weights_that_saving_changes(lab, monkeypatch):
    def worker(*_):
        return {"changed": 3, "weights": 40}

    monkeypatch.setattr(probe, "_worker", worker)
    assert broken(probe.CHECKS["saving"], lab) == {
        "paddle.save and load": "3 of 40 weights changed"}


def test_9_something_is_missing(lab, monkeypatch):
    monkeypatch.setattr(examine, "examine", lambda: [
        Finding("disk", "missing", "full", "free some space")])
    assert broken(acceptance.ALL["doctor"], lab) == {"doctor: disk": "full; free some space"}


def test_10_a_check_that_raises_keeps_its_traceback(lab, tmp_path):
    def raising(_):
        raise ZeroDivisionError("of nothing")

    found = acceptance._kept(replace(lab, folder=tmp_path), "speed", raising)
    assert [(one.met, one.figure) for one in found] == [
        (False, "ZeroDivisionError: of nothing")]
    document = acceptance.document(replace(lab, folder=tmp_path), {"speed": found})
    assert "in raising" in document["said"]["speed-traceback.txt"]
    page = acceptance_page.page(document)["acceptance.html"].decode()
    assert "NOT MET" in page and "in raising" in page


def test_on_gpus_every_check_has_its_lines(lab, tmp_path, monkeypatch):
    """Which of them there are on a machine with two, whose runs are stood in for."""
    stand_in = shutil.copytree(lab.folder / "first", tmp_path / "first")
    shutil.copytree(stand_in, tmp_path / "together")
    for run in (stand_in, tmp_path / "together"):
        made.edit_lines(run / "timing.jsonl", lambda line: {
            **line, "peak_device_bytes": 10**6, "steps_timed": 1, "step_ms": 5.0})
        stack = probe.runs.load(run).info["fingerprint"]
        made.edit_json(run / "run.json", fingerprint={
            **stack, "device": "NVIDIA A100-SXM4-80GB"})
    on_gpus = replace(lab, folder=tmp_path, memory=1e9)
    on_gpus.__dict__["gpus"] = 2
    monkeypatch.setattr(probe.Lab, "train", lambda self, cell: probe.runs.load(stand_in))
    monkeypatch.setattr(acceptance, "torch_seconds", lambda *_: 0.005)
    found = {
        one.name: one.met for name in ("precision", "ways", "memory", "speed")
        for one in acceptance.ALL[name](on_gpus)
    }
    kinds = [f"{precision} {level} against fp32" for precision in ("fp16", "bf16")
             for level in ("O1", "O2")]
    assert found == dict.fromkeys([
        *kinds, "recompute leaves the bits", "memory-efficient attention", "memory",
        "memory, recompute", "step beside PyTorch's", "MFU"], True) | {
        "cost of several devices": False}  # both took as long
    (bits,) = (one for one in probe.CHECKS["bits"](on_gpus) if "devices" in one.name)
    assert bits.name == "same bits on two devices" and bits.met
