"""Whose kernels compute, and how: who decides, and what a run of before stands for."""

import os

import pytest

from harness.base import kernel_choice
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
    kernel_choice.choose(**given, recorded=recorded)
    assert kernel_choice.asked() == asked
    assert kernel_choice.fused() == (asked.get("kernels") != "paddle")
    assert kernel_choice.static() == (asked.get("execution") == "static")


@pytest.mark.parametrize(("given", "exported", "said"), [
    ({"kernels": "fused", "execution": "static"}, {}, "cannot trace fused kernels"),
    ({"execution": "static"}, {"HARNESS_KERNELS": "fused"}, "cannot trace fused kernels"),
    ({"kernels": "fused"}, {"HARNESS_EXECUTION": "static"}, "cannot trace fused kernels"),
    ({}, {"HARNESS_KERNELS": "padle"}, "HARNESS_KERNELS is 'padle'"),
])
def test_contradictions_are_refused(given, exported, said):
    os.environ.update(exported)
    with pytest.raises(UsageError, match=said):
        kernel_choice.choose(**given)


def test_static_alone_says_whose_kernels_it_takes(capsys):
    kernel_choice.choose(execution="static")
    assert "paddle's own kernels" in capsys.readouterr().err
    kernel_choice.choose(execution="static")  # as a process that was started from here
    assert not capsys.readouterr().err


def test_static_exported_for_a_command_without_options_is_no_contradiction():
    os.environ["HARNESS_EXECUTION"] = "static"
    assert not kernel_choice.fused()


def test_fused_kernels_are_not_promised_on_a_gpu(monkeypatch):
    import paddle

    assert kernel_choice.used() == FUSED
    kernel_choice.choose(kernels="fused")
    kernel_choice.require()
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    with pytest.raises(EnvironmentFault, match="no fused kernels for a GPU"):
        kernel_choice.require()
    assert kernel_choice.used() == PADDLE


def test_a_fingerprint_of_before_is_filled():
    assert kernel_choice.filled({}) == FUSED
    gpu = {"package.paddlepaddle-gpu": "2.6.2"}
    assert kernel_choice.filled(gpu) == {**gpu, **PADDLE}
    assert kernel_choice.filled(STATIC) == STATIC
