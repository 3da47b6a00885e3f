"""paddle.save's files, read without paddle."""

import os
import pickle

import numpy as np
import paddle
import pytest

from harness.base.errors import DataError
from harness.files.foreign_weights import pdparams


def test_state_dict(tmp_path):
    layer = paddle.nn.Linear(3, 2)
    paddle.save(layer.state_dict(), str(tmp_path / "x.pdparams"))
    found = pdparams.read(tmp_path / "x.pdparams")
    assert found.layout == "paddle" and list(found.arrays) == ["weight", "bias"]
    assert np.array_equal(found.arrays["weight"], layer.weight.numpy())


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pairs_and_protocols(tmp_path, protocol):
    layer = paddle.nn.Linear(3, 2)
    # a nested value makes paddle.save keep tensors as (name, array) pairs
    paddle.save({"w": layer.weight, "b": [1]}, str(tmp_path / "x"), protocol=protocol)
    with pytest.raises(DataError, match="'b' is not"):
        pdparams.read(tmp_path / "x")
    with open(tmp_path / "y", "wb") as file:
        pickle.dump({"w": ("linear_0.w_0", layer.weight.numpy())}, file, protocol)
    assert pdparams.read(tmp_path / "y").arrays["w"].shape == (3, 2)


def test_bfloat16_is_read_as_its_values(tmp_path):
    values = paddle.to_tensor([1.0, -2.5, 3e10, 1e-30])
    paddle.save({"a": values.astype("bfloat16")}, str(tmp_path / "x"))
    found = pdparams.read(tmp_path / "x").arrays["a"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values.numpy(), rtol=2**-8)


class _Mkdir:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_is_never_run(tmp_path):
    (tmp_path / "x").write_bytes(pickle.dumps({"a": _Mkdir(str(tmp_path / "made"))}))
    with pytest.raises(DataError, match="it asks for"):
        pdparams.read(tmp_path / "x")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}, {3: np.ones(2)},
                                     {"a": np.array([None])}, {"UnpackBigParamInfor@@": {}}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match="x"):
        pdparams.read(tmp_path / "x")


def test_a_torn_file_is_refused(tmp_path):
    data = pickle.dumps({"a": np.ones(1000, np.float32)}, 4)
    (tmp_path / "x").write_bytes(data[:2000])
    with pytest.raises(DataError):
        pdparams.read(tmp_path / "x")
