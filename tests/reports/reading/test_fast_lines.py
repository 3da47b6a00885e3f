"""JSON lines to columns: the fast way and the careful way agree."""

from __future__ import annotations

import numpy as np
import pytest

from harness.base import seeds
from harness.base.errors import DataError
from reports.reading import fast_lines
from tests.reports import fabricate


def test_columns_hold_numbers_and_nan_for_the_rest(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"step": 1, "a": 0.1, "text": "0x1p-3", "b": null}\n'
        '{"step": 2, "a": 3, "b": 7, "late": 1.5}\n{"step": 3, "a": 1'
    )
    columns = fast_lines.read(path)
    assert set(columns) == {"step", "a", "b", "late"}
    np.testing.assert_array_equal(columns["a"], [0.1, 3.0])
    np.testing.assert_array_equal(columns["b"], [np.nan, 7.0])
    np.testing.assert_array_equal(columns["late"], [np.nan, 1.5])


def test_a_step_logged_twice_counts_once_the_later_line(tmp_path):
    path = tmp_path / "log.jsonl"
    logged = ((1, 1), (3, 3), (2, 2), (3, 4))
    path.write_text("".join(f'{{"step": {s}, "a": {a}}}\n' for s, a in logged))
    columns = fast_lines.read(path)
    np.testing.assert_array_equal(columns["step"], [1, 2, 3])
    np.testing.assert_array_equal(columns["a"], [1, 2, 4])


_BAD = [b"", b"[]", b'{"loss": 1}', b'{"step": 1.5}', b'{"step": 2}, {"step": 3}', b"\xff", b"{"]


@pytest.mark.parametrize("bad", _BAD)
def test_a_bad_line_in_the_middle_is_named(tmp_path, bad):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 9}\n')
    with pytest.raises(DataError, match=r"log.jsonl line 2 is not"):
        fast_lines.read(path)


def test_missing_and_empty_files_have_no_columns(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    empty, none = (fast_lines.read(tmp_path / f"{name}.jsonl") for name in ("empty", "none"))
    assert empty == none == {}


def test_the_quick_and_the_careful_way_give_the_same_bits(tmp_path):
    draw = seeds.generator(1, "lines")
    doubles = np.frombuffer(draw.bytes(8 * 3000), np.float64)
    values = [float(value) for value in doubles[np.isfinite(doubles)]]
    path = tmp_path / "log.jsonl"
    fabricate.write_lines(path, [
        {"step": i, "any": value, "mixed": value if i % 2 else i, "whole": int(value) % 2**62,
         "none": None, "text": value.hex(), "flag": True, "rare": None if i % 5 else value,
         "bad": float("nan")}
        for i, value in enumerate(values)
    ])  # fmt: skip
    quick, careful = fast_lines._quickly(path), fast_lines._carefully(path)
    assert quick is not None and set(quick) == set(careful) == {
        "step", "any", "mixed", "whole", "none", "rare", "bad"
    }
    for name, column in quick.items():
        assert column.dtype == careful[name].dtype == np.float64
        np.testing.assert_array_equal(column, careful[name])


_ODD = {
    "several types": b'{"step": 1, "a": 1}\n{"step": 2, "a": "x"}\n',
    "nested": b'{"step": 1, "a": {"step": 2}}\n',
    "twice": b'{"step": 1, "a": 1, "a": 2}\n',
    "not ASCII": '{"step": 1, "a": 2, "b": "\u00fc"}\n'.encode(),
}


@pytest.mark.parametrize("content", _ODD.values(), ids=_ODD)
def test_what_is_odd_goes_the_careful_way(tmp_path, content):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    assert fast_lines._quickly(path) is None
    assert len(fast_lines.read(path)["step"]) == content.count(b"\n")


def test_what_is_too_deep_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1, "a": ' + b"[" * 300 + b"]" * 300 + b"}\n")
    assert fast_lines._quickly(path) is None
    with pytest.raises(DataError, match="log.jsonl"):
        fast_lines.read(path)


def test_many_files_are_read_in_order(tmp_path):
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i}.jsonl")
        paths[-1].write_text("".join(f'{{"step": {s}, "a": {s * i / 7}}}\n' for s in range(50)))
    for path, columns in zip(paths, fast_lines.read_all(paths), strict=True):
        np.testing.assert_array_equal(columns["a"], fast_lines.read(path)["a"])
