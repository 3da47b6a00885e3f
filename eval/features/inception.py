"""Inception features: pytorch-fid's InceptionV3 in torch's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.features.inception_weights import find_weights, is_official
from eval.features.torch_process import TorchFeatures
from harness import files

SIZE = 2048
BATCH_SIZE = 50


class InceptionFeatures(TorchFeatures):
    """pool3 features of pytorch-fid's InceptionV3.

    `official`: whether the weights are the published file's. Other weights give other distances,
    so those are not called FID (`metric`).
    """

    def __init__(self, weights: Path | str | None = None, *, batch_size: int = BATCH_SIZE):
        found = find_weights(weights)
        super().__init__(
            "inception", found, sha256=files.sha256_file(found), size=SIZE, batch_size=batch_size
        )
        self.official = is_official(self.sha256)

    @property
    def metric(self) -> str:
        return "fid" if self.official else "fid_unofficial_weights"

    def describe(self) -> dict[str, Any]:
        """What a protocol says of the features."""
        return {
            "network": "pytorch-fid InceptionV3 pool3", "size": self.size, "sha256": self.sha256,
            "official": self.official,
        }
