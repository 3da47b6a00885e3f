"""Files that attack their reader: code to run, memory to take, time to waste, paths to escape.

`CASES`: name -> (kind of file, function that writes it given a path and the canary's path).
Each must be refused with a DataError; none may make the canary, take 500 MB or 2 seconds.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness import files

CASES: dict[str, tuple[str, Callable[[Path, str], None]]] = {}


def case(kind: str):
    def register(make):
        CASES[make.__name__] = (kind, make)
        return make

    return register


class Runs:
    """Unpickled by an ordinary unpickler, it runs a shell command."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def npy(body: bytes, *, dtype: str = "'|O'", shape: str = "(2,)", version: int = 1) -> bytes:
    """An .npy of this header and body; nothing is checked."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def array_pickle(dtype: bytes, shape: bytes, raw: bytes, *, build_dtype: bytes = b"") -> bytes:
    """A pickle of one array, made of these opcodes."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01" + shape + b"cnumpy\ndtype\n" + dtype + build_dtype + b"\x89" + raw + b"tb."
    )


BOMB = 300 << 20
F4 = b"X\x02\x00\x00\x00f4\x89\x88\x87R"
O8 = b"X\x02\x00\x00\x00O8\x89\x88\x87R"


@case("object_npy")
def pickle_that_runs_a_command(path, canary):
    path.write_bytes(npy(pickle.dumps(Runs(os.system, f"touch {canary}"))))


@case("object_npy")
def pickle_that_evaluates(path, canary):
    path.write_bytes(npy(pickle.dumps(Runs(eval, f"open({canary!r}, 'w')"))))


@case("object_npy")
def pickle_inside_an_object_array(path, canary):
    entry = np.empty(2, dtype=object)
    entry[:] = ["a cat", Runs(os.system, f"touch {canary}")]
    np.save(path, entry, allow_pickle=True)


@case("pdparams")
def pdparams_that_runs_a_command(path, canary):
    path.write_bytes(pickle.dumps({"w": Runs(os.system, f"touch {canary}")}, protocol=4))


@case("pdparams")
def pdparams_by_way_of_getattr(path, canary):
    path.write_bytes(
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x05numpy\x8c\x07ndarray\x93"
        b"\x8c\x09__class__\x86R.")


@case("pdparams")
def pdparams_with_a_dotted_name(path, canary):
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x14ndarray.__subclasses\x93)R.")


@case("pdparams")
def pdparams_with_a_class_instruction(path, canary):
    path.write_bytes(b"(S'touch " + canary.encode() + b"'\nios\nsystem\n.")


@case("pdparams")
def pdparams_that_changes_an_admitted_function(path, canary):
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__"
                     b"K\x01\x85s\x86b.")


@case("pdparams")
def array_of_forged_pointers(path, canary):
    # An object dtype whose flags say that it holds no objects: its raw bytes become pointers.
    flags = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"C\x08" + struct.pack("<Q", 0x4141414141414141)
    path.write_bytes(array_pickle(O8, b"K\x01\x85", raw, build_dtype=flags))


@case("pdparams")
def memo_of_34_gigabytes(path, canary):
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")


@case("pdparams")
def bytes_of_a_terabyte(path, canary):
    path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.")


@case("pdparams")
def frame_of_a_terabyte(path, canary):
    path.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.")


@case("pdparams")
def array_of_a_terabyte(path, canary):
    path.write_bytes(array_pickle(F4, b"\x8a\x06" + struct.pack("<Q", 1 << 38)[:6] + b"\x85",
                                  b"C\x04\0\0\0\0"))


@case("pdparams")
def empty_ndarray_of_a_terabyte(path, canary):
    path.write_bytes(b"\x80\x02cnumpy\nndarray\n\x8a\x06" + struct.pack("<Q", 1 << 38)[:6]
                     + b"\x85\x85R.")


@case("pdparams")
def one_text_encoded_a_thousand_times(path, canary):
    text = b"X" + struct.pack("<I", 10 << 20) + b"x" * (10 << 20)
    latin1 = b"X\x06\x00\x00\x00latin1"
    once = b"h\x01h\x00h\x02\x86R"
    path.write_bytes(b"\x80\x02]q\x03" + text + b"q\x00" + b"c_codecs\nencode\nq\x01" + latin1
                     + b"q\x02000(" + once * 1000 + b"e.")


@case("pdparams")
def ten_million_lists(path, canary):
    path.write_bytes(b"\x80\x02" + b"]" * 10_000_000 + b".")


@case("pdparams")
def key_nested_200_000_deep(path, canary):
    path.write_bytes(b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.")


@case("pdparams")
def structured_dtype(path, canary):
    path.write_bytes(array_pickle(b"X\x05\x00\x00\x00f4,O8\x89\x88\x87R", b"K\x01\x85",
                                  b"C\x0c" + bytes(12)))


@case("npy")
def object_array_where_numbers_are_meant(path, canary):
    path.write_bytes(npy(pickle.dumps(Runs(os.system, f"touch {canary}"))))


@case("npy")
def header_of_a_terabyte(path, canary):
    path.write_bytes(npy(b"", dtype="'<f4'", shape=f"({1 << 38},)"))


@case("npy")
def header_of_more_than_there_are_atoms(path, canary):
    path.write_bytes(npy(b"", dtype="'<f4'", shape="(" + "9" * 4000 + ",)"))


@case("npy")
def header_of_negative_size(path, canary):
    path.write_bytes(npy(bytes(64), dtype="'<f4'", shape="(-4, -4)"))


@case("npy")
def header_of_empty_items(path, canary):
    path.write_bytes(npy(b"", dtype="'|V0'", shape=f"({1 << 60},)"))


@case("npy")
def header_of_four_gigabytes(path, canary):
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF))
        file.truncate(4 << 30)  # sparse


@case("npy")
def header_nested_deeply(path, canary):
    path.write_bytes(npy(b"", dtype="(" * 3000 + ")" * 3000))


@case("npy")
def a_pipe_that_never_speaks(path, canary):
    os.mkfifo(path)


def npz(path: Path, members: dict[str, bytes], *, compression=zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def saved(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@case("npz")
def zip_bomb(path, canary):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("mu.npy", "w", force_zip64=True) as member:
            member.write(npy(b"", dtype="'<f8'", shape=f"({BOMB // 8},)"))
            for _ in range(BOMB >> 20):
                member.write(bytes(1 << 20))
        archive.writestr("sigma.npy", saved(np.zeros((1, 1))))


@case("npz")
def zip_bomb_that_lies_about_its_size(path, canary):
    zip_bomb(path, canary)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("mu.npy").file_size
    data = path.read_bytes()
    for form in ("<I", "<Q"):
        data = data.replace(struct.pack(form, size), struct.pack(form, 1000))
    path.write_bytes(data)


@case("npz")
def names_that_climb(path, canary):
    npz(path, {f"../../{canary}": b"x", "../mu.npy": saved(np.zeros(2)), canary: b"x"})


@case("npz")
def npz_of_objects(path, canary):
    entry = np.empty(1, dtype=object)
    entry[0] = Runs(os.system, f"touch {canary}")
    npz(path, {"mu.npy": saved(entry, allow_pickle=True), "sigma.npy": saved(np.zeros((1, 1)))})


@case("npz")
def npz_with_a_flipped_bit(path, canary):
    npz(path, {"mu.npy": saved(np.arange(64.0)), "sigma.npy": saved(np.eye(64))})
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


@case("statistics")
def statistics_of_nan(path, canary):
    np.savez(path, mu=np.full(4, np.nan), sigma=np.eye(4))


@case("statistics")
def statistics_with_infinite_covariance(path, canary):
    np.savez(path, mu=np.zeros(4), sigma=np.full((4, 4), np.inf))


@case("statistics")
def statistics_with_negative_variance(path, canary):
    np.savez(path, mu=np.zeros(4), sigma=-np.eye(4))


@case("pth")
def pth_that_runs_a_command(path, canary):
    npz(path, {"m/data.pkl": pickle.dumps(Runs(os.system, f"touch {canary}"), protocol=2)},
        compression=zipfile.ZIP_STORED)


@case("pth")
def pth_that_was_saved_by_an_old_torch(path, canary):
    path.write_bytes(pickle.dumps(Runs(os.system, f"touch {canary}"), protocol=2))


@case("json")
def json_nested_deeply(path, canary):
    path.write_bytes(b"[" * 1_000_000)


@case("json")
def json_of_many_small_objects(path, canary):
    path.write_bytes(b"[" + b"{}," * (20 << 20) + b"{}]")


@case("json")
def json_with_nan(path, canary):
    path.write_bytes(b'{"step": NaN}')


@case("safetensors")
def safetensors_header_of_a_terabyte(path, canary):
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


@case("safetensors")
def safetensors_tensor_beyond_the_file(path, canary):
    text = b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@case("npy")
def header_that_does_not_end(path, canary):
    path.write_bytes(npy(b"", dtype="'<f4"))


@case("json")
def json_with_a_number_that_no_float_holds(path, canary):
    path.write_bytes(b'{"step": 1e999}')


@case("json")
def json_with_a_number_that_64_bits_do_not_hold(path, canary):
    path.write_bytes(b'{"step": 1%s}' % (b"0" * 400))


@case("log")
def step_that_64_bits_do_not_hold(path, canary):
    path.write_bytes(b'{"step": 1%s}\n' % (b"0" * 400))


@case("published")
def published_numbers_of_another_kind(path, canary):
    path.write_bytes(b'{"numbers": [7], "protocols": [], "sources": null}')


@case("packed")
def more_shards_than_there_are_atoms(path, canary):
    path.write_bytes(files.canonical_json({
        "schema": 1, "context_dtype": "float32", "moments_shape": [1, 1, 1],
        "context_shape": [1, 1], "splits": {"file": {
            "images": 2**62, "captions": 2**62, "moments_per_shard": 1, "contexts_per_shard": 1}},
    }))


@case("image")
def postscript_under_another_name(path, canary):
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
                     b"(" + canary.encode() + b") (w) file closefile\n")


def header(name: bytes, *, size: bytes = b"0", kind: bytes = b"0") -> bytes:
    """A block of tar that announces a member; its checksum is right."""
    block = name.ljust(124, b"\0") + size.ljust(12, b"\0") + bytes(20) + kind
    block = (block.ljust(257, b"\0") + b"ustar\x0000").ljust(512, b"\0")
    checksum = sum(block) + 8 * 32
    return block[:148] + b"%06o\0 " % checksum + block[156:]


def binary(size: int) -> bytes:
    """The size of a member as GNU tar writes those that octal digits do not hold."""
    return (b"\x80" if size >= 0 else b"\xff") + (size % 2**88).to_bytes(11, "big")


@case("archive")
def tar_whose_member_is_followed_by_itself(path, canary):
    path.write_bytes(header(b"a") + header(b"b.txt", size=binary(-512)) + bytes(1024))


@case("archive")
def tar_with_attributes_of_a_terabyte(path, canary):
    path.write_bytes(header(b"a", size=binary(1 << 40), kind=b"x") + bytes(1024))


@case("archive")
def tar_with_a_name_of_many_names(path, canary):
    path.write_bytes((header(b"a", size=b"1", kind=b"L") + b"a".ljust(512, b"\0")) * 3000)


@case("archive")
def tar_of_an_array_of_a_terabyte(path, canary):
    array = npy(b"", dtype="'<f4'", shape=f"({1 << 38},)")
    path.write_bytes(header(b"0.npy", size=b"%o" % len(array)) + array.ljust(512, b"\0")
                     + bytes(1024))


@case("archive")
def tar_of_a_zip_under_an_arrays_name(path, canary):
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(2))
    array = buffer.getvalue()
    path.write_bytes(header(b"0.npy", size=b"%o" % len(array))
                     + array.ljust(-(-len(array) // 512) * 512, b"\0") + bytes(1024))
