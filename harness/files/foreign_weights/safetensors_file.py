"""Read a safetensors file, and tell whose layout it is in."""

from __future__ import annotations

from pathlib import Path

from harness.files import tensor_files
from harness.files.foreign_weights import Tensors


def read(path: Path) -> Tensors:
    """The tensors in `path`; DataError if the file is broken.

    ppdiffusers marks its own files with the metadata format "pd"; any other is in torch's layout.
    """
    arrays, metadata = tensor_files.read_all(path)
    return Tensors(arrays, "paddle" if metadata.get("format") == "pd" else "torch")
