"""Files appear whole or not at all; what is read is checked first (hostile: tests/faults)."""

import errno
import json
import os
import shutil
import stat

import numpy as np
import pytest

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from harness.files import safe_writing
from tests.faults import inject


def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new" / "x.json"
    files.atomic_write_json(path, {"a": 1})
    files.atomic_write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    assert os.listdir(path.parent) == ["x.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~safe_writing._umask()


def test_atomic_write_refuses_nan_before_it_touches_anything(tmp_path):
    files.atomic_write_json(tmp_path / "x", 1)
    with pytest.raises(ValueError):
        files.atomic_write_json(tmp_path / "x", float("nan"))
    assert (tmp_path / "x").read_text() == "1\n"


def test_an_error_inside_keeps_the_old_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(KeyError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("number, remedy", [(errno.ENOSPC, "free some space"),
                                            (errno.EIO, "a place that can be written")])
def test_at_every_failing_call_the_file_is_the_old_or_the_new(tmp_path, number, remedy):
    path = tmp_path / "x"
    for at in range(1, 12):
        path.write_text("old")
        with inject.injected(inject.Injector(at, inject.failing(number))) as injector:
            try:
                files.atomic_write_bytes(path, b"new")
            except EnvironmentFault as error:
                assert remedy in str(error) and str(path) in str(error)
            except OSError:
                raise AssertionError("an OSError came through") from None
        assert path.read_text() in ("old", "new")
        if injector.count < at:
            break
    assert at > 5 and path.read_text() == "new"


def test_of_a_tree_that_cannot_be_copied_the_first_reason_is_told(tmp_path):
    (tmp_path / "from").mkdir()
    for name in "ab":
        (tmp_path / "from" / name).touch()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(EnvironmentFault) as error, files.writing(tmp_path / "to"):
        shutil.copytree(tmp_path / "from", tmp_path / "to", copy_function=full)
    assert error.value.message.endswith("No space left on device")
    assert error.value.remedy.startswith("free some space")


def test_staged_directories_appear_whole(tmp_path):
    with files.staged(tmp_path / "d") as temporary:
        (temporary / "x").write_text("x")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "x").read_text() == "x" and os.listdir(tmp_path) == ["d"]
    with pytest.raises(KeyError), files.staged(tmp_path / "e") as temporary:
        raise KeyError
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("array", [
    np.float32(3), np.zeros((0, 3), np.float32), np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)), np.array([True, False]),
], ids=["scalar", "empty", "C", "Fortran", "bool"])
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, array, packed):
    if packed:
        np.savez_compressed(tmp_path / "x.npz", mu=array)
        found = files.load_npz(tmp_path / "x.npz", ("mu",))["mu"]
    else:
        np.save(tmp_path / "x.npy", array)
        found = files.load_npy(tmp_path / "x.npy")
    expected = np.asarray(array)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert (found == expected).all()


def test_a_wrong_dtype_or_shape_is_named(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 3)))
    with pytest.raises(DataError, match="x.npy holds float64, expected float32"):
        files.load_npy(path, dtype="float32")
    with pytest.raises(DataError, match=r"has shape \[2, 3\], expected \[3, 2\]"):
        files.load_npy(path, shape=(3, 2))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="truncated: 5 bytes are missing"):
        files.load_npy(path)


@pytest.mark.parametrize("read", [
    files.load_npy, files.load_object_npy, files.read_json, files.read_bytes, files.sha256_file,
    lambda path: files.load_npz(path, ("mu",)),
])
@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "unreadable"])
def test_what_is_no_file_is_a_data_error_that_names_it(tmp_path, read, kind):
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "unreadable":
        path.symlink_to(path)
    with pytest.raises(DataError, match=str(path)):
        read(path)


def test_npz_limits_and_missing_arrays(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, mu=np.zeros(1000), other=np.zeros(1000))
    with pytest.raises(DataError, match=r"no array 'sigma' \(it holds mu.npy, other.npy\)"):
        files.load_npz(path, ("mu", "sigma"))
    with pytest.raises(DataError, match="too many"):
        files.load_npz(path, ("mu",), limit=8000)
    with pytest.raises(DataError, match="other unpacks to"):
        files.load_npz(path, ("mu", "other"), limit=10_000)  # together


def test_canonical_json_has_one_text():
    assert files.canonical_json({"b": 1, "a": [1.5, "é"]}) == b'{"a":[1.5,"\\u00e9"],"b":1}'


@pytest.mark.parametrize("value, number, finite", [
    (1, True, True), (-0.5, True, True), (float("inf"), True, False), (10**400, False, False),
    (True, False, False), ("1", False, False), (None, False, False),
])
def test_numbers_are_told_from_what_json_may_hold_in_their_place(value, number, finite):
    assert files.is_number(value, finite=False) == number
    assert files.is_number(value) == finite


def test_what_a_library_in_rust_says_of_a_full_disk_is_an_error_of_the_disk(tmp_path):
    said = "Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: ... })"
    with pytest.raises(EnvironmentFault, match="No space left on device; free some space"):
        with files.writing(tmp_path):
            raise RuntimeError(said)
    with pytest.raises(RuntimeError), files.writing(tmp_path):
        raise RuntimeError("something else")


def test_an_error_is_one_line_that_a_terminal_only_shows():
    error = DataError("a\nb\x1b[31m\ud800" + "x" * 9000)
    assert error.message.isprintable() and error.message.startswith("a b\\x1b[31m\\ud800x")
    assert len(error.message) < 2000
