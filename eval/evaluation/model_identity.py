"""Which VAE and which CLIP an evaluation used: digests of their folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from eval import captions as caption_lists
from eval.protocols import Protocol
from harness import files
from harness.base.errors import DataError, EnvironmentFault, UsageError


def clip_identity(
    protocol: Protocol, folder: Path | None, captions: caption_lists.CaptionList
) -> dict[str, Any] | None:
    """What a result says of the CLIP model in `folder`; None if `protocol` asks for no CLIP score.

    UsageError without a folder, DataError if the captions' texts are not known.
    """
    if not protocol.clip:
        return None
    if folder is None:
        raise UsageError(
            f"protocol {protocol.name} measures the CLIP score", remedy="give --clip DIR"
        )
    if captions.texts is None:
        raise DataError(
            f"{captions.split.directory}/captions.jsonl does not say the captions' texts",
            remedy="the CLIP score needs them; evaluate without --clip",
        )
    return {"sha256": folder_digest(folder, "CLIP", "--clip")}


def folder_digest(folder: Path, what: str, option: str) -> str:
    """SHA-256 over names and contents of the files in `folder`; EnvironmentFault if missing."""
    if not folder.is_dir():
        raise EnvironmentFault(
            f"the {what} folder {folder} is missing",
            remedy=f"give {option} DIR: a folder with config.json and weights",
        )
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != "."):
        digest.update(os.fsencode(f"{path.name}\0{files.sha256_file(path)}\n"))
    return digest.hexdigest()
