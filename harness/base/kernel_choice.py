"""How a network is computed: by whose kernels, eagerly or as a traced graph.

`kernels`: `fused`, the compiled ones of `models.cpu` (float32 on a CPU), or `paddle`, the
framework's own. `execution`: `eager`, or `static`, `paddle.jit.to_static` of the network. Chosen
once, before a model is made, in variables of the environment: processes that are started from here
compute alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from harness.base.errors import EnvironmentFault, UsageError
from harness.base.progress import say

CHOICES = {"kernels": ("paddle", "fused"), "execution": ("eager", "static")}
_VARIABLES = {"kernels": "HARNESS_KERNELS", "execution": "HARNESS_EXECUTION"}


def choose(
    kernels: str | None = None, execution: str | None = None,
    recorded: Mapping[str, str] | None = None,
) -> None:
    """Settle both; None: as the variable says, else as `recorded` (by the run that goes on).

    UsageError for fused kernels in a traced graph, and for a variable that says something else.
    """
    recorded = recorded or {}
    execution = execution or _exported("execution") or recorded.get("execution")
    kernels = kernels or _exported("kernels")
    if execution == "static" and kernels == "fused":
        raise UsageError(
            "static execution cannot trace fused kernels",
            remedy="use --kernels paddle, or --execution eager",
        )
    if kernels is None and recorded.get("kernels") == "paddle":
        kernels = "paddle"  # fused ones are the default: where there are none, none are demanded
    if kernels is None and execution == "static":
        say("static execution: by paddle's own kernels, since the fused ones cannot be traced")
        kernels = "paddle"
    for name, value in (("kernels", kernels), ("execution", execution)):
        if value is not None:
            os.environ[_VARIABLES[name]] = value


def label(fingerprint: Mapping[str, str]) -> str:
    """What a fingerprint says of both: `fused`, `paddle` or `paddle, static`."""
    static = fingerprint["execution"] == "static"
    return str(fingerprint["kernels"]) + (", static" if static else "")


def asked() -> dict[str, str]:
    """What was chosen, by name; what was left to the default is not in it."""
    found = {name: _exported(name) for name in _VARIABLES}
    return {name: value for name, value in found.items() if value is not None}


def used() -> dict[str, str]:
    """What this process computes by (imports paddle), as the fingerprint has it."""
    return {
        "kernels": "fused" if fused() and _on_cpu() else "paddle",
        "execution": "static" if static() else "eager",
    }


def unusual() -> dict[str, str]:
    """What of `used` is not what there was before it could be chosen (imports paddle)."""
    usual = {"kernels": "fused" if _on_cpu() else "paddle", "execution": "eager"}
    return {name: value for name, value in used().items() if value != usual[name]}


def filled(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded fingerprint with both; before they could be chosen, CPU builds ran fused ones."""
    gpu = fingerprint.get("package.paddlepaddle-gpu") is not None
    return {"kernels": "paddle" if gpu else "fused", "execution": "eager", **fingerprint}


def fused() -> bool:
    """Whether fused kernels are to be used where there are any; in a graph there are none."""
    return os.environ.get(_VARIABLES["kernels"]) != "paddle" and not static()


def static() -> bool:
    """Whether networks are to be traced."""
    return os.environ.get(_VARIABLES["execution"]) == "static"


def require() -> None:
    """EnvironmentFault if fused kernels were asked for where there are none (imports paddle)."""
    if asked().get("kernels") == "fused" and not _on_cpu():
        raise EnvironmentFault(
            "there are no fused kernels for a GPU", remedy="leave --kernels out, or say paddle"
        )


def _on_cpu() -> bool:
    import paddle

    return not paddle.device.get_device().startswith("gpu")


def _exported(name: str) -> str | None:
    value = os.environ.get(_VARIABLES[name]) or None
    if value is not None and value not in CHOICES[name]:
        raise UsageError(
            f"{_VARIABLES[name]} is {value!r}", remedy=f"use one of {', '.join(CHOICES[name])}"
        )
    return value
