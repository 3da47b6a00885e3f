"""The GPUs of this machine: whether Paddle's build runs on them, and what makes figures move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pynvml

from harness.base import fingerprint, locked_stacks, nvml, paddle_env
from harness.base.errors import EnvironmentFault
from harness.base.nvml import Card
from harness.base.wording import counted
from harness.doctor.findings import Finding, noted

# Machine code in paddlepaddle-gpu 2.6.2's library (read with cuobjdump; it has no PTX, so
# nothing newer can be compiled from it). A GPU runs code of its own major version with an
# equal or lower minor one.
BUILT_FOR = ((6, 1), (7, 0), (7, 5), (8, 0), (8, 6))
# Oldest Linux driver for a major version of CUDA ("minor version compatibility"):
# https://docs.nvidia.com/deploy/cuda-compatibility/
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
TORCH_CUDA = 12
_LINKS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "on one board",
    pynvml.NVML_TOPOLOGY_SINGLE: "over one PCIe switch",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "over PCIe switches",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "over the processor's PCIe bridge",
    pynvml.NVML_TOPOLOGY_NODE: "over a processor's bridges",
    pynvml.NVML_TOPOLOGY_SYSTEM: "over the link between processors",
}
Answer = tuple[str, str]  # detail, remedy


def examine() -> list[Finding]:
    """The driver, each GPU, and what its figures depend on."""
    built = paddle_env.has_gpu_build()
    try:
        driver = nvml.driver()
    except EnvironmentFault as fault:
        return [_none(fault.message, fault.remedy or "", built)]
    if not driver.cards:
        return [_none(f"the driver {driver.version} has none", "look at `lspci | grep -i nvidia`",
                      built)]
    found = list(_driver(driver.version))
    found += [_runs(card.name, card.ask("CudaComputeCapability")) for card in driver.cards]
    for what, ask in ASPECTS.items():
        found += _alike(what, driver.cards, ask)
    return found + list(_links(driver.cards))


def _none(why: str, remedy: str, built: bool) -> Finding:
    if built:
        return Finding("gpu", "missing", f"none found: {why}; training runs on the CPU", remedy)
    return Finding(
        "gpu", "note", "none found", "training runs on the CPU; half precision needs a GPU"
    )


def _driver(version: str) -> Iterator[Finding]:
    """The driver against what Paddle's build, and evaluation's torch, need."""
    build = cuda_build()
    major = int(build[2:-1]) if build[2:].isdigit() else None
    for whose, cuda, status in (("paddle", major, "missing"), ("torch", TORCH_CUDA, "note")):
        oldest = OLDEST_DRIVER.get(cuda or 0, "0")
        if _numbers(version) < _numbers(oldest):
            yield Finding("driver", status, f"{version}: too old for {whose}'s CUDA {cuda}",
                          f"install {oldest} or later" + (
                              "; until then features for FID are computed on the CPU"
                              if whose == "torch" else ""))
            return
    yield Finding("driver", "ok", version)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def runs_code_for(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability can run paddlepaddle-gpu 2.6.2."""
    return any(major == capability[0] and minor <= capability[1] for major, minor in BUILT_FOR)


def _runs(name: str, capability: tuple[int, int] | None) -> Finding:
    """Whether the Paddle that is installed runs on this GPU."""
    capability = capability or (0, 0)
    text = f"{name}, compute capability {capability[0]}.{capability[1]}"
    wheel = locked_stacks.gpu_wheel(capability)
    newer = "`make install STACK=paddle3 DEVICE=gpu PADDLE_INDEX=...`, Paddle's " + (
        wheel or "folder with code for it, which is not known here"
    )
    if is_paddle3():
        if paddle_env.has_gpu_build():
            return _paddle3_on(text, wheel)
        return Finding("gpu", "note", f"{text}: paddle's CPU build does not use it", newer)
    if not runs_code_for(capability):
        return Finding(
            "gpu", "missing", f"{text}: paddlepaddle-gpu 2.6.2 has no code for it (it has "
            + ", ".join(f"{a}.{b}" for a, b in BUILT_FOR) + ")",
            newer if wheel else "use a V100, T4, A100 or RTX 20/30/40, or the CPU build",
        )
    if not paddle_env.has_gpu_build():
        return Finding("gpu", "note", f"{text}: paddle's CPU build does not use it",
                       "run `make install DEVICE=gpu`")
    return Finding("gpu", "ok", text)


def _paddle3_on(gpu: str, wheel: str | None) -> Finding:
    """`ok` only where the build that is installed is one that is said to have code for the GPU."""
    build = cuda_build()
    if wheel and build in wheel.split(" or "):
        return Finding("gpu", "ok", f"{gpu}; {build} is said to have code for it (not tried)")
    return Finding(
        "gpu", "note", f"{gpu}: whether this build ({build or 'of an unknown CUDA'}) has code for "
        "it is not known here",
        f"Paddle's {wheel} is said to have" if wheel
        else "try a few steps: `harness train digits_tiny --until 5`",
    )


def cuda_build() -> str:
    """`cu126`: the CUDA of the wheel of paddle that is installed; empty where it is not told."""
    local = (fingerprint.version("paddlepaddle-gpu") or "").partition("+")[2]
    if local:
        return local
    try:
        from paddle import version

        cuda = str(version.cuda())
    except Exception:  # whatever is wrong with paddle, `harness.doctor.examine` has told it
        return ""
    return f"cu{cuda.replace('.', '')}" if cuda[:1].isdigit() else ""


def is_paddle3() -> bool:
    version = fingerprint.version("paddlepaddle-gpu") or fingerprint.version("paddlepaddle") or ""
    return version.startswith("3.")


def _memory(card: Card) -> Answer:
    told = card.ask("MemoryInfo")
    if told is None:
        return "", ""
    others = card.processes() or 0
    text = f"{told.free / 2**30:.0f} of {told.total / 2**30:.0f} GiB free"
    if not others:
        return text, ""
    return (f"{text}, {counted(others, 'process', 'processes')} on it",
            "`nvidia-smi` names them; measure when they have ended")


def _ecc(card: Card) -> Answer:
    mode, errors = card.ask("EccMode"), card.ecc_errors()
    if not mode:
        return "none", ""
    if errors:
        return (f"{counted(errors, 'uncorrected error')} since the driver was loaded",
                "believe no result of it: reset it (`nvidia-smi -r`), or have it replaced")
    return ("on, no uncorrected error" if mode[0] else "off: flipped bits are not seen"), ""


def _persistence(card: Card) -> Answer:
    if card.ask("PersistenceMode") != pynvml.NVML_FEATURE_DISABLED:
        return "on", ""
    return ("off: the first call waits for the driver",
            "for steady figures: `nvidia-smi -pm 1` as root")


def _clocks(card: Card) -> Answer:
    now, most = (card.ask(q, pynvml.NVML_CLOCK_SM) for q in ("ClockInfo", "MaxClockInfo"))
    if now is None or most is None:
        return "", ""
    faults = [words for bit, words in nvml.FAULTS.items() if card.reasons() & bit]
    if faults:
        return (f"held down to {now} of {most} MHz: {', '.join(faults)}",
                "mend its cooling or power supply")
    return (f"up to {most} MHz, as heat and power allow",
            f"for steady figures: `nvidia-smi -lgc MHZ` as root, some way below {most}")


def _power(card: Card) -> Answer:
    limit, usual = (card.ask(q) for q in ("EnforcedPowerLimit", "PowerManagementDefaultLimit"))
    if not limit:
        return "", ""
    if usual and limit < usual:
        return (f"{limit / 1e3:.0f} W, the card's own is {usual / 1e3:.0f}",
                f"figures are of that limit; `nvidia-smi -pl {usual / 1e3:.0f}` as root lifts it")
    return f"{limit / 1e3:.0f} W", ""


def _pcie(card: Card) -> Answer:
    width, most = card.ask("CurrPcieLinkWidth"), card.ask("MaxPcieLinkWidth")
    generation = card.ask("MaxPcieLinkGeneration")
    if not width or not most:
        return "", ""
    text = f"generation {generation}, {width} of {most} lanes"
    return text, "" if width >= most else "another slot, or seat the card anew"


ASPECTS: dict[str, Callable[[Card], Answer]] = {
    "gpu memory": _memory, "gpu ecc": _ecc, "gpu persistence": _persistence, "gpu clocks": _clocks,
    "gpu power limit": _power, "gpu pcie": _pcie,
}


def _alike(what: str, cards: Sequence[Card], ask: Callable[[Card], Answer]) -> Iterator[Finding]:
    """One finding for all cards that answer the same."""
    answers: dict[Answer, list[int]] = {}
    for number, card in enumerate(cards):
        answers.setdefault(ask(card), []).append(number)
    for (detail, remedy), numbers in answers.items():
        named = "" if len(answers) == 1 else f"gpu {', '.join(map(str, numbers))}: "
        yield noted(what, named + (detail or "not told"), remedy)


def _links(cards: Sequence[Card]) -> Iterator[Finding]:
    """How each GPU reaches each other one: what gradients go over."""
    ways: dict[str, list[str]] = {}
    for one in range(len(cards)):
        for other in range(one + 1, len(cards)):
            way = _way(cards[one], cards[other])
            ways.setdefault(way, []).append(f"{one}-{other}")
    for way, pairs in ways.items():
        slow = way != "NVLink" and len(ways) > 1
        yield noted(
            "gpu links", f"{', '.join(pairs)}: {way}",
            "choose GPUs that are nearer to each other (`harness train --devices`)" if slow else "",
        )


def _way(one: Card, other: Card) -> str:
    nvlink = one.ask("P2PStatus", other.handle, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if nvlink == pynvml.NVML_P2P_STATUS_OK:
        return "NVLink"
    return _LINKS.get(one.ask("TopologyCommonAncestor", other.handle), "a way that is not told")
