"""What the names that a pickle may use stand for here: arrays, dtypes, plain containers."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_DTYPE = re.compile(r"[<>|=]?(\?|[biufc]\d{1,2}|[SU]\d{1,7}|O8?)")


class Function:
    """What an admitted name resolves to. Frozen: BUILD on a plain function could change it."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any] | None):
        object.__setattr__(self, "call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class OrderedMapping(dict):
    """An OrderedDict of the file; torch's state dicts carry attributes, which are dropped."""


class Array(np.ndarray):
    """An array whose state has not been set (`complete` is absent), or has."""


class Dtype:
    """A numeric, text or object dtype: its name, and its byte order once BUILD has said it."""

    __slots__ = ("dtype",)

    def __init__(self, text: Any, align: Any = False, copy: Any = False):
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise pickle.UnpicklingError("a dtype that is neither numbers, text nor objects")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> None:
        if type(state) is not tuple or not 5 <= len(state) <= 9 or state[2:5] != (None,) * 3:
            raise pickle.UnpicklingError("a structured dtype")
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


NDARRAY = Function(None)


def no_bytes() -> bytes:
    """Protocol 2 pickles carry empty bytes as `bytes()`."""
    return b""


def reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if kind is not NDARRAY:
        raise pickle.UnpicklingError("an array subclass")
    return np.ndarray.__new__(Array, (0,), "b")


def scalar(described: Any, data: Any = b"") -> Any:
    if type(described) is not Dtype or described.dtype.hasobject:
        raise pickle.UnpicklingError("a scalar of objects")
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, bytes) or not 0 < len(data) == described.dtype.itemsize:
        raise pickle.UnpicklingError("a scalar of another size")
    return np.frombuffer(data, dtype=described.dtype)[0]
