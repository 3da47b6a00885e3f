"""Does a bundle hold what it says? Digests, runs that contradict themselves, tables made again."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import runs
from harness.base.errors import DataError
from harness.base.wording import counted, printable
from harness.reproduction import log_audit
from harness.reproduction.log_audit import Finding, finding
from harness.runs import checkpoints
from harness.studies import bundle_unpack, study_bundle, study_figures
from harness.studies.bundle_unpack import Opened
from harness.studies.study_figures import Figures

SCHEMA = 1
# Of a number in a table: another version of scipy may round the last digits of a quantile.
_TOLERANCE = 1e-9
# What numbers and texts in the places of others end in, where whoever reads trusts his own files.
_NOT_AS_WRITTEN = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def check(bundle: Path) -> dict[str, Any]:
    """Recompute every table of `bundle` from its raw lines, and verify every digest.

    JSON values: `findings`, each {where, what}; how much was looked at. DataError for what is no
    sound bundle.
    """
    with bundle_unpack.opened(bundle) as opened:
        findings, cells = list(_digests(opened)), 0
        try:
            found = study_figures.read(opened.directory)
            cells = sum(not one.missing for one in found.cells)
            findings += _recomputed(found, opened)
        except (DataError, *_NOT_AS_WRITTEN) as error:
            what = str(error) if isinstance(error, DataError) else (
                f"its lines are not as a harness writes them: {type(error).__name__}, {error}")
            if not findings:
                raise DataError(_plain(what, opened, bundle)) from error
            findings.append(finding("the bundle", what))
        return {
            "schema": SCHEMA, "bundle": str(bundle), "study": opened.index.get("study"),
            "commit": opened.index.get("commit"), "files": len(opened.sha256), "cells": cells,
            "findings": [{key: _plain(text, opened, bundle) for key, text in one.items()}
                         for one in findings],
        }  # fmt: skip


def _recomputed(found: Figures, opened: Opened) -> Iterator[Finding]:
    """What the study, its runs and its tables contradict each other in."""
    if found.study.digest != opened.index.get("study"):
        yield finding("study.json", "is another study than the index says")
    for cell in found.cells:
        if cell.record is not None:
            yield from _run(cell.record.run, opened)
    yield from _tables(found, opened)


def _plain(text: str, opened: Opened, bundle: Path) -> str:
    """Without the place where it was unpacked, which is gone."""
    return text.replace(f"{opened.directory}/", "").replace(str(opened.directory), str(bundle))


def _digests(opened: Opened) -> Iterator[Finding]:
    for name, entry in opened.index["files"].items():
        if opened.sha256[name] != entry["sha256"]:
            yield finding(name, "does not match its SHA-256 in the index")


def _run(run: runs.Run, opened: Opened) -> Iterator[Finding]:
    """What contradicts itself in a run, its weights and results against their manifest included."""
    yield from log_audit.settings(run)
    yield from log_audit.log(run, run.config)
    for step in run.checkpoint_steps():
        manifest = checkpoints.read_manifest(run.checkpoint(step))
        place = run.checkpoint(step).relative_to(opened.directory)
        for name, expected in manifest["files"].items():
            there = opened.sha256.get(f"{place}/{name}", expected)
            if there != expected:
                yield finding(place / name, "does not match its SHA-256 in the manifest")
        for result in run.results():
            if result.get("step") == step and result.get("ema_sha256") != manifest["ema_digest"]:
                yield finding(f"{result['directory']}/result.json", "is of other weights")


def _tables(found: Figures, opened: Opened) -> Iterator[Finding]:
    """Every table against one made of the raw lines."""
    made = study_bundle.tables(found)
    there = {name.removeprefix("tables/") for name in opened.sha256 if name.startswith("tables/")}
    for name in sorted(there ^ made.keys()):
        yield finding(f"tables/{name}", "is missing" if name in made else "is no table of a study")
    for name in sorted(there & made.keys()):
        theirs = (opened.directory / "tables" / name).read_bytes()
        if theirs != made[name]:
            rows = _cells if name.endswith(".csv") else _lines
            yield from _different(name, rows(theirs), rows(made[name]))


def _different(name: str, theirs: list[list[str]], ours: list[list[str]]) -> Iterator[Finding]:
    heads, nothing = ours[0], list[str]()
    both = itertools.zip_longest(theirs, ours, fillvalue=nothing)
    for number, (there, here) in enumerate(both, 1):
        pairs = itertools.zip_longest(there, here, fillvalue="")
        for column, (a, b) in enumerate(pairs):
            if not _same(a, b):
                named = heads[column] if len(heads) > 1 and column < len(heads) else "it"
                yield finding(f"tables/{name} line {number}",
                              f"{named} is {a[:80]!r}, the raw lines give {b[:80]!r}")


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return math.isclose(float(a), float(b), rel_tol=_TOLERANCE)
    except ValueError:
        return False


def _cells(data: bytes) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(data.decode("utf-8", "replace"))))
    except csv.Error:
        return _lines(data)


def _lines(data: bytes) -> list[list[str]]:
    return [[line] for line in data.decode("utf-8", "replace").split("\n")]


def text(report: dict[str, Any]) -> str:
    """The report in words, for a terminal."""
    looked = (f"{report['bundle']}: {counted(report['files'], 'file')}, "
              f"{counted(report['cells'], 'cell')}, study {str(report['study'])[:12]}, "
              f"commit {report['commit'] or 'unknown'}")
    said = [f"  {one['where']}: {one['what']}" for one in report["findings"]]
    if not said:
        said = ["every digest and every figure of the tables is right"]
    return printable("\n".join([looked, *said[:50], *(["  ..."] if len(said) > 50 else [])]))
