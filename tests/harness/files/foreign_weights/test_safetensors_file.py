"""safetensors files of all the kinds that a pipeline's folder may hold."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from harness.base.errors import DataError
from harness.files.foreign_weights import safetensors_file

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16)}


@pytest.mark.parametrize(
    "metadata, layout",
    [(None, "torch"), ({"format": "pt"}, "torch"), ({"format": "pd"}, "paddle")],
)
def test_arrays_and_layout(tmp_path, metadata, layout):
    save_file(ARRAYS, tmp_path / "x", metadata=metadata)
    found = safetensors_file.read(tmp_path / "x")
    assert found.layout == layout
    assert {n: (a.dtype, a.tolist()) for n, a in found.arrays.items()} == {
        n: (a.dtype, a.tolist()) for n, a in ARRAYS.items()
    }


def _file(header, body=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_bfloat16(tmp_path):
    bits = (np.array([1.0, -2.5], np.float32).view(np.uint32) >> 16).astype("<u2")
    header = {"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    (tmp_path / "x").write_bytes(_file(header, bits.tobytes()))
    assert safetensors_file.read(tmp_path / "x").arrays["a"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]},
        {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "data_offsets": [0, 4]},
        "text",
    ],
)
def test_entries_that_lie(tmp_path, entry):
    (tmp_path / "x").write_bytes(_file({"a": entry}, bytes(8)))
    with pytest.raises(DataError, match="x"):
        safetensors_file.read(tmp_path / "x")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_a_data_error_at_worst(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    try:
        safetensors_file.read(path)
    except DataError:
        pass
