"""How far two recordings of the same thing are apart: losses and tensors, bit by bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness import files

IDENTICAL, CLOSE, DIFFERENT = "identical", "within tolerance", "differs"
# Across stacks (threads, devices, versions) fp32 training drifts apart slowly: after a few
# hundred steps losses are still within 1e-5, relative. A wrong setting is far outside of 1e-3.
TOLERANCE = 1e-3


def recorded_loss(line: Mapping[str, Any]) -> float | None:
    """The loss of a metrics line, from its exact hex; None if it is not one."""
    try:
        return float.fromhex(line["loss_hex"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def relative(a: float, b: float) -> float:
    """|a - b| / |b|: 0 if they are equal, infinity if either is not finite."""
    if a == b:
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(b), 1e-30)


def verdict(difference: float, *, same_bits: bool, bits_promised: bool) -> str:
    """Identical; within tolerance, where bits are not promised; or different."""
    if same_bits:
        return IDENTICAL
    return CLOSE if difference <= TOLERANCE and not bits_promised else DIFFERENT


def worst(verdicts: list[str]) -> str:
    """The worst of several verdicts; identical if there are none."""
    return max(verdicts, key=[IDENTICAL, CLOSE, DIFFERENT].index, default=IDENTICAL)


def tensors(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> tuple[float, list[dict[str, Any]]]:
    """Compare two sets of arrays by name: (relative L2 distance of all, what differs).

    Each difference: `name`, and either `what` (missing, shape, dtype) or `elements` (how
    many have other bits), `of`, `largest` (absolute) and `relative` (L2). Largest first.
    """
    found: list[dict[str, Any]] = []
    square, norm = 0.0, 0.0
    for name in sorted(a.keys() | b.keys()):
        if what := _misfit(a.get(name), b.get(name)):
            found.append({"name": name, "what": what})
            square = math.inf
            continue
        x, y = a[name].astype(np.float64), b[name].astype(np.float64)
        own = float(np.square(y).sum())
        norm += own
        changed = int((_bits(a[name]) != _bits(b[name])).sum())
        if changed:
            with np.errstate(invalid="ignore", over="ignore"):
                gap = np.abs(x - y)
                apart = float(np.square(gap).sum())
            square += apart
            found.append({
                "name": name, "elements": changed, "of": int(x.size),
                "largest": files.finite(float(gap.max())),
                "relative": files.finite(_ratio(apart, own)),
            })
    found.sort(key=lambda d: (-size(d.get("relative")), d["name"]))
    return _ratio(square, norm), found


def _misfit(x: np.ndarray | None, y: np.ndarray | None) -> str | None:
    if x is None or y is None:
        return "only in the second" if x is None else "only in the first"
    if x.shape != y.shape or x.dtype != y.dtype:
        return f"{x.dtype} {list(x.shape)} and {y.dtype} {list(y.shape)}"
    return None


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def _ratio(square: float, norm: float) -> float:
    if square == 0.0:
        return 0.0
    finite = math.isfinite(square) and math.isfinite(norm)
    return math.sqrt(square / norm) if finite and norm else math.inf


def size(value: float | None) -> float:
    """What a difference is sorted by; None stands for one that is not finite."""
    return math.inf if value is None else value


def describe(difference: Mapping[str, Any]) -> str:
    """One tensor's difference in words."""
    if "what" in difference:
        return f"{difference['name']}: {difference['what']}"
    largest = difference["largest"]
    size = "not finite" if largest is None else f"by up to {largest:.3g}"
    share = "" if difference["relative"] is None else f" ({difference['relative']:.2g} relative)"
    return (
        f"{difference['name']}: {difference['elements']} of {difference['of']} elements, "
        f"{size}{share}"
    )
