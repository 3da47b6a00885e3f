"""Blocks on disk: whole or made again, and never another evaluation's."""

import numpy as np
import pytest

from eval.sampling.finished_blocks import Block, Blocks, shown, stored
from harness.base.errors import DataError, UsageError


def block(n, value=1.0):
    return Block(
        np.full((n, 3), value, np.float32), np.zeros(n, np.int64), np.zeros(n),
        np.zeros((n, 2, 2, 3), np.uint8), np.zeros(4),
    )


def blocks(folder, owner="a", n=10):
    return Blocks(folder, {"who": owner}, n_samples=n, rows=4)


def test_spans_cover_every_sample_once(tmp_path):
    found = blocks(tmp_path / "f")
    assert [found.span(b) for b in range(len(found))] == [(0, 4), (4, 8), (8, 10)]


def test_what_was_saved_is_there_for_the_next_process(tmp_path):
    blocks(tmp_path / "f").save(1, block(4, 2.0))
    again = blocks(tmp_path / "f")
    np.testing.assert_array_equal(again.load(1).features, np.full((4, 3), 2.0))
    assert again.load(0) is None
    with pytest.raises(DataError, match="missing"):
        list(again.all())


def test_a_block_s_bytes_do_not_depend_on_the_clock(tmp_path):
    found, quick, slow = blocks(tmp_path / "f"), block(4), block(4)
    slow.seconds = np.array([1.0, 2.0, 3.0, 4.0])
    found.save(0, quick)
    before = found.path(0).read_bytes()
    found.save(0, slow)
    assert found.path(0).read_bytes() == before
    np.testing.assert_array_equal(blocks(tmp_path / "f").load(0).seconds, slow.seconds)
    for lost in (b"", b"{}", b"[1, 2]", b"[null, 1, 2, 3]", b'["a", 1, 2, 3]'):
        (tmp_path / "f" / "00000.seconds.json").write_bytes(lost)
        np.testing.assert_array_equal(found.load(0).seconds, np.zeros(4))


def test_a_block_of_an_earlier_version_has_its_seconds_within(tmp_path):
    found, old = blocks(tmp_path / "f"), block(4, 2.0)
    np.savez(found.path(0), **{**vars(old), "seconds": np.arange(4.0)})
    np.testing.assert_array_equal(found.load(0).features, old.features)
    np.testing.assert_array_equal(found.load(0).seconds, np.arange(4.0))


def test_another_evaluation_s_blocks_are_dropped(tmp_path):
    blocks(tmp_path / "f").save(0, block(4))
    assert blocks(tmp_path / "f", owner="b").load(0) is None


def test_a_block_that_is_not_sound_is_made_again(tmp_path, capsys):
    found = blocks(tmp_path / "f")
    found.save(0, block(4))
    data = found.path(0).read_bytes()
    for broken in (data[: len(data) // 2], b"", data[:100] + b"\xff" + data[101:]):
        found.path(0).write_bytes(broken)
        assert found.load(0) is None
    found.save(0, block(3))
    assert found.load(0) is None
    found.save(0, block(4, np.nan))
    assert found.load(0) is None
    assert "made again" in capsys.readouterr().err


def of(folder, n, seed=1, path="/a"):
    """Blocks of an evaluation of `n` samples, as `evaluate` describes its own."""
    protocol = {"name": f"p+n{n}", "n_samples": n, "seed": seed, "pinned": False,
                "captions": {"seed": 1, "sha256": str(n)}, "reference": {"path": path}}
    return Blocks(folder / "features", {"protocol": protocol}, n_samples=n, rows=4)


def test_whole_blocks_are_taken_over_where_n_alone_differs(tmp_path):
    few, many = of(tmp_path / "a", 10), of(tmp_path / "b", 14)
    other = of(tmp_path / "c", 14, seed=2)
    for number, rows in enumerate((4, 4, 2)):
        few.save(number, block(rows, number))
    for found in (many, other):
        found.take_over(tmp_path / "a" / "features")
    assert [many.load(b) is not None for b in range(4)] == [True, True, False, False]
    assert many.path(1).read_bytes() == few.path(1).read_bytes()
    assert other.load(0) is None
    many.save(0, block(4, 9.0))  # replaces the link, not what it led to
    np.testing.assert_array_equal(few.load(0).features, np.zeros((4, 3)))


@pytest.mark.parametrize("owner", [
    b"[]", b"{}", b"null", b'{"protocol": 1}', b'{"protocol": {"captions": [], "n_samples": "x"}}',
])  # fmt: skip
def test_a_stranger_s_folder_is_passed_over(tmp_path, owner):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "owner.json").write_bytes(owner)
    found = of(tmp_path, 10)
    found.take_over(tmp_path / "odd")
    assert found.load(0) is None
    with pytest.raises(DataError, match="owner.json"):
        stored(tmp_path / "odd")


def test_a_finished_evaluation_s_blocks_are_never_dropped(tmp_path):
    of(tmp_path, 10).save(0, block(4))
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match="made otherwise"):
        of(tmp_path, 10, seed=2)
    assert of(tmp_path, 10, path="/elsewhere").load(0) is not None  # where a file lay is no matter
    np.testing.assert_array_equal(shown(tmp_path / "features", 3), np.zeros((3, 2, 2, 3)))
