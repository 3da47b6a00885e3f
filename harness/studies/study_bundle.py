"""A study as one archive that somebody else can check: what its tables rest on, and no weights.

    bundle.json            schema, digest of the study, commit, SHA-256 and size of every file
    study.json             the study, its configs complete
    locks/                 the versions of every stack
    cells/ID/              run.json (config, seed, fingerprint, commit), metrics.jsonl, timing.jsonl
      checkpoints/STEP/manifest.json    SHA-256 of the weights
      eval/NAME/result.json
    state/ID.json          how a cell ended
    tables/                what `harness study report` makes of them

A plain tar archive: sorted, without times or owners, so that the same study gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import files
from harness.base import fingerprint
from harness.base.errors import DataError, UsageError
from harness.cells import run_cells
from harness.studies import study_directory, study_figures, study_report
from harness.studies.study_figures import Figures

SCHEMA = 1
INDEX = "bundle.json"
MOST_BYTES = 64 << 20  # of one file that is no weights
WEIGHTS = ("model.safetensors", "ema.safetensors")
_WORD = "[A-Za-z0-9][A-Za-z0-9._+-]{0,254}"
_NAME = re.compile(
    rf"study\.json|(?:locks|tables)/{_WORD}|state/{_WORD}\.json|cells/{_WORD}/(?:run\.json"
    r"|metrics\.jsonl|timing\.jsonl|checkpoints/[0-9]{8,18}/(?:manifest\.json|state\.json"
    rf"|(?:model|ema)\.safetensors)|eval/{_WORD}/result\.json)"
)


def is_name(name: str) -> bool:
    """Whether a bundle may have a file of this name, beside its index."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def write(directory: Path, out: Path, *, weights: bool = False) -> str:
    """Write the study in `directory` as the archive `out`; its SHA-256 (hex).

    `weights`: with the model and the EMA of each cell's last checkpoint. UsageError if it is no
    study, DataError if it is broken; `out` is written whole or not at all.
    """
    found = study_figures.read(directory)
    content = dict(sorted({**_locks(), **_own(found, directory), **_tables(found)}.items()))
    large = dict(sorted(_weights(found).items())) if weights else {}
    for name in (*content, *large):
        if not is_name(name):
            raise UsageError(f"{directory}: {name} cannot be in a bundle",
                             remedy="give the cells and protocols shorter, plain names")
    for name, data in content.items():
        if len(data) > MOST_BYTES:
            raise UsageError(f"{directory}: {name} is larger than {MOST_BYTES:,} bytes")
    listed: dict[str, Any] = {name: _entry(data) for name, data in content.items()}
    listed |= {name: {"sha256": files.sha256_file(path), "size": path.stat().st_size}
               for name, path in large.items()}
    index = {"schema": SCHEMA, "study": found.study.digest, "commit": fingerprint.git_commit(),
             "files": listed}
    text = (json.dumps(index, indent=1) + "\n").encode()
    if len(text) > files.JSON_LIMIT:
        raise UsageError(f"{directory} has too many files for one bundle")
    with files.atomic_path(out) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in {INDEX: text, **content}.items():
                _add(tar, name, len(data), io.BytesIO(data))
            for name, path in large.items():
                with files.reading(path) as file:
                    _add(tar, name, listed[name]["size"], file)
    return files.sha256_file(out)


def _add(tar: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    try:
        tar.addfile(member, file)
    except ValueError as error:  # a name longer than the format has room for
        raise UsageError(f"{name} cannot be in a bundle: {error}") from error


def _entry(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def tables(found: Figures) -> dict[str, bytes]:
    """The report's files that hold nothing but figures and words: file name -> content."""
    return {**study_report.tables(found), "study.md": study_report.text(found).encode()}


def _tables(found: Figures) -> dict[str, bytes]:
    return {f"tables/{name}": data for name, data in tables(found).items()}


def _locks() -> dict[str, bytes]:
    """The locks of this checkout; an installed harness has none."""
    folder = (run_cells.CHECKOUT or Path("/nonexistent")) / "locks"
    return {f"locks/{path.name}": files.read_bytes(path) for path in sorted(folder.glob("*"))
            if path.is_file() and is_name(f"locks/{path.name}")}


def _own(found: Figures, directory: Path) -> dict[str, bytes]:
    """The study's and the cells' own small files, byte for byte."""
    paths = {"study.json": directory / "study.json"}
    for one in found.cells:
        name = one.cell.id
        paths[f"state/{name}.json"] = directory / "state" / f"{name}.json"
        where = study_directory.run_directory(directory, name)
        paths |= {f"cells/{name}/{path.relative_to(where)}": path for path in _of_run(where)}
    return {name: files.read_bytes(path) for name, path in paths.items() if path.is_file()}


def _of_run(where: Path) -> Iterator[Path]:
    yield from (where / name for name in ("run.json", "metrics.jsonl", "timing.jsonl"))
    yield from where.glob("checkpoints/[0-9]*/manifest.json")
    yield from where.glob("eval/*/result.json")


def _weights(found: Figures) -> dict[str, Path]:
    """The weights of the cells that are done."""
    made: dict[str, Path] = {}
    for one in found.cells:
        if one.record is not None:
            step = found.study.last_step(one.cell.axes)
            folder = one.record.run.checkpoint(step)
            place = f"cells/{one.cell.id}/checkpoints/{folder.name}"
            made |= {f"{place}/{name}": folder / name for name in (*WEIGHTS, "state.json")}
    return made


def read_index(data: bytes, bundle: Path) -> dict[str, Any]:
    """The index of a bundle: {files: {name: {sha256, size}}, ...}, its names and types sound."""
    index = files.parse_json(data, f"{bundle}: {INDEX}")
    files.refuse_newer(index, SCHEMA, f"{bundle}: {INDEX}")
    listed = index.get("files") if isinstance(index, dict) else None
    sound = isinstance(listed, dict) and index.get("schema") == SCHEMA and all(
        is_name(name) and isinstance(entry, dict) and isinstance(entry.get("sha256"), str)
        and type(entry.get("size")) is int for name, entry in listed.items()
    ) and "study.json" in listed
    if not sound:
        raise DataError(f"{bundle}: {INDEX} is no index of a bundle")
    return index

