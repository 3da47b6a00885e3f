"""torch's files, written by torch itself, read without it; hostile ones refused."""

import io
import pickle
import subprocess
import sys
import zipfile
from typing import ClassVar

import numpy as np
import pytest

from harness.base.errors import DataError
from harness.files.foreign_weights import pth
from tests.weights_files import torch_saves

ARRAYS = {
    "pos_embed": np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32),
    "in_blocks.0.attn.qkv.weight": np.arange(24, dtype=np.float32).reshape(12, 2) / 7,
    "norm.bias": np.array([1.5, -2.0], np.float32),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return torch_saves(tmp_path_factory.mktemp("pth"), ARRAYS)


@pytest.mark.parametrize("name", ["nnet_ema", "parameters", "views", "strided"])
def test_every_way_of_saving_gives_the_same_bits(saved, name):
    found = pth.read(saved / f"{name}.pth")
    assert found.layout == "torch" and list(found.arrays) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert found.arrays[key].dtype == np.float32
        assert np.array_equal(found.arrays[key], array), key


def test_half_precision(saved):
    half = pth.read(saved / "half.pth").arrays
    brain = pth.read(saved / "bf16.pth").arrays
    for key, array in ARRAYS.items():
        assert np.array_equal(half[key], array.astype(np.float16))
        assert brain[key].dtype == np.float32
        np.testing.assert_allclose(brain[key], array, rtol=2**-8)


def test_it_needs_no_torch(saved):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from harness.files.foreign_weights import pth\n"
        f"path = Path({str(saved / 'nnet_ema.pth')!r})\n"
        "print(len(pth.read(path).arrays), 'paddle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]


@pytest.mark.parametrize("name, words", [("nested", "not a tensor"), ("old", "not a .*pth")])
def test_what_is_no_plain_state_dict_is_refused(saved, name, words):
    with pytest.raises(DataError, match=words):
        pth.read(saved / f"{name}.pth")


def test_a_flipped_bit_is_found(saved, tmp_path):
    data = bytearray((saved / "nnet_ema.pth").read_bytes())
    at = data.index(ARRAYS["pos_embed"].tobytes()[:16])
    data[at + 5] ^= 4
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        pth.read(tmp_path / "x.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_torn_file_is_refused(saved, tmp_path, share):
    data = (saved / "nnet_ema.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError):
        pth.read(tmp_path / "x.pth")


class _Global:
    """Pickles as a call of any function by name."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _write(path, content, storages=(), compression=zipfile.ZIP_STORED):
    """A .pth whose pickle is `content`; _Tensor objects in it become calls as torch's are."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return value.identity if isinstance(value, _Stored) else None

        def save_global(self, value, name=None):
            if value is _rebuild:
                self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            elif value is _Kind:
                self.write(b"ctorch\nFloatStorage\n")
            else:
                super().save_global(value, name)

        dispatch: ClassVar = {**pickle._Pickler.dispatch}
        dispatch[type] = save_global
        dispatch[type(lambda: 0)] = save_global

    data = io.BytesIO()
    Pickler(data, 2).dump(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x/data.pkl", data.getvalue())
        for key, raw in storages:
            archive.writestr(f"x/data/{key}", raw)
    return path


class _Kind:
    pass


class _Stored:
    def __init__(self, *identity):
        self.identity = identity


def _rebuild():
    raise AssertionError


def _tensor(offset, size, stride, count=4):
    storage = _Stored("storage", _Kind, "0", "cpu", count)
    return _Global(_rebuild, storage, offset, size, stride, False, {})


FOUR = [("0", np.arange(4, dtype="<f4").tobytes())]


def test_the_hand_made_file_is_sound(tmp_path):
    path = _write(tmp_path / "x.pth", {"a": _tensor(1, (3,), (1,))}, FOUR)
    assert pth.read(path).arrays["a"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "tensor",
    [
        _tensor(2, (3,), (1,)),
        _tensor(-1, (2,), (1,)),
        _tensor(0, (2, 2), (3, 1)),
        _tensor(3, (2,), (-1,)),
        _tensor(0, (10**9,), (0,)),
        _tensor(0, (2,), (1, 1)),
        _tensor(0, (2.0,), (1,)),
        _tensor(0, (4,), (1,), count=5),
        _tensor(0, (4,), (1,), count=-1),
        _Global(_rebuild, "no storage", 0, (1,), (1,), False, {}),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, tensor):
    path = _write(tmp_path / "x.pth", {"a": tensor}, FOUR)
    with pytest.raises(DataError, match="x.pth"):
        pth.read(path)


def test_code_is_never_run(tmp_path):
    import os

    path = _write(tmp_path / "x.pth", {"a": _Global(os.mkdir, str(tmp_path / "made"))}, FOUR)
    with pytest.raises(DataError, match="it asks for"):
        pth.read(path)
    assert not (tmp_path / "made").exists()


def test_a_bomb_is_not_unpacked(tmp_path):
    bomb = [("0", bytes(1 << 24))]
    path = _write(
        tmp_path / "x.pth", {"a": _tensor(0, (4,), (1,), 1 << 22)}, bomb, zipfile.ZIP_DEFLATED
    )
    with pytest.raises(DataError, match="compressed"):
        pth.read(path)


def test_missing_storage(tmp_path):
    with pytest.raises(DataError, match="missing"):
        pth.read(_write(tmp_path / "x.pth", {"a": _tensor(0, (4,), (1,))}))
