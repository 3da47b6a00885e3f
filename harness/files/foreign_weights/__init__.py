"""Readers of other programs' weight files: name -> numpy array, and no code is run.

They need neither torch nor paddle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Tensors:
    """Arrays by name.

    `layout` says how a Linear weight lies: "torch" [out, in], "paddle" [in, out].

    float16 stays float16; bfloat16 becomes float32, which holds it exactly.
    """

    arrays: dict[str, np.ndarray] = field(repr=False)
    layout: str
