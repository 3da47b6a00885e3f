"""Numbers out of JSON-lines files, quickly: columns of floats, not dictionaries.

A report over 200 runs reads four million lines, so a whole file goes through
one `json.loads`, and several processes share the files when there are many.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from operator import itemgetter
from pathlib import Path

import numpy as np

from harness import runs

# Below this many bytes a second process costs more than it saves.
_SHARE_FROM = 64 << 20

_NUMBERS = {int, float, type(None)}

Columns = dict[str, np.ndarray]


def read(path: Path) -> Columns:
    """Numeric columns of a JSON-lines file, float64, ascending by `step`; {} if it is empty.

    What a line lacks, or holds null or anything but a number, is NaN. If a step
    is there twice the later line counts. A torn last line is left out; any other
    bad line is a DataError naming file and line.
    """
    rows = _parse(path)
    if not rows:
        return {}
    columns = {}
    for key, values in _transposed(rows).items():
        if set(map(type, values)) <= _NUMBERS:
            columns[key] = np.array(values, dtype=np.float64)
            continue
        # Text, a list, a mapping, a truth value: not for these tables.
        numbers = [value if type(value) in _NUMBERS else None for value in values]
        if any(number is not None for number in numbers):
            columns[key] = np.array(numbers, dtype=np.float64)
    steps = columns["step"]
    if np.all(np.diff(steps) > 0):
        return columns
    # np.unique keeps the first of equals: look from the end to keep the last.
    _, last = np.unique(steps[::-1], return_index=True)
    return {key: values[::-1][last] for key, values in columns.items()}


def read_all(paths: list[Path]) -> list[Columns]:
    """`read` of every path, in order; in several processes when there is much to read."""
    total = sum(path.stat().st_size for path in paths if path.is_file())
    workers = min(os.cpu_count() or 1, 8, len(paths))
    if total < _SHARE_FROM or workers < 2:
        return [read(path) for path in paths]
    # spawn: the caller may hold threads, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(read, paths, chunksize=max(1, len(paths) // (4 * workers))))


def _parse(path: Path) -> list[dict]:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return runs.read_lines(path)  # a missing file is empty; others are its error to word
    collecting = gc.isenabled()
    gc.disable()  # thousands of small dictionaries, none of them garbage
    try:
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return runs.read_lines(path)
    finally:
        if collecting:
            gc.enable()
    whole = len(rows) == len(lines) and set(map(type, rows)) <= {dict}
    if whole and {type(row.get("step")) for row in rows} <= {int}:
        return rows
    return runs.read_lines(path)


def _transposed(rows: list[dict]) -> dict[str, Sequence]:
    """Key -> its value in every row, None where a row lacks it."""
    keys = list(rows[0])
    if max(map(len, rows)) == len(keys) > 1:
        with contextlib.suppress(KeyError):  # the usual case: every line has the same keys
            return dict(zip(keys, zip(*map(itemgetter(*keys), rows), strict=True), strict=True))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: [row.get(key) for row in rows] for key in keys}
