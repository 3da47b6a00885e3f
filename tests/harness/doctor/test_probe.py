"""`harness doctor --probe` with this Paddle, and with faults that are planted."""

import json
from dataclasses import replace

import pytest

from baselines import torch_peer
from harness.doctor import probe


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    return folder, {one.name: one for one in probe.probe(folder)}


def cell(folder, name):
    return probe.Cell(
        "digits_tiny", folder / "features", folder / name, until=probe.STEPS,
        overrides=probe._SETTINGS, arguments=("--kernels", "paddle"),
    )


def test_all_promises_hold_here(probed):
    _, found = probed
    assert {name for name, one in found.items() if one.met is False} == set()
    held = {name for name, one in found.items() if one.met}
    assert held >= {
        "output, fused", "gradients, fused", "output, paddle", "gradients, paddle",
        "output, static", "gradients, static", "paddle.save and load", "same bits twice",
        "same bits after a stop", "same bits on two devices",
    }
    assert all(one.figure for one in found.values())


def test_other_weights_are_found(probed, tmp_path, monkeypatch):
    run = torch_peer.run

    def other(folder, section, weights, inputs):
        name = "in_blocks.0.attn.proj.bias"
        return run(folder, section, weights | {name: weights[name] + 1e-3}, inputs)

    def saved(folder, section, weights, inputs):
        wanted = other(folder, section, weights, inputs)
        run(folder, section, weights, inputs)
        return wanted

    monkeypatch.setattr(torch_peer, "run", saved)
    monkeypatch.setattr(probe, "WAYS", {"paddle": probe.WAYS["paddle"]})
    found = {one.name: one for one in probe._network(tmp_path)}
    assert [one.met for one in found.values()] == [False, False]


def test_a_run_that_comes_out_otherwise_is_found(probed):
    folder, _ = probed
    first = probe.runs.load(folder / "first")
    found = probe._same("same", first, replace(cell(folder, "other"), seed=5))
    assert found.met is False
    assert found.figure.startswith(f"{probe.STEPS} of {probe.STEPS} losses")


def test_a_run_that_cannot_be_made_is_broken(probed):
    folder, _ = probed
    first = probe.runs.load(folder / "first")
    bad = replace(cell(folder, "bad"), overrides=("train.log_steps=0",))
    found = probe._same("same", first, bad)
    assert found.met is False and "log_steps" in found.figure


@pytest.mark.parametrize("code, stderr, said", [
    (-11, "", "died of SIGSEGV: it said nothing"),
    (134, "x\nabort\n", "died of SIGABRT: abort"),
    (2, "harness: error: no\n", "ended with 2: no"),
])
def test_how_a_process_ended_is_told(code, stderr, said):
    assert probe._died(code, stderr) == said


@pytest.mark.parametrize("apart, met", [(1e-6, True), (1e-4, False), (float("nan"), False)])
def test_nan_is_within_no_bound(apart, met):
    assert probe._within("output", apart, 1e-5, "of it").met is met


def test_a_broken_promise_is_exit_code_3(monkeypatch, capsys):
    from click.testing import CliRunner

    from harness.base.errors import GateFailed
    from harness.commands import doctor

    monkeypatch.setattr(probe, "probe", lambda folder: iter([
        probe.Promise("same bits twice", False, "6 of 6 losses differ", "none"),
        probe.Promise("fp16 against fp32", None, "needs a GPU"),
    ]))
    done = CliRunner().invoke(doctor.command, ["--probe"])
    assert isinstance(done.exception, GateFailed) and "same bits twice" in str(done.exception)
    assert "BROKEN " in done.output and "not run  fp16" in done.output
    done = CliRunner().invoke(doctor.command, ["--probe", "--json"])
    assert json.loads(done.stdout)["promises"][0]["met"] is False
