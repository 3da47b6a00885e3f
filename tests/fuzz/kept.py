"""Inputs that once reached code which no other did, or broke a reader: `corpus/DOOR.zip`.

A file for each door: as thousands of little files they would be most of the repository's.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.fuzz.door import Door, made, zipped

FOLDER = Path(__file__).parent / "corpus"


def inputs(name: str, door: Door) -> list[bytes]:
    """The door's sound files, then the kept ones, by name."""
    path = FOLDER / f"{name}.zip"
    if not path.exists():
        return door.seeds()
    with zipfile.ZipFile(path) as archive:
        return [*door.seeds(), *(archive.read(name) for name in sorted(archive.namelist()))]


def keep(name: str, found: dict[str, bytes]) -> None:
    """Write the door's file anew: input's name -> its bytes."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.zip").write_bytes(
        made(lambda file: zipped(file, dict(sorted(found.items())), zipfile.ZIP_DEFLATED)))
