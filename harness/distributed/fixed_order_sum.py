"""Sums in the shape of a binary tree, which is the same whoever adds which part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Fold:
    """Adds 2^k things as a fixed binary tree, one after the other, keeping at most k partial sums.

    ((0+1)+(2+3))+((4+5)+(6+7)), whoever adds which aligned part of it: floating-point
    addition is not associative, so the tree decides the bits, and it is always the same.
    """

    def __init__(self) -> None:
        self._partial: list[tuple[int, Any]] = []

    def add(self, value: Any) -> None:
        height = 0
        while self._partial and self._partial[-1][0] == height:
            _, left = self._partial.pop()
            value, height = left + value, height + 1
        self._partial.append((height, value))

    def total(self) -> Any:
        """The sum, once 2^k things were added."""
        ((_, value),) = self._partial
        return value


def fold(values: Sequence[Any]) -> Any:
    """Sum of 2^k values as `Fold` does it."""
    tree = Fold()
    for value in values:
        tree.add(value)
    return tree.total()
