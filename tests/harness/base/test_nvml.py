import ctypes.util

import paddle
import pynvml
import pytest

from harness.base import nvml
from harness.base.errors import EnvironmentFault
from tests.nvml_stand_in import Nvml


def test_cards_are_asked_and_what_they_do_not_answer_is_none():
    driver = nvml.driver(Nvml({}, {"Name": "Tesla T4", "TotalEccErrors": None}))
    first, second = driver.cards
    assert driver.version == "535.104.05" and (first.name, second.name) == (
        "NVIDIA A100-SXM4-80GB", "Tesla T4")
    assert first.ecc_errors() == 0 and second.ecc_errors() is None
    assert first.ask("NothingOfTheKind") is None
    assert first.processes() == 0


@pytest.mark.parametrize(("code", "remedy"), [
    (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install NVIDIA's driver"),
    (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "install NVIDIA's driver"),
    (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
])
def test_why_there_is_no_driver_is_said_with_a_remedy(code, remedy):
    with pytest.raises(EnvironmentFault, match=remedy):
        nvml.driver(Nvml({}, fault=code))


@pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="a driver is here")
def test_without_a_driver_the_real_library_says_so():
    with pytest.raises(EnvironmentFault, match="no driver of NVIDIA answers"):
        nvml.driver()
    assert nvml.card_of_paddle() is None


class Cuda:
    """libcuda.so.1 of a process that sees the second card of the bus as its first."""

    def cuDeviceGet(self, device, number):
        device._obj.value = number + 10
        return 0

    def cuDeviceGetPCIBusId(self, bus, size, device):
        bus.value = {10: b"0000:07:00.0", 11: b"0000:03:00.0"}[device.value]
        return 0


def test_the_card_is_found_by_its_place_on_the_bus_not_by_its_number(monkeypatch):
    monkeypatch.setattr(nvml.ctypes, "CDLL", lambda name: Cuda())
    library = Nvml({"Name": "first", "bus": b"0000:03:00.0"},
                   {"Name": "second", "bus": b"0000:07:00.0"})
    for device, name in (("gpu:0", "second"), ("gpu:1", "first")):
        monkeypatch.setattr(paddle.device, "get_device", lambda device=device: device)
        assert nvml.card_of_paddle(library).name == name
    monkeypatch.setattr(paddle.device, "get_device", lambda: "cpu")
    assert nvml.card_of_paddle(library) is None
