"""An unpickler that admits arrays, strings and plain containers, and nothing else.

`.npy` object arrays, `.pdparams` and torch's `.pth` are pickles: an ordinary
unpickler runs whatever code the file names. This one has four walls:

- names: a fixed list is resolved, to functions of ours; every other is refused;
- operations: only those that arrays and containers need, a bounded number of them,
  each applied only to a value that it is meant for;
- numpy's own `__setstate__` never sees unchecked state: `dtype.__setstate__` takes
  flags on trust, and an object dtype without its object flag makes pointers of bytes;
- memory: nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from harness.base.errors import DataError
from harness.files import pickle_values as values

Names = Mapping[tuple[str, str], Any]

# A state dict of 1,000 tensors takes 30,000 operations.
MAX_OPERATIONS = 300_000
# Left out on purpose: everything that calls a class (INST, OBJ, NEWOBJ), the
# extension registry, sets (hashing a deep tuple overflows the C stack), and the
# text operations of protocol 0.
_OPERATIONS = (
    "PROTO STOP FRAME MARK GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 "
    "BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS DICT BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE "
    "BINPERSID"
).split()


class _Counted:
    """Pickle's table of operations, restricted, and counting."""

    def __init__(self) -> None:
        self._left = MAX_OPERATIONS
        codes = (getattr(pickle, name)[0] for name in _OPERATIONS)
        self._handlers = {code: ArrayUnpickler.dispatch[code] for code in codes}

    def __getitem__(self, code: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_OPERATIONS} operations")
        handler = self._handlers.get(code)
        if handler is None:
            raise pickle.UnpicklingError(f"operation {bytes([code])!r} is not admitted")
        return handler


class _Bounded:
    """A file that refuses to be asked for more than it holds, before memory is taken."""

    def __init__(self, file: Any):
        self._file = file
        at = file.tell()
        self.left = file.seek(0, io.SEEK_END) - at
        file.seek(at)

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise pickle.UnpicklingError("it is truncated")
        self.left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(1000)  # names of modules and classes
        self.left -= len(line)
        return line


# The C unpickler keeps its memo in an array, so that ten bytes (`PUT 2**31`) make it
# take 34 GB; this one, the standard library's own in Python, keeps it in a dict.
class ArrayUnpickler(pickle._Unpickler):
    """Resolves a fixed list of names (and `extra`), refuses every other.

    `persistent` resolves persistent ids (torch keeps its tensors' bytes under them).
    """

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(
        self, file: Any, extra: Names | None = None,
        persistent: Callable[[Any], Any] | None = None,
    ):
        bounded = _Bounded(file)
        # Every array's bytes stand in the file once; a value used a thousand times is a bomb.
        self._budget = 4 * bounded.left + 1024
        super().__init__(bounded, encoding="latin1")
        self._names = {**self._admitted(), **{k: _frozen(v) for k, v in (extra or {}).items()}}
        self._persistent = persistent
        self.dispatch = _Counted()

    def persistent_load(self, identity: Any) -> Any:
        if self._persistent is None:
            raise pickle.UnpicklingError("a persistent id")
        return self._persistent(identity)

    def _admitted(self) -> dict[tuple[str, str], values.Function]:
        names = {
            ("collections", "OrderedDict"): values.Function(values.OrderedMapping),
            ("_codecs", "encode"): values.Function(self._latin1),
            ("__builtin__", "bytes"): values.Function(values.no_bytes),
            ("numpy", "ndarray"): values.NDARRAY,
            ("numpy", "dtype"): values.Function(values.Dtype),
        }
        for core in ("numpy.core", "numpy._core"):
            names[(f"{core}.multiarray", "_reconstruct")] = values.Function(values.reconstruct)
            names[(f"{core}.multiarray", "scalar")] = values.Function(values.scalar)
        return names

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def spend(self, count: int) -> None:
        """Count bytes that are made from the file's; UnpicklingError if it cannot hold them."""
        self._budget -= count
        if self._budget < 0:
            raise pickle.UnpicklingError("it unpacks to more than it holds")

    def _latin1(self, text: str, encoding: str) -> bytes:
        """Protocol 2 pickles carry bytes as `_codecs.encode(text, 'latin1')`."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("an encoding")
        self.spend(len(text))
        return text.encode("latin1")

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if type(function) is not values.Function or function.call is None:
            raise pickle.UnpicklingError(f"it calls a {type(function).__name__}")
        if type(arguments) is not tuple or (function.call is values.OrderedMapping and arguments):
            raise pickle.UnpicklingError("it calls with odd arguments")
        # Copies of one long list, made over and over, would take any amount of memory.
        self.spend(sum(len(a) for a in arguments if isinstance(a, str | bytes | list | tuple)))
        self.stack[-1] = function.call(*arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is values.Array:
            self._build_array(target, state)
        elif type(target) is values.Dtype:
            target.build(state)
        elif type(target) is not values.OrderedMapping:
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}")

    def _build_array(self, array: values.Array, state: Any) -> None:
        if hasattr(array, "complete") or type(state) is not tuple or len(state) != 5:
            raise pickle.UnpicklingError("an array with an odd state")
        _, shape, described, fortran, raw = state
        if type(described) is not values.Dtype or type(shape) is not tuple or len(shape) > 32:
            raise pickle.UnpicklingError("an array with an odd shape or dtype")
        if any(type(size) is not int or size < 0 for size in shape):
            raise pickle.UnpicklingError("an array with an odd shape")
        dtype, count = described.dtype, math.prod(shape)
        kind, length = (list, count) if dtype.hasobject else (bytes, count * dtype.itemsize)
        raw = self._latin1(raw, "latin1") if kind is bytes and type(raw) is str else raw
        if type(raw) is not kind or len(raw) != length or not dtype.itemsize:
            raise pickle.UnpicklingError("an array with too much or too little content")
        self.spend(count * dtype.itemsize)
        np.ndarray.__setstate__(array, (1, shape, dtype, bool(fortran), raw))
        array.complete = True

    def load_append(self) -> None:
        value = self.stack.pop()
        _of(list, self.stack[-1]).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        _of(list, self.stack[-1]).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _of(dict, self.stack[-1])[_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(_of(dict, self.stack[-1]), items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    def _fill(self, target: dict, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
    }


def _frozen(value: Any) -> Any:
    return values.Function(value) if callable(value) else value


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"it fills a {type(value).__name__}")
    return value


def _key(value: Any) -> Any:
    # Hashing a tuple nested deeply overflows the C stack.
    if not isinstance(value, str | int):
        raise pickle.UnpicklingError(f"a dict's key is a {type(value).__name__}")
    return value


def load(
    file: Any, path: Path | str, extra: Names | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Unpickle `file` (named `path` in errors); DataError for anything not admitted.

    `file` is open for reading bytes and can seek. Numpy arrays come as `numpy.ndarray`
    (or a subclass without behaviour), an OrderedDict as a dict. `extra`: more names, (module,
    name) -> a function that is safe for any arguments, or a value. `persistent`: what a
    persistent id stands for.
    """
    try:
        return ArrayUnpickler(file, extra, persistent).load()
    except MemoryError:
        raise DataError(f"{path} asks for more memory than there is") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply") from None
    except Exception as error:  # a hostile pickle can raise anything at all
        raise DataError(
            f"{path} is not a plain pickle of arrays and strings: {_printable(error)}",
            remedy="get the file again from where it was made",
        ) from error


def _printable(error: Exception) -> str:
    """The message, short and without control characters: the file may have written it."""
    text = str(error) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode().translate(_CONTROL)[:200]


_CONTROL = dict.fromkeys([*range(32), 127], "?")


def load_object_array(data: Any, path: Path | str) -> list[Any]:
    """The elements of a pickled one-dimensional object array of strings and arrays."""
    array = load(data, path)
    if not isinstance(array, np.ndarray) or array.dtype != object or array.ndim != 1:
        raise DataError(f"{path} is not a one-dimensional object array")
    elements: list[Any] = []
    for element in array:
        if isinstance(element, np.ndarray) and not element.dtype.hasobject:
            elements.append(np.asarray(element))
        elif isinstance(element, str):  # np.str_ is one
            elements.append(str(element))
        else:
            raise DataError(
                f"{path} holds a {type(element).__name__}, expected text or an array"
            )
    return elements
