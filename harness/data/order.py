"""The shuffled order of an epoch: which image a global sample number is of."""

from __future__ import annotations

from functools import lru_cache

from harness.base import seeds
from harness.base.errors import DataError
from harness.base.wording import counted
from harness.data.features import Split


class Sampling:
    """Which sample global number g is: a pure function of (seed, g).

    The order is reshuffled each epoch; the last partial batch of an epoch is
    dropped (official U-ViT: `drop_last=True`).
    """

    def __init__(self, split: Split, *, seed: int, global_batch_size: int):
        if len(split) < global_batch_size:
            raise DataError(
                f"{split.directory} has {counted(len(split), 'image')}, fewer than one batch of "
                f"{global_batch_size}",
                remedy="lower train.global_batch_size",
            )
        self.steps_per_epoch = len(split) // global_batch_size
        self._per_epoch = self.steps_per_epoch * global_batch_size
        self._order = lru_cache(maxsize=2)(
            lambda epoch: seeds.generator(seed, "order", epoch).permutation(len(split))
        )

    def image(self, g: int) -> int:
        """Number of the image that global sample g is of."""
        epoch, position = divmod(g, self._per_epoch)
        return int(self._order(epoch)[position])
