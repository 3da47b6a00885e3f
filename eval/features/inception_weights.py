"""The Inception weights: which file is the published one, where pytorch-fid looks, fetching it."""

from __future__ import annotations

import os
from pathlib import Path

from eval.features import published_files
from eval.features.published_files import File
from harness.base.errors import EnvironmentFault

FILE_NAME = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE_NAME}"
# torch.hub's convention: the file's name ends in the first eight digits of its SHA-256.
OFFICIAL_SHA256_PREFIX = "6726825d"


def weights_path() -> Path:
    """Where torch.hub, and so pytorch-fid, looks for the weights."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints" / FILE_NAME


def find_weights(path: Path | str | None = None) -> Path:
    """`path`, or the weights where torch.hub has them; EnvironmentFault if they are missing."""
    found = Path(path) if path else weights_path()
    if not found.is_file():
        raise EnvironmentFault(
            f"the Inception weights are missing: {found}",
            remedy="`harness fetch inception` downloads them there; without a network, "
            f"`harness fetch inception --from FILE` with {URL}",
        )
    return found


def fetch(source: Path | None = None, *, url: str = URL) -> Path:
    """Put the weights in place, from `source` or by download; returns their path.

    What is there already and right is left alone. DataError if a file's SHA-256 is not the
    published one's, EnvironmentFault without a network or on a full disk.
    """
    target, file = weights_path(), File(FILE_NAME, None, OFFICIAL_SHA256_PREFIX)
    published_files.put(
        file, target, url=url, source=source,
        remedy="fetch the file elsewhere and give it with --from FILE",
    )
    return target


def is_official(sha256: str) -> bool:
    """Whether this is the SHA-256 (hex) of the published file."""
    return sha256.startswith(OFFICIAL_SHA256_PREFIX)
