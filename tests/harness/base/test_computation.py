"""Whose kernels compute, and how: who decides, and what a run of before stands for."""

import os

import pytest

from harness.base import computation
from harness.base.errors import EnvironmentFault, UsageError

PADDLE = {"kernels": "paddle", "execution": "eager"}
FUSED = {"kernels": "fused", "execution": "eager"}
STATIC = {"kernels": "paddle", "execution": "static"}


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """None is set, and none is left behind."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("HARNESS_KERNELS", "HARNESS_EXECUTION"):
        os.environ.pop(name, None)


@pytest.mark.parametrize(("given", "exported", "recorded", "asked"), [
    ({}, {}, {}, {}),
    ({}, {}, FUSED, {"execution": "eager"}),  # the default: not demanded of a GPU
    ({}, {}, PADDLE, PADDLE),
    ({}, {"HARNESS_KERNELS": "fused"}, PADDLE, FUSED),
    ({"kernels": "paddle"}, {"HARNESS_KERNELS": "fused"}, FUSED, PADDLE),
    ({"execution": "static"}, {}, FUSED, STATIC),
    ({"kernels": "fused", "execution": "eager"}, {}, STATIC, FUSED),
])
def test_the_option_decides_then_the_variable_then_the_run(given, exported, recorded, asked):
    os.environ.update(exported)
    computation.choose(**given, recorded=recorded)
    assert computation.asked() == asked
    assert computation.fused() == (asked.get("kernels") != "paddle")
    assert computation.static() == (asked.get("execution") == "static")


@pytest.mark.parametrize(("given", "exported", "said"), [
    ({"kernels": "fused", "execution": "static"}, {}, "cannot trace fused kernels"),
    ({"execution": "static"}, {"HARNESS_KERNELS": "fused"}, "cannot trace fused kernels"),
    ({"kernels": "fused"}, {"HARNESS_EXECUTION": "static"}, "cannot trace fused kernels"),
    ({}, {"HARNESS_KERNELS": "padle"}, "HARNESS_KERNELS is 'padle'"),
])
def test_contradictions_are_refused(given, exported, said):
    os.environ.update(exported)
    with pytest.raises(UsageError, match=said):
        computation.choose(**given)


def test_static_alone_says_whose_kernels_it_takes(capsys):
    computation.choose(execution="static")
    assert "paddle's own kernels" in capsys.readouterr().err
    computation.choose(execution="static")  # as a process that was started from here
    assert not capsys.readouterr().err


def test_static_exported_for_a_command_without_options_is_no_contradiction():
    os.environ["HARNESS_EXECUTION"] = "static"
    assert not computation.fused()


def test_fused_kernels_are_not_promised_on_a_gpu(monkeypatch):
    import paddle

    assert computation.used() == FUSED
    computation.choose(kernels="fused")
    computation.require()
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    with pytest.raises(EnvironmentFault, match="no fused kernels for a GPU"):
        computation.require()
    assert computation.used() == PADDLE


def test_a_fingerprint_of_before_is_filled():
    assert computation.filled({}) == FUSED
    gpu = {"package.paddlepaddle-gpu": "2.6.2"}
    assert computation.filled(gpu) == {**gpu, **PADDLE}
    assert computation.filled(STATIC) == STATIC
