"""Successive halving: points of a sweep that are hopeless after few samples get no more of them.

Jamieson and Talwalkar 2016. All points are given a few samples, the better half twice as many,
and so on, until those that are left have all. What is drawn is kept: the next rung adds to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.base.errors import UsageError

LEAST = 16  # samples that a point is judged by


def rungs(points: int, n_samples: int, rows: int, budget: int) -> list[tuple[int, int]]:
    """(samples a point, points) of each rung, with as few halvings as `budget` allows.

    `budget`: samples of all points together; `rows`: what is drawn at once. UsageError if no
    number of halvings keeps within it.
    """
    drawn = 0
    for halvings in range(points.bit_length() + 1):
        sizes = [-(-n_samples // 2**r // rows) * rows for r in range(halvings, -1, -1)]
        plan = [(min(n_samples, size), -(-points // 2**r)) for r, size in enumerate(sizes)]
        if halvings and plan[0][0] < LEAST:
            break
        drawn = samples(plan)
        if drawn <= budget:
            return plan
    raise UsageError(
        f"a budget of {budget:,} samples is too small for {points} points of {n_samples:,}",
        remedy=f"halving as often as is sound takes {drawn:,}",
    )


def samples(plan: Sequence[tuple[int, int]]) -> int:
    """Samples of all points together that a plan draws."""
    before = [0, *(size for size, _ in plan)]
    return sum(count * (size - b) for (size, count), b in zip(plan, before, strict=False))


def kept(distances: Sequence[float], calls: Sequence[int], count: int) -> list[int]:
    """Indices of the `count` points that go on, ascending.

    First those that fewest others beat at no greater cost, so that the cheap end of the front is
    not dropped for being cheap; then by distance.
    """
    def beaten(i: int) -> int:
        others = zip(distances, calls, strict=True)
        return sum(c <= calls[i] and d < distances[i] for d, c in others)

    order = sorted(range(len(distances)), key=lambda i: (beaten(i), distances[i], calls[i]))
    return sorted(order[:count])


def front(distances: Sequence[float], calls: Sequence[int]) -> list[int]:
    """Indices of the points that none is as cheap as and better than, by ascending cost."""
    found: list[int] = []
    for i in sorted(range(len(calls)), key=lambda i: (calls[i], distances[i])):
        if not found or distances[i] < distances[found[-1]]:
            found.append(i)
    return found
