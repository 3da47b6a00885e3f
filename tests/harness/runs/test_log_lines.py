"""Append-only logs: one line a write; only what was never synced can be lost."""

import json

import pytest

from harness.base.errors import DataError
from harness.runs.log_lines import Lines, read_lines


def write(path, steps, *, keep_through=0):
    lines = Lines(path, keep_through=keep_through)
    for step in steps:
        lines.append({"step": step, "loss": step / 3})
    lines.sync()
    lines.close()


def steps(path):
    return [line["step"] for line in read_lines(path)]


def test_lines_are_appended_and_read(tmp_path):
    path = tmp_path / "x.jsonl"
    assert read_lines(path) == []
    write(path, [1, 2, 3])
    assert read_lines(path)[2] == {"step": 3, "loss": 1.0}


def test_opening_again_keeps_lines_up_to_the_checkpoint_byte_for_byte(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"step":1,  "loss": 1e0}\n{"step": 2}\n{"step": 3}\n')
    write(path, [3, 4], keep_through=2)
    assert path.read_text().startswith('{"step":1,  "loss": 1e0}\n{"step": 2}\n{"step": 3, ')
    assert steps(path) == [1, 2, 3, 4]


def test_every_torn_end_is_dropped(tmp_path):
    path = tmp_path / "x.jsonl"
    write(path, [1, 2, 3])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        before = whole[:length].count(b"\n")
        assert steps(path) == list(range(1, before + 1))
        write(path, range(before + 1, 4), keep_through=before)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"\0" * 4096 + b"\n", b"\xff\xfe\n", b"[1]\n", b'{"a": 1}\n',
                                     b'{"step": 3, "loss": 1.0}\n' * 2])
def test_garbage_behind_the_checkpoint_is_dropped(tmp_path, garbage):
    path = tmp_path / "x.jsonl"
    write(path, [1, 2])
    sound = path.read_bytes()
    path.write_bytes(sound + garbage)
    write(path, [], keep_through=2)
    assert path.read_bytes() == sound


def test_garbage_before_the_checkpoint_is_a_data_error(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(DataError, match=r"x.jsonl line 2 .*--overwrite"):
        Lines(path, keep_through=3)
    with pytest.raises(DataError, match="x.jsonl line 2"):
        read_lines(path)


def test_a_line_written_twice_stays_once(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 1}\n{"step": 1}\n{"step": 2}\n')
    Lines(path, keep_through=2).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_nan_is_never_written(tmp_path):
    lines = Lines(tmp_path / "x.jsonl", keep_through=0)
    with pytest.raises(ValueError):
        lines.append({"step": 1, "loss": float("nan")})
    lines.append({"step": 1, "loss": 1.0})
    lines.close()
    assert json.loads((tmp_path / "x.jsonl").read_text())["loss"] == 1.0
