"""The page of an acceptance: what was promised, what was found, and on what machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import files
from reports import build
from reports.output import short_page
from reports.output.short_page import Section

MET = {True: "met", False: "NOT MET", None: "not run"}


def write(document: dict[str, Any], folder: Path) -> Path:
    """acceptance.json, .md and .html of `acceptance.document`; the path of the page."""
    files.atomic_write_json(folder / "acceptance.json", document)
    return build.write(page(document), folder)


def page(document: dict[str, Any]) -> dict[str, bytes]:
    """File name -> content, as `reports.build.write` takes it."""
    promises, stack = document["promises"], document["fingerprint"]
    broken = [one["name"] for one in promises if one["met"] is False]
    count = sum(one["met"] is True for one in promises)
    lead = (
        f"{count} promises met, {len(broken)} not met"
        f"{': ' * bool(broken)}{', '.join(broken)}. {document['config']}, {document['steps']} "
        f"steps a run, on {stack.get('device')}, commit {document['commit']}."
    )
    sections = [
        Section("Promises", "", ("promise", "", "figure", "bound", "check"), [
            (one["name"], MET[one["met"]], one["figure"], one["bound"], one["check"])
            for one in sorted(promises, key=lambda one: one["met"] is not False)]),
        Section("Environment", "", ("", "", "", "remedy"), [
            (one["what"], one["status"], one["detail"], one["remedy"])
            for one in document["findings"]]),
        Section("Fingerprint", "", ("", ""), [
            (key, str(value)) for key, value in stack.items()]),
    ]
    if document["said"]:
        said = list(document["said"].items())
        sections.append(Section("What failed said", "Each in full in said/.", ("file", ""), said))
    return short_page.files("acceptance", "Acceptance", lead, sections)
