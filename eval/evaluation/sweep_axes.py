"""What a sweep goes over: values on the command line, and the evaluations they make together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from eval import protocols
from eval.protocols import Protocol
from harness.base.errors import UsageError

# As written -> the protocol's field, and what its values are.
AXES = {
    "guidance": ("guidance_scale", float), "steps": ("num_inference_steps", int),
    "sampler": ("sampler", str), "eta": ("eta", float), "tome": ("tome", float),
}  # fmt: skip
MOST_POINTS = 1000
_NUMBER = r"[-+0-9.eE]+?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER}):({_NUMBER})")


@dataclass(frozen=True)
class Point:
    """One evaluation of a sweep: a checkpoint by a protocol; `settings` as the axes name them."""

    step: int
    protocol: Protocol
    settings: Mapping[str, Any]

    @property
    def calls(self) -> int:
        return protocols.network_calls(self.protocol)


def parse(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Axis -> values of `guidance=1..3:0.25`, `steps=10,25,50`, `sampler=ddim,dpm`.

    Ranges include their last value. UsageError says which text is none.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, _, written = text.partition("=")
        if name not in AXES or not written or name in found:
            raise UsageError(
                f"--sweep {text}: not an axis" if name not in found else f"--sweep {name} twice",
                remedy=f"give each once, as NAME=VALUE,... with NAME of {', '.join(AXES)}",
            )
        kind = AXES[name][1]
        try:
            values = [v for part in written.split(",") for v in _values(part, kind)]
        except (ValueError, InvalidOperation) as error:
            raise UsageError(
                f"--sweep {text}: {error or 'not a number'}",
                remedy="write FIRST..LAST:STEP, as in guidance=1..3:0.25, or values with commas",
            ) from error
        found[name] = list(dict.fromkeys(values))
    return found


def _values(part: str, kind: type) -> list[Any]:
    if not (bounds := _RANGE.fullmatch(part)):
        return [kind(part)]
    first, last, step = map(Decimal, bounds.groups())  # 1 + 5 * 0.1 is 1.5 here
    if not (first.is_finite() and last >= first and step > 0):
        raise ValueError(f"{part} is not an ascending range")
    if (last - first) / step >= MOST_POINTS:
        raise ValueError(f"{part} has more than {MOST_POINTS} values")
    count = int((last - first) / step) + 1
    return [kind(str(first + i * step)) for i in range(count)]


def checkpoints(text: str | None, steps: Sequence[int], newest: int) -> list[int]:
    """Which of a run's ascending `steps` are swept: `all`, or `every:K`, the newest among them.

    Without a text, `newest` alone. UsageError for another text.
    """
    if text is None:
        return [newest]
    match = re.fullmatch(r"all|every:([1-9][0-9]{0,5})", text)
    if not match:
        raise UsageError(
            f"--checkpoints {text} is not known", remedy="give all, or every:5 for each fifth"
        )
    return list(steps)[:: -int(match[1] or 1)][::-1]


def points(
    protocol: str, overrides: Mapping[str, Any], axes: Mapping[str, Sequence[Any]],
    steps: Sequence[int],
) -> list[Point]:
    """Every combination, checkpoint by checkpoint; UsageError for one that cannot be."""
    total = len(steps)
    for values in axes.values():
        total *= len(values)
    if total > MOST_POINTS:
        raise UsageError(f"a sweep of {total:,} points", remedy=f"at most {MOST_POINTS:,} are made")
    made = []
    for step in steps:
        for combination in itertools.product(*axes.values()):
            settings = dict(zip(axes, combination, strict=True))
            chosen = {AXES[name][0]: value for name, value in settings.items()}
            made.append(Point(step, protocols.get(protocol, **{**overrides, **chosen}), settings))
    return made
