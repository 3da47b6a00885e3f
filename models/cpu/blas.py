"""Matrix products inside compiled kernels: MKL's sgemm, which paddle's CPU library brings along.

One product of a small matrix is done on the thread that asks for it, while others do theirs.
`AVAILABLE` is false where paddle was built with another library.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import paddle
from llvmlite import binding
from numba import njit, types

_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112  # CBLAS


def _found() -> bool:
    path = Path(paddle.__file__).parent / "libs" / "libmklml_intel.so"
    try:
        library = ctypes.CDLL(str(path))
        for name in ("cblas_sgemm", "MKL_Set_Num_Threads_Local"):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            binding.add_symbol(f"harness_{name}", address)
    except (OSError, AttributeError):
        return False
    return True


AVAILABLE = _found()

_int, _pointer = types.int32, types.int64
_sgemm = types.ExternalFunction("harness_cblas_sgemm", types.void(
    _int, _int, _int, _int, _int, _int, types.float32, _pointer, _int, _pointer, _int,
    types.float32, _pointer, _int,
))
# Threads of MKL for this thread's calls; returns what was set, 0 for what all threads have.
set_threads = types.ExternalFunction("harness_MKL_Set_Num_Threads_Local", _int(_int))


@njit(inline="always")
def product(a, b, out, rows, columns, inner, transpose_a, transpose_b):
    """out [rows, columns] = a [rows, inner] b [inner, columns], either transposed as asked.

    a, b and out are (address, floats from one row to the next) of float32 matrices, row by row.
    """
    _sgemm(
        _ROW_MAJOR, _TRANSPOSED if transpose_a else _PLAIN, _TRANSPOSED if transpose_b else _PLAIN,
        rows, columns, inner, 1.0, a[0], a[1], b[0], b[1], 0.0, out[0], out[1],
    )
