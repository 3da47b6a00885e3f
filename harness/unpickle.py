"""An unpickler that admits arrays, strings and plain containers, and nothing else.

`.npy` object arrays, `.pdparams` and torch's `.pth` are pickles: an ordinary
unpickler runs whatever code the file names. This one resolves a fixed list of
names and refuses every other, so a hostile file cannot run code.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import DataError


def _reconstruct(*args: Any) -> Any:
    """numpy's own `_reconstruct`, restricted to ndarray itself."""
    import numpy as np

    if not args or args[0] is not np.ndarray:
        raise pickle.UnpicklingError("an array subclass")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _admitted() -> dict[tuple[str, str], Any]:
    import numpy as np

    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): dict,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        names[(f"{core}.multiarray", "_reconstruct")] = _reconstruct
        names[(f"{core}.multiarray", "scalar")] = _scalar
    names[("numpy", "ndarray")] = np.ndarray
    names[("numpy", "dtype")] = _dtype
    return names


def _dtype(*args: Any) -> Any:
    import numpy as np

    if not args or not isinstance(args[0], str) or len(args[0]) > 16:
        raise pickle.UnpicklingError("a structured dtype")
    return np.dtype(args[0])


def _scalar(dtype: Any, data: bytes = b"") -> Any:
    import numpy as np

    if not isinstance(dtype, np.dtype) or dtype.hasobject or len(data) != dtype.itemsize:
        raise pickle.UnpicklingError("a scalar of objects")
    return np.frombuffer(data, dtype=dtype)[0]


def _latin1(text: str, encoding: str) -> bytes:
    """Protocol 2 pickles carry bytes as `_codecs.encode(text, 'latin1')`."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("an encoding")
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Resolves the names in `_admitted()` (and `extra`), refuses every other.

    `persistent` resolves persistent ids (torch keeps its tensors' bytes under them).
    """

    def __init__(
        self, file: Any, extra: dict[tuple[str, str], Any] | None = None,
        persistent: Callable[[Any], Any] | None = None,
    ):
        super().__init__(file, encoding="latin1")
        self._names = {**_admitted(), **(extra or {})}
        self._persistent = persistent

    def persistent_load(self, identity: Any) -> Any:
        if self._persistent is None:
            raise pickle.UnpicklingError("a persistent id")
        return self._persistent(identity)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load(
    file: Any, path: Path | str, extra: dict[tuple[str, str], Any] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Unpickle `file` (named `path` in errors); DataError for anything not admitted."""
    try:
        return ArrayUnpickler(file, extra, persistent).load()
    except MemoryError:
        raise DataError(f"{path} asks for more memory than there is") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply") from None
    except Exception as error:  # a hostile pickle can raise anything at all
        raise DataError(
            f"{path} is not a plain pickle of arrays and strings: {error}",
            remedy="get the file again from where it was made",
        ) from error


def load_object_array(data: io.BytesIO, path: Path | str) -> list[Any]:
    """The elements of a pickled one-dimensional object array of strings and arrays."""
    import numpy as np

    array = load(data, path)
    if not isinstance(array, np.ndarray) or array.dtype != object or array.ndim != 1:
        raise DataError(f"{path} is not a one-dimensional object array")
    elements = list(array)
    for element in elements:
        plain = isinstance(element, np.ndarray) and not element.dtype.hasobject
        if not plain and not isinstance(element, str):
            raise DataError(f"{path} holds a {type(element).__name__}, expected text or an array")
    return elements
