"""How much is measured: what the command line chose, for every part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.base import paddle_env


@dataclass(frozen=True)
class Options:
    """`quick` makes everything tiny: it shows that the benchmarks work, not how fast a thing is."""

    quick: bool = False
    rounds: int = 5
    threads: int = field(default_factory=paddle_env.default_threads)
    device: str = "cpu"

    @property
    def warm(self) -> int:
        """Rounds before those that count."""
        return 0 if self.quick else 1

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder that goes when the part is done."""
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            yield Path(name)
