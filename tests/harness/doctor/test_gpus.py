"""Findings about GPUs, from a stand-in for NVML's answers."""

from types import SimpleNamespace

import pynvml
import pytest

from harness.base import nvml
from harness.doctor import gpus
from tests.nvml_stand_in import Nvml


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((6, 0), False), ((6, 1), True), ((7, 0), True), ((7, 2), True), ((7, 5), True),
     ((8, 0), True), ((8, 6), True), ((8, 9), True), ((9, 0), False), ((10, 0), False)],
)
def test_a_gpu_runs_code_of_its_major_version_and_no_newer_minor(capability, runs):
    assert gpus.runs_code_for(capability) is runs


@pytest.fixture
def found(monkeypatch):
    """What is found on a machine with these cards, in Paddle 2.6's GPU build; by name."""
    def examine(*cards, build=True, cuda="cu118", paddle3=False, **driver):
        library = Nvml(*cards, **driver)
        original = nvml.driver
        with monkeypatch.context() as patch:
            patch.setattr(nvml, "driver", lambda: original(library))
            patch.setattr(gpus.paddle_env, "has_gpu_build", lambda: build)
            patch.setattr(gpus, "cuda_build", lambda: cuda)
            patch.setattr(gpus, "is_paddle3", lambda: paddle3)
            every = gpus.examine()
        assert not any("None" in one.detail + one.remedy for one in every)
        return {one.what: one for one in every}
    return examine


def test_of_a_sound_card_only_its_clocks_move(found):
    every = found({})
    assert {what for what, one in every.items() if one.status != "ok"} == {"gpu clocks"}
    assert every["gpu power limit"].detail == "400 W"
    assert "80 of 80 GiB" in every["gpu memory"].detail


WRONG = {
    "gpu memory": ({"ComputeRunningProcesses": [1, 2]}, "2 processes on it", "nvidia-smi"),
    "gpu ecc": ({"TotalEccErrors": 3}, "3 uncorrected errors", "nvidia-smi -r"),
    "gpu persistence": ({"PersistenceMode": 0}, "off", "nvidia-smi -pm 1"),
    "gpu clocks": ({"CurrentClocksThrottleReasons": 0x40 | 0x4, "ClockInfo": 900},
                   "held down to 900 of 1410 MHz: heat (hardware)", "cooling"),
    "gpu power limit": ({"EnforcedPowerLimit": 250_000}, "250 W, the card's own is 400", "-pl 400"),
    "gpu pcie": ({"CurrPcieLinkWidth": 8}, "8 of 16 lanes", "slot"),
    "gpu": ({"Name": "NVIDIA H200", "CudaComputeCapability": (9, 0)}, "no code for it", "cu126"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_card_is_named_with_its_remedy(found, what):
    answers, detail, remedy = WRONG[what]
    one = found(answers)[what]
    assert one.status == ("missing" if what == "gpu" else "note")
    assert detail in one.detail and remedy in one.remedy


@pytest.mark.parametrize(("version", "status", "words"), [
    ("440.33.01", "missing", "too old for paddle's CUDA 11"),
    ("450.80.02", "note", "too old for torch's CUDA 12"), ("525.60.13", "ok", "525.60.13"),
])
def test_the_driver_is_held_against_what_each_build_needs(found, version, status, words):
    one = found({}, version=version)["driver"]
    assert one.status == status and words in one.detail
    assert found({}, version="535.1", cuda="cu130", paddle3=True)["driver"].status == "missing"


def test_no_driver_is_missing_in_a_gpu_build_and_a_note_in_a_cpu_build(found):
    fault = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    one = found(fault=fault)["gpu"]
    assert one.status == "missing" and "no driver of NVIDIA answers" in one.detail
    assert found(fault=fault, build=False)["gpu"].status == "note"
    assert "lspci" in found()["gpu"].remedy  # a driver, and no card


def test_cards_that_answer_the_same_share_a_line(found):
    every = found({}, {}, {"PersistenceMode": 0, "Name": None, "MemoryInfo": None})
    assert every["gpu persistence"].detail.startswith("gpu 2: off")
    assert every["gpu ecc"].detail == "on, no uncorrected error"


def test_how_cards_reach_each_other_is_told(found):
    near = {"P2PStatus": lambda other, kind: 0 if other == 1 else 5,
            "TopologyCommonAncestor": lambda other: pynvml.NVML_TOPOLOGY_SYSTEM}
    assert found({**near}, {**near})["gpu links"].detail == "0-1: NVLink"
    one = found(near, near, near)["gpu links"]  # the last of its kind
    assert one.detail == "0-2, 1-2: over the link between processors" and "--devices" in one.remedy


@pytest.mark.parametrize("build, capability, status, words", [
    ("cu126", (9, 0), "ok", "cu126 is said to have code"),
    ("cu118", (9, 0), "note", "this build (cu118)"),
    ("", (9, 0), "note", "an unknown CUDA"),
    ("cu126", (13, 0), "note", "not known here"),
])
def test_of_paddle3_no_more_is_claimed_than_is_known(found, build, capability, status, words):
    card = {"CudaComputeCapability": capability}
    one = found(card, cuda=build, paddle3=True)["gpu"]
    assert one.status == status and words in one.detail
    assert found(card, build=False, paddle3=True)["gpu"].status == "note"


def test_the_cuda_of_a_wheel_is_its_local_version(monkeypatch):
    monkeypatch.setattr(gpus.fingerprint, "version", lambda name: "3.3.1+cu126")
    assert gpus.cuda_build() == "cu126"
    monkeypatch.setattr(gpus.fingerprint, "version", lambda name: None)
    if not gpus.paddle_env.has_gpu_build():
        assert gpus.cuda_build() == ""  # the CPU build's


def test_a_card_that_answers_nothing_is_no_error(found):
    silent = dict.fromkeys(SimpleNamespace(**Nvml({}).cards[0]).__dict__)
    assert found(silent)["gpu clocks"].detail == "not told"
