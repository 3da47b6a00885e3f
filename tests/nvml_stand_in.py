"""A stand-in for pynvml: the answers of cards that are not there."""

from types import SimpleNamespace

import pynvml

A100 = {
    "Name": "NVIDIA A100-SXM4-80GB", "CudaComputeCapability": (8, 0),
    "MemoryInfo": SimpleNamespace(free=80 << 30, total=80 << 30),
    "EccMode": [1, 1], "TotalEccErrors": 0, "PersistenceMode": 1, "ClockInfo": 1410,
    "MaxClockInfo": 1410, "CurrentClocksThrottleReasons": 0, "EnforcedPowerLimit": 400_000,
    "PowerManagementDefaultLimit": 400_000, "PowerUsage": 300_000, "Temperature": 50,
    "CurrPcieLinkWidth": 16, "MaxPcieLinkWidth": 16, "MaxPcieLinkGeneration": 4,
    "ComputeRunningProcesses": [],
}  # fmt: skip


class Nvml:
    """The functions that are asked, over dictionaries of answers; one that is missing is
    NotSupported, as of a card that lacks it."""

    def __init__(self, *cards, version="535.104.05", fault=None):
        self.cards, self.version, self.fault = [{**A100, **card} for card in cards], version, fault

    def nvmlInit(self):
        if self.fault is not None:
            raise pynvml.NVMLError(self.fault)

    def nvmlSystemGetDriverVersion(self):
        return self.version

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number):
        return number

    def nvmlDeviceGetHandleByPciBusId(self, bus):
        return [card.get("bus") for card in self.cards].index(bus)

    def __getattr__(self, function):
        question = function.removeprefix("nvmlDeviceGet")

        def answer(number, *arguments):
            found = self.cards[number].get(question)
            if found is None:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return found(*arguments) if callable(found) else found

        return answer
