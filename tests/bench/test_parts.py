"""Every part of the benchmark at sizes that say nothing about speed: rows come, and are numbers."""

import pytest

from tests.bench import __main__ as bench
from tests.bench import rows, sides, worker
from tests.bench.options import Options

AGAIN = len(sides.GROUPS) - 1  # whether peers are measured a second time, with our path of MKL
# (rows with a target, rows without, growths) of each part
GIVES = {
    "step": (4 + AGAIN, AGAIN + 1, 0), "sampling": (2, 1 + 2 * AGAIN, 0),
    "overhead": (3, 0, 0), "frechet": (3, 0, 0), "inception": (1, 0, 0),
    "features": (1, 0, 0), "loading": (1, 4, 0),
    "checkpoint": (1, 2, 0), "report": (0, 1, 1), "history": (2, 0, 1), "memory": (0, 2, 0),
    "planning": (0, 3, 0), "startup": (2, 2, 0), "studies": (2, 0, 0),
    "reduction": (0, 2, 0), "growth": (0, 0, 3), "endtoend": (3, 0, 0),
}


def test_every_part_is_tested():
    assert tuple(GIVES) == bench.PARTS


# whole commands, all peers, torch six times
LONG = ("endtoend", "growth", "step", "sampling", "features")


@pytest.mark.parametrize("part", [
    pytest.param(part, marks=[pytest.mark.slow] if part in LONG else []) for part in GIVES
])
def test_a_part_gives_its_rows(part, monkeypatch):
    monkeypatch.setattr(sides, "lacking", lambda *_: "")  # quick: no compiler is needed
    monkeypatch.setattr(worker, "SETTLE_SECONDS", 0.0)
    found, failed = bench.measure([part], Options(quick=True, rounds=1, threads=1))
    assert failed == []
    measured = [item for item in found if isinstance(item, rows.Row)]
    targets = sum(row.target is not None for row in measured)
    counts = (targets, len(measured) - targets, len(found) - len(measured))
    assert counts == GIVES[part]
    assert all(map(rows.finite, found))
    assert len({item.key for item in measured}) == len(measured)
