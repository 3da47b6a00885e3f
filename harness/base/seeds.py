"""Randomness as a pure function of (seed, purpose, index), never a stream.

A value drawn for training sample 1,234 or for the noise of evaluation sample 7
depends on nothing but its own key, so it is the same for any number of workers
or devices, any batch size, and after any number of resumes; there is no
generator state to save.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def key(seed: int, purpose: str, *index: int) -> bytes:
    """SHA-256 of (seed, purpose, index): 32 bytes, unambiguous for any ints and text."""
    label = purpose.encode()
    message = struct.pack(f"<qI{len(label)}s{len(index)}q", seed, len(label), label, *index)
    return hashlib.sha256(message).digest()


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A numpy Philox generator keyed by `key(seed, purpose, *index)`.

    Philox4x64 takes a 128-bit key: the first 16 bytes of the digest
    (Salmon et al. 2011, 'Parallel random numbers: as easy as 1, 2, 3').
    Equal arguments give equal streams on every machine and numpy >= 1.17.
    """
    import numpy as np

    words = np.frombuffer(key(seed, purpose, *index)[:16], dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=words))
