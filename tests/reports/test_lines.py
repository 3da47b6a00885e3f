"""JSON lines to columns: the fast way and the careful way agree."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import DataError
from reports import lines


def test_columns_hold_numbers_and_nan_for_the_rest(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"step": 1, "a": 0.1, "text": "0x1p-3", "b": null}\n'
        '{"step": 2, "a": 3, "b": 7, "late": 1.5}\n{"step": 3, "a": 1'
    )
    columns = lines.read(path)
    assert set(columns) == {"step", "a", "b", "late"}
    np.testing.assert_array_equal(columns["a"], [0.1, 3.0])
    np.testing.assert_array_equal(columns["b"], [np.nan, 7.0])
    np.testing.assert_array_equal(columns["late"], [np.nan, 1.5])


def test_a_step_logged_twice_counts_once_the_later_line(tmp_path):
    path = tmp_path / "log.jsonl"
    logged = ((1, 1), (3, 3), (2, 2), (3, 4))
    path.write_text("".join(f'{{"step": {s}, "a": {a}}}\n' for s, a in logged))
    columns = lines.read(path)
    np.testing.assert_array_equal(columns["step"], [1, 2, 3])
    np.testing.assert_array_equal(columns["a"], [1, 2, 4])


_BAD = [b"", b"[]", b'{"loss": 1}', b'{"step": 1.5}', b'{"step": 2}, {"step": 3}', b"\xff", b"{"]


@pytest.mark.parametrize("bad", _BAD)
def test_a_bad_line_in_the_middle_is_named(tmp_path, bad):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 9}\n')
    with pytest.raises(DataError, match=r"log.jsonl line 2 is not"):
        lines.read(path)


def test_missing_and_empty_files_have_no_columns(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert lines.read(tmp_path / "empty.jsonl") == lines.read(tmp_path / "none.jsonl") == {}


def test_many_files_are_read_alike_in_other_processes(tmp_path, monkeypatch):
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.jsonl")
        paths[-1].write_text("".join(f'{{"step": {s}, "a": {s * i / 7}}}\n' for s in range(50)))
    alone = lines.read_all(paths)
    monkeypatch.setattr(lines, "_SHARE_FROM", 0)
    shared = lines.read_all(paths)
    for a, b in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(a["a"], b["a"])
