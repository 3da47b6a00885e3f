"""What NVIDIA's driver tells of its GPUs, through NVML.

What each question means: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html.
Needs neither paddle nor CUDA, and takes no memory of the GPU.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import pynvml

from harness.base.errors import EnvironmentFault

# Bits of nvmlDeviceGetCurrentClocksThrottleReasons that say that something is wrong with the
# machine: heat, the power supply. A cap on power that a card reaches under load is usual.
FAULTS = {
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat (hardware)",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat (driver)",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
}
HEAT = (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown)
POWER_CAP = pynvml.nvmlClocksThrottleReasonSwPowerCap


@dataclass(frozen=True)
class Card:
    """One GPU. `library` is pynvml, or a stand-in for it."""

    library: Any
    handle: Any

    def ask(self, question: str, *arguments: Any) -> Any:
        """What `nvmlDeviceGet<question>` answers; None where card or driver does not."""
        try:
            return getattr(self.library, f"nvmlDeviceGet{question}")(self.handle, *arguments)
        except pynvml.NVMLError:
            return None

    @property
    def name(self) -> str:
        return str(self.ask("Name") or "unknown GPU")

    def reasons(self) -> int:
        """Why its clocks are below the highest: bits (`FAULTS`, `POWER_CAP` and harmless ones)."""
        return int(self.ask("CurrentClocksThrottleReasons") or 0)

    def ecc_errors(self) -> int | None:
        """Uncorrected memory errors since the driver was loaded; None without ECC."""
        found = self.ask(
            "TotalEccErrors", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        )
        return None if found is None else int(found)

    def processes(self) -> int | None:
        """Processes that compute on it, of whomever."""
        found = self.ask("ComputeRunningProcesses")
        return None if found is None else len(found)


@dataclass(frozen=True)
class Driver:
    """The driver: its version, and its GPUs in NVML's order (that of PCI)."""

    library: Any
    version: str
    cards: tuple[Card, ...]


def driver(library: Any = pynvml) -> Driver:
    """The driver of this machine; EnvironmentFault says why there is none."""
    try:
        library.nvmlInit()
        version = str(library.nvmlSystemGetDriverVersion())
        handles = map(library.nvmlDeviceGetHandleByIndex, range(library.nvmlDeviceGetCount()))
        return Driver(library, version, tuple(Card(library, handle) for handle in handles))
    except pynvml.NVMLError as error:
        mismatch = error.value == getattr(pynvml, "NVML_ERROR_LIB_RM_VERSION_MISMATCH", None)
        raise EnvironmentFault(
            f"no driver of NVIDIA answers (NVML: {error})",
            remedy="restart the machine: its driver was updated" if mismatch else
            "install NVIDIA's driver; a container is started with the GPUs (`--gpus all`)",
        ) from error


def card_of_paddle(library: Any = pynvml) -> Card | None:
    """The card that paddle computes on (call when it does); None where NVML does not tell.

    CUDA's numbers are not NVML's (CUDA_VISIBLE_DEVICES, the order by speed): the card's place on
    the PCI bus is what both know.
    """
    import paddle

    kind, _, number = paddle.device.get_device().partition(":")
    if kind != "gpu":
        return None
    try:
        cuda, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        bus = ctypes.create_string_buffer(32)
        if (cuda.cuDeviceGet(ctypes.byref(device), int(number))
                or cuda.cuDeviceGetPCIBusId(bus, len(bus), device)):
            return None
        library.nvmlInit()
        return Card(library, library.nvmlDeviceGetHandleByPciBusId(bus.value))
    except (OSError, pynvml.NVMLError):
        return None
