"""Holds files that the harness wrote against the JSON schemas in harness/files/schemas/."""

import json
import re
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.command import ROOT

FOLDER = ROOT / "harness" / "files" / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
# What a file of that name is; one of *.jsonl is of many lines.
KINDS = {
    "run.json": "run", "metrics.jsonl": "metrics", "timing.jsonl": "timing",
    "manifest.json": "manifest", "state.json": "state", "result.json": "result",
    "repeats.json": "repeats", "baseline.json": "baseline", "packed.json": "packed",
    "digest.json": "digest", "captions.jsonl": "captions", "dataset.json": "digits",
    "harness.json": "export", "report.json": "report", "acceptance.json": "acceptance",
    "study.json": "study", "bundle.json": "bundle", "night.json": "night",
    "figures.json": "figures", "notes.jsonl": "notes",
}
# What is named after a cell or a config, by its folder.
FOLDERS = {"state": "cell-state", "checks": "check"}
WHAT_TO_DO = """\
harness/files/schemas/ says otherwise. What was written before has to stay readable:
- a key that is new goes into the schema of its file, not into its `required`;
- what changes its meaning, or is no longer there, takes a new version: the module's SCHEMA goes up,
  the schema of before stays beside the new one, and the reader takes both (CONTRIBUTING.md)."""


@cache
def validator(name: str) -> Draft202012Validator:
    registry = Registry().with_resources(
        (f"{name}.json", Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
    )
    return Draft202012Validator({"$ref": f"{name}.json"}, registry=registry)


def versions(kind: str) -> list[int]:
    """The versions of a file that have a schema, ascending."""
    found = (re.fullmatch(rf"{kind}-(\d+)", name) for name in SCHEMAS)
    return sorted(int(one[1]) for one in found if one)


def faults(kind: str, value: object) -> list[str]:
    """What keeps a value from being what its own version's schema says (the newest's if it has
    none)."""
    version = value.get("schema") if isinstance(value, dict) else None
    version = versions(kind)[-1] if version is None else version
    if version not in versions(kind):
        return [f"there is no {kind}-{version}.json"]
    return [f"{error.json_path}: {error.message}"
            for error in validator(f"{kind}-{version}").iter_errors(value)]


def kind_of(path: Path) -> str | None:
    return KINDS.get(path.name) or FOLDERS.get(path.parent.name)


def check(path: Path, kind: str | None = None) -> None:
    """Fail, saying what to do, if a file does not fit its schema."""
    kind = kind or kind_of(path)
    text = path.read_text()
    for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
        found = faults(kind, json.loads(part))
        assert not found, "\n".join([f"{path}:", *found, WHAT_TO_DO])


def check_all(folder: Path) -> set[str]:
    """Check every file below `folder` that is of a known name; the kinds that there were."""
    kinds = {path: kind for path in sorted(folder.rglob("*.json*")) if (kind := kind_of(path))}
    for path in kinds:
        check(path)
    return set(kinds.values())
