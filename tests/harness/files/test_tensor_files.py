"""Safetensors files: as the library has them, and nothing that is not one is read."""

import hashlib
import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from harness.base.errors import DataError
from harness.files import tensor_files
from harness.runs import checkpoints

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((0, 2), np.int64),
    "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "s": np.float16(2)[None],
    "n": np.array(7.0, np.float32),
}


def written(path, arrays=ARRAYS):
    path.write_bytes(b"".join(bytes(c) for c in tensor_files.chunks(arrays)))
    return path


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def test_files_are_what_safetensors_itself_reads_and_writes(tmp_path):
    found = safetensors.numpy.load_file(written(tmp_path / "x"))
    assert set(found) == set(ARRAYS)
    assert all((found[k] == v).all() and found[k].dtype == v.dtype for k, v in ARRAYS.items())
    plain = {k: v.copy(order="C") for k, v in ARRAYS.items()}
    safetensors.numpy.save_file(plain, tmp_path / "y", metadata={"format": "np"})
    assert checkpoints.tensors_digest(tensor_files.read(tmp_path / "y")) == (
        checkpoints.tensors_digest(ARRAYS))


@pytest.mark.parametrize("size", [0, 1 << 16, (1 << 16) + 1, 1 << 20])  # about the block's size
def test_what_is_written_is_read_and_hashed(tmp_path, size):
    arrays = {"w": np.random.default_rng(1).standard_normal(size, np.float32)}
    path = written(tmp_path / "x", arrays)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found = tensor_files.read(path, sha256=sha256)
    assert (found["w"] == arrays["w"]).all() and found["w"].flags.writeable
    with pytest.raises(DataError, match="x does not match its SHA-256"):
        tensor_files.read(path, sha256="")


def entry(**changed):
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


@pytest.mark.parametrize("data", [
    b"", b"1234567", file_of(b"{"), file_of([]), file_of({"w": 1}), file_of({}, b"1"),
    file_of(b"{}", length=3), file_of(b"[" * 100_000),
    file_of(entry(dtype="F31"), bytes(8)), file_of(entry(dtype=[]), bytes(8)),
    file_of(entry(shape=[3]), bytes(8)), file_of(entry(shape=[-1, -2]), bytes(8)),
    file_of(entry(shape=[2.0]), bytes(8)), file_of(entry(shape=[True, 2]), bytes(8)),
    file_of(entry(shape=[2, *[1] * 40]), bytes(8)), file_of(entry(shape=2), bytes(8)),
    file_of(entry(shape=[0, 2**70], data_offsets=[0, 0])), file_of(entry(), bytes(7)),
    file_of(entry(), bytes(9)), file_of(entry(data_offsets=[1, 9]), bytes(9)),
    file_of(entry(data_offsets=[8, 0]), bytes(8)), file_of(entry(data_offsets=[0]), bytes(8)),
    file_of({**entry(), "v": entry()["w"]}, bytes(8)),  # two in one place
])
def test_anything_else_is_refused(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        tensor_files.read(path)
    assert str(path) in error.value.message and error.value.message.isprintable()
    with pytest.raises((safetensors.SafetensorError, ValueError)):  # numpy's: 32 dimensions
        safetensors.numpy.load_file(path)
