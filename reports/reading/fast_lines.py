"""Numbers out of JSON-lines files, quickly: columns of floats, not dictionaries.

A report over 200 runs reads four million lines. pyarrow reads a file in a fifth of the time
that Python's parser takes, and lets go of the interpreter meanwhile, so that threads share
the files. What it does not take goes the careful way, line by line, which also words the errors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import json as arrow_json

from harness import files, runs
from harness.base.errors import DataError
from harness.runs import log_lines

Columns = dict[str, np.ndarray]


def read(path: Path) -> Columns:
    """Numeric columns of a JSON-lines file, float64, ascending by `step`; {} if it is empty.

    What a line lacks, or holds null or anything but a number, is NaN. If a step
    is there twice the later line counts. A torn last line is left out; any other
    bad line is a DataError naming file and line.
    """
    columns = _quickly(path) or _carefully(path)
    if not columns:
        return {}
    steps = columns["step"]
    if np.all(np.diff(steps) > 0):
        return columns
    # np.unique keeps the first of equals: look from the end to keep the last.
    _, last = np.unique(steps[::-1], return_index=True)
    return {key: values[::-1][last] for key, values in columns.items()}


def read_all(paths: Sequence[Path]) -> list[Columns]:
    """`read` of every path, in order."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(read, paths))


def _quickly(path: Path) -> Columns | None:
    """By pyarrow; None for a file that has to be looked at carefully."""
    try:
        content = files.read_bytes(path, limit=log_lines.LIMIT)
    except DataError:
        return None
    content = content[: content.rfind(b"\n") + 1]
    count = content.count(b"\n")
    # pyarrow takes objects wherever they end, checks no encoding, and overflows its stack on deep
    # nesting: one flat object a line, in ASCII, or nothing.
    flat = content.count(b"{") == count and b"[" not in content and content.isascii()
    begun = content.startswith(b"{") and content.count(b"}\n{") == count - 1
    if not flat or not begun or not content.endswith(b"}\n"):
        return None
    options = arrow_json.ReadOptions(use_threads=False, block_size=len(content))
    try:
        table = arrow_json.read_json(pyarrow.BufferReader(content), read_options=options)
    except pyarrow.ArrowInvalid:  # corrupt, or a key whose values are of several types
        return None
    if len(table) != count or "step" not in table.column_names:
        return None
    if table["step"].type != pyarrow.int64() or table["step"].null_count:
        return None
    return {
        name: column.to_numpy().astype(np.float64, copy=False)
        for name, column in zip(table.column_names, table.columns, strict=True)
        if pyarrow.types.is_floating(column.type) or pyarrow.types.is_integer(column.type)
        or pyarrow.types.is_null(column.type)
    }  # fmt: skip


def _carefully(path: Path) -> Columns:
    """Line by line; a missing file is empty."""
    rows = runs.read_lines(path)
    columns = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        # Text, a list, a mapping, a truth value: not for these tables.
        numbers = [value if files.is_number(value, finite=False) else None for value in values]
        if numbers == values or any(number is not None for number in numbers):
            columns[key] = np.array(numbers, dtype=np.float64)
    return columns
