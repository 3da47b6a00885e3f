"""Where a series of nightly figures changed its level.

Binary segmentation on the difference of means, each split tested by permuting
the segment: no distribution is assumed, and nothing but the order is used.
(The idea of E-divisive, Matteson and James 2014, with the plain mean.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.base import seeds

_PERMUTATIONS, _AT_ONCE = 999, 37  # a multiple
_NEVER = 1e-12  # a chance that 999 permutations do not meet
_SHORTEST = 4  # nights on either side of a change; fewer prove nothing
_LEVEL = 0.01


@dataclass(frozen=True)
class Change:
    """The level changed at `index` (the first night of the new level)."""

    index: int
    before: float  # mean of the segment before
    after: float
    p_value: float


def find(values: np.ndarray, *, smallest: float = 0.01) -> list[Change]:
    """Changes of level in `values`, ascending; those below `smallest` (relative) are dropped.

    The same values always give the same changes: permutations come from a fixed key.
    """
    values = np.asarray(values, dtype=float)
    found = sorted(_split(values, 0, len(values)))
    edges = [0, *(index for index, _ in found), len(values)]
    changes = []
    for k, (index, p_value) in enumerate(found, 1):
        before = float(values[edges[k - 1] : index].mean())
        after = float(values[index : edges[k + 1]].mean())
        if abs(after - before) >= smallest * abs(before):
            changes.append(Change(index, before, after, p_value))
    return changes


def _split(values: np.ndarray, start: int, end: int) -> list[tuple[int, float]]:
    segment = values[start:end]
    if len(segment) < 2 * _SHORTEST or np.ptp(segment) == 0:
        return []
    at, gain = _best(segment[None, :])
    p_value = _by_chance(segment, float(gain[0]), seeds.generator(0, "changepoints", start, end))
    if p_value > _LEVEL:
        return []
    middle = start + int(at[0])
    return [
        *_split(values, start, middle), (middle, p_value), *_split(values, middle, end)
    ]  # fmt: skip


def _by_chance(segment: np.ndarray, gain: float, rng: np.random.Generator) -> float:
    """The share of orders, of which this is one, that split as well as by `gain`.

    No more permutations are drawn than decide: none where Serfling's bound for sums without
    replacement (Annals of Statistics 2, 1974, corollary 1.1), over both sides of every split,
    leaves them no chance; none after so many that it is insignificant. (Then it is a lower bound.)
    """
    n, reached = len(segment), 0
    span = float(np.ptp(segment))
    if 2 * n * np.exp(-2 * _SHORTEST / (_SHORTEST + 1) * gain / span**2) < _NEVER:
        return 1 / (1 + _PERMUTATIONS)
    for _ in range(0, _PERMUTATIONS, _AT_ONCE):
        shuffled = rng.permuted(np.tile(segment, (_AT_ONCE, 1)), axis=1)
        reached += int((_best(shuffled)[1] >= gain * (1 - 1e-9)).sum())
        if (1 + reached) / (1 + _PERMUTATIONS) > _LEVEL:
            break
    return (1 + reached) / (1 + _PERMUTATIONS)


def _best(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best split of every row: (index, gain), the gain being between-segment sum of squares."""
    n = rows.shape[1]
    left = np.arange(_SHORTEST, n - _SHORTEST + 1)
    sums = np.cumsum(rows - rows.mean(axis=1, keepdims=True), axis=1)[:, left - 1]
    gain = sums**2 * n / (left * (n - left))
    best = gain.argmax(axis=1)
    return left[best], gain[np.arange(len(rows)), best]
