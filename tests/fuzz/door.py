"""What a door is: a reader of files that others may have made, and what is asked of it.

The contract: the reader returns, or raises a `HarnessError` of one printable line, within
`SECONDS` of the processor's time and `BYTES` of memory. Whatever else happens is a finding.
"""

from __future__ import annotations

import io
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import HarnessError

SECONDS, BYTES = 2.0, 500 << 20  # as tests/faults/test_hostile.py
WRITTEN = Path(__file__).parents[1] / "corpus" / "c03ee96"  # what an earlier commit wrote


@dataclass(frozen=True)
class Door:
    """`read(path)` of a file called `name`; `seeds`: sound files; `form`: how they are changed."""

    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    form: str = "bytes"  # one of tests.fuzz.mutations.FORMS
    name: str = "file"  # where the file lies below the place that `prepare` fills
    prepare: Callable[[Path], object] = lambda place: None
    repair: Callable[[bytes], bytes] = bytes  # digests that a changed file has to fit


def enter(door: Door, place: Path) -> None:
    """Put into the empty directory `place` what has to lie around the door's file."""
    door.prepare(place)
    (place / door.name).parent.mkdir(parents=True, exist_ok=True)


def knock(door: Door, place: Path, data: bytes) -> str | None:
    """What the door says of a file of these bytes: a refusal, or None; AssertionError otherwise."""
    (place / door.name).write_bytes(data)
    return read(door, place / door.name)


def read(door: Door, path: Path) -> str | None:
    """`knock` of whatever is at `path`."""
    began, said = time.process_time(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door.read(path)
    except HarnessError as error:
        said = str(error)
        assert said.isprintable() and len(said) < 3100, f"an odd message: {said!r}"
    seconds = time.process_time() - began
    assert seconds < SECONDS, f"it took {seconds:.1f} s"
    return said


def made(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def written(*parts: str) -> Callable[[], list[bytes]]:
    """The one file of `WRITTEN` by this path, as a door's seeds."""
    return lambda: [WRITTEN.joinpath(*parts).read_bytes()]


def zipped(file: io.BytesIO, parts: dict[str, bytes], compression: int) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
