"""`harness doctor --probe`; that its checks hold, and find faults, is in test_acceptance.py."""

import json

import pytest
from click.testing import CliRunner

from harness.base.errors import GateFailed
from harness.commands import doctor
from harness.doctor import probe


def test_a_run_that_cannot_be_made_is_broken_and_what_it_said_is_kept(tmp_path):
    lab = probe.Lab(tmp_path)
    found = probe.same(lab, "same", None, lab.cell("bad", "train.log_steps=0"))
    assert found.met is False and "log_steps" in found.figure
    assert "log_steps" in (tmp_path / "said/bad.txt").read_text()


@pytest.mark.parametrize("code, stderr, said", [
    (-11, "", "died of SIGSEGV: it said nothing"),
    (134, "x\nabort\n", "died of SIGABRT: abort"),
    (2, "harness: error: no\n", "ended with 2: no"),
])
def test_how_a_process_ended_is_told(code, stderr, said):
    assert probe._died(code, stderr) == said


@pytest.mark.parametrize("apart, met", [(1e-6, True), (1e-4, False), (float("nan"), False)])
def test_nan_is_within_no_bound(apart, met):
    assert probe.within("output", apart, 1e-5, "of it").met is met


def test_every_check_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CHECKS", {name: lambda lab, name=name: iter([
        probe.Promise(name, True, str(lab.folder))]) for name in ("a", "b")})
    assert [one.name for one in probe.probe(tmp_path)] == ["a", "b"]


def test_a_broken_promise_is_exit_code_3(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda folder: iter([
        probe.Promise("same bits twice", False, "6 of 6 losses differ", "none"),
        probe.Promise("fp16 against fp32", None, "needs a GPU"),
    ]))
    done = CliRunner().invoke(doctor.command, ["--probe"])
    assert isinstance(done.exception, GateFailed) and "same bits twice" in str(done.exception)
    assert "BROKEN " in done.output and "not run  fp16" in done.output
    done = CliRunner().invoke(doctor.command, ["--probe", "--json"])
    assert json.loads(done.stdout)["promises"][0]["met"] is False
