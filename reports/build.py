"""From runs to a report: its tables, then its files, written so that none is ever half there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError, UsageError
from harness.base.wording import shown
from reports.reading import run_records as reading
from reports.reading.run_records import Record
from reports.tables import comparison_tables
from reports.tables import history as nightly
from reports.tables.report import Report

MANIFEST = "report.json"
SCHEMA = 1


def build(
    runs: Any = None, *, reference: str | Path | None = None, price: float | None = None,
    history: Path | None = None,
) -> Report:
    """Read the runs (as `reports.load` takes them) and make every table.

    `reference`: label or path of the run that ratios are against; the first if None.
    """
    found = reading.read(runs)
    if not found:
        raise UsageError("there is no run to report on", remedy="name one, or train one first")
    base = _reference(found, reference)
    columns = comparison_tables.columns_of(found)
    comparison = comparison_tables.comparison(found, columns)
    ratios, apart = comparison_tables.ratios(found, columns, comparison, base)
    made = {
        "comparison": comparison,
        "ratios": ratios,
        "not_like_for_like": apart,
        "evaluations": comparison_tables.evaluations(found),
        "projection": comparison_tables.projection(found, comparison, price),
        "seeds": comparison_tables.over_seeds(found, columns, comparison),
        "differences": comparison_tables.differences(found),
        "protocols": comparison_tables.protocol_entries(found),
    }
    nights = nightly.read(history) if history else None
    if nights:
        made["history"], made["changes"] = nights.figures, nights.changes
    return Report(found, base, columns, made, comparison_tables.seed_groups(found), nights)


def _reference(found: list[Record], wanted: str | Path | None) -> Record:
    if wanted is None:
        return found[0]
    path = Path(wanted).resolve()
    for record in found:
        if record.label == shown(wanted) or record.run.directory.resolve() == path:
            return record
    raise UsageError(
        f"--reference {wanted} is not among the runs of this report",
        remedy=f"choose one of {', '.join(record.label for record in found[:20])}",
    )


def contents(report: Report) -> dict[str, bytes]:
    """Every file of the report: name -> content; the one to open comes last."""
    from reports.output import html, markdown

    made = {
        f"{name}.csv": table.to_csv(index=False, lineterminator="\n").encode()
        for name, table in report.tables.items()
    }
    made |= markdown.files(report)
    made["report.html"] = html.page(report).encode()
    return made


def write(made: dict[str, bytes], out: Path) -> Path:
    """Write the files into `out`, each atomically, and return the path of the last.

    Files of an earlier report there are replaced, or removed if this one has no
    such file; any other file is left alone, and if one is in the way nothing is
    written (UsageError). EnvironmentFault if `out` cannot be written.
    """
    earlier = _earlier(out)
    with files.writing(out):
        out.mkdir(parents=True, exist_ok=True)
        foreign = [name for name in made if name not in earlier and (out / name).exists()]
    if foreign:
        raise UsageError(
            f"{out / foreign[0]} exists and is not of an earlier report",
            remedy="give another -o DIR; nothing there was touched",
        )
    with _writer(out, {*earlier, *made, MANIFEST}):
        _replace(out, earlier, made)
    return out / list(made)[-1]


def _replace(out: Path, earlier: dict[str, str], made: dict[str, bytes]) -> None:
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    # The union first: whatever happens in between, every file of ours stays known as ours.
    _write_manifest(out, {**earlier, **listed})
    for name, content in made.items():
        files.atomic_write_bytes(out / name, content)
    for name in earlier.keys() - made.keys():
        with files.writing(out / name):
            (out / name).unlink(missing_ok=True)
    _write_manifest(out, listed)


@contextlib.contextmanager
def _writer(out: Path, names: Iterable[str]) -> Iterator[None]:
    """Without what a killed writer of these files left hidden in `out`, unless another writes."""
    handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # others write, or this file system has no such locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in [path for name in names for path in files.leftovers(out / name)]:
                left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _earlier(out: Path) -> dict[str, str]:
    if not (out / MANIFEST).is_file():
        return {}
    manifest = files.read_json(out / MANIFEST)
    files.refuse_newer(manifest, SCHEMA, out / MANIFEST)
    names = manifest.get("files") if isinstance(manifest, dict) else None
    if (
        not isinstance(names, dict) or manifest.get("schema") != SCHEMA
        or any(Path(name).name != name for name in names)
    ):
        raise DataError(
            f"{out / MANIFEST} is not a report's list of files", remedy="give another -o DIR"
        )
    return names


def _write_manifest(out: Path, listed: dict[str, str]) -> None:
    text = json.dumps({"schema": SCHEMA, "files": listed}, indent=2)
    files.atomic_write_bytes(out / MANIFEST, text.encode() + b"\n")
