"""The unpickler reads what numpy, paddle and torch write, and nothing else (see tests/faults)."""

import collections
import io
import pickle
import pickletools

import numpy as np
import pytest

from harness.base.errors import DataError
from harness.files import pickle_values, unpickle


def load(data, **options):
    return unpickle.load(io.BytesIO(data), "file", **options)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_state_dicts_come_back(protocol):
    state = collections.OrderedDict(
        weight=np.arange(6, dtype=np.float32).reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        swapped=np.arange(3, dtype=">i4"), half=np.ones(2, np.float16), empty=np.zeros((0, 4)),
        text=np.array(["a", "bcd"]), number=np.float64(3.5), flag=np.array(True),
        nested={"k": [1, 2.5, None, True, (1, "x", b"y")]},
    )
    found = load(pickle.dumps(state, protocol=protocol))
    assert list(found) == list(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype.newbyteorder("=")  # numpy swaps as it reads
            assert found[name].shape == value.shape
            assert (found[name] == value).all()
        else:
            assert found[name] == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_object_arrays_come_back(protocol):
    entry = np.empty(2, dtype=object)
    entry[:] = ["a cat", np.ones((2, 3), np.float32)]
    prompt, context = unpickle.load_object_array(
        io.BytesIO(pickle.dumps(entry, protocol=protocol)), "file")
    assert prompt == "a cat" and type(context) is np.ndarray and (context == 1).all()


@pytest.mark.parametrize("value, said", [
    (np.zeros(2), "not a one-dimensional object array"),
    ([1, 2], "not a one-dimensional object array"),
    (np.array([{"a": 1}, None], dtype=object), "holds a dict"),
])
def test_other_object_arrays_are_refused(value, said):
    with pytest.raises(DataError, match=said):
        unpickle.load_object_array(io.BytesIO(pickle.dumps(value, protocol=3)), "file")


@pytest.mark.parametrize("value", [
    {1, 2}, frozenset([1]), bytearray(b"x"), 2**100000, range(3), complex(1, 2), len, object,
    np.zeros(2, dtype=[("a", "f4")]), np.datetime64("2020-01-01"), np.zeros(1, dtype="V8"),
    np.matrix([[1]]), np.ma.array([1]), pickle.PickleError("x"),
], ids=lambda value: type(value).__name__)
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match="not a plain pickle of arrays and strings"):
        load(pickle.dumps(value, protocol=4))


def test_every_operation_that_is_admitted_is_needed_or_inert():
    """The operations that call or import are three; the others only hold data."""
    admitted = set(unpickle._OPERATIONS)
    assert admitted & {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4",
                       "FROZENSET", "ADDITEMS", "EMPTY_SET", "PERSID", "DUP"} == set()
    assert admitted <= {code.name for code in pickletools.opcodes}


def test_a_dtype_cannot_lose_its_object_flag():
    """numpy itself takes the flags on trust: an object array made of bytes, pointers and all."""
    forged = np.dtype("O8", copy=True)
    forged.__setstate__((3, "|", None, None, None, -1, -1, 0))
    assert not forged.hasobject  # the hole that this is about is there
    made = pickle_values.Dtype("O8", False, True)
    made.build((3, "|", None, None, None, -1, -1, 0))
    assert made.dtype.hasobject


def test_messages_are_short_and_printable():
    evil = b"\x80\x02c" + b"x" * 500 + b"\x1b[2J\nsystem\n."
    with pytest.raises(DataError) as caught:
        load(evil)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x02", b"\x80\x02N", b"garbage", b"."])
def test_garbage_and_truncation(data):
    with pytest.raises(DataError):
        load(data)


def test_every_truncation_and_every_flipped_byte_of_a_sound_file_ends_well():
    data = pickle.dumps({"w": np.arange(4, dtype=np.float32)}, protocol=4)
    for length in range(len(data)):
        with pytest.raises(DataError):
            load(data[:length])
    for at in range(len(data)):
        for value in range(0, 256, 5):
            changed = bytearray(data)
            changed[at] = value
            try:
                load(bytes(changed))  # a changed number is still a number
            except DataError as error:
                assert error.exit_code == 4


def test_names_and_persistent_ids_that_a_reader_adds():
    data = b"\x80\x02cmine\nmake\nK\x05\x85RX\x01\x00\x00\x00kQ\x86."
    found = load(data, extra={("mine", "make"): lambda n: n + 1}, persistent=str.upper)
    assert found == (6, "K")
    with pytest.raises(DataError, match="persistent id"):
        load(data, extra={("mine", "make"): lambda n: n})
