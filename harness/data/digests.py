"""Checksums of rows and digests of splits, whichever form the data are in.

Of the arrays' bytes (C order, little endian), not of files. Row checksums are XXH3-128 (fast
enough to check every row; they find damage, they do not withstand an attacker); the digest over
them and over the numbering is SHA-256.
"""

from __future__ import annotations

import hashlib

import numpy as np
import xxhash

from harness import files


def row_checksum(values: np.ndarray) -> bytes:
    """XXH3-128 of an array's bytes (C-contiguous), 16 bytes."""
    return xxhash.xxh3_128_digest(values)  # type: ignore[arg-type]  # it takes any buffer


def split_digest(
    moments_shape: tuple[int, ...], context_shape: tuple[int, ...], context_dtype: str,
    counts: np.ndarray, moments: np.ndarray, contexts: np.ndarray,
) -> str:
    """SHA-256 (hex) of one split: its shapes, captions of each image, and every row's checksum.

    counts int [N]; moments uint8 [N, 16]; contexts uint8 [M, 16] in order of (image, caption).
    """
    described = {
        "moments_shape": list(moments_shape), "context_shape": list(context_shape),
        "context_dtype": context_dtype, "images": len(counts),
    }
    digest = hashlib.sha256(files.canonical_json(described))
    for table in (counts.astype("<i4"), moments, contexts):
        digest.update(np.ascontiguousarray(table))
    return digest.hexdigest()


def data_digest(train: str, empty: np.ndarray) -> str:
    """SHA-256 (hex) of what training reads: the train split's digest and empty_context."""
    digest = hashlib.sha256(train.encode())
    digest.update(np.ascontiguousarray(empty, "<f4"))
    return digest.hexdigest()
