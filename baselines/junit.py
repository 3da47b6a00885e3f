"""A check's report as JUnit XML, which CI systems read."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from baselines.check_table import change
from baselines.verdicts import Report

_KINDS = {
    "worse": "failure", "missing": "error", "not comparable": "error", "inconclusive": "skipped",
}


def document(reports: list[Report]) -> bytes:
    """JUnit XML: one suite a check, one case a metric."""
    root = ElementTree.Element("testsuites")
    for report in reports:
        suite = ElementTree.SubElement(root, "testsuite", name=f"gate {report.baseline.name}")
        counts = {"failure": 0, "error": 0, "skipped": 0}
        for verdict in report.verdicts:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"gate.{report.baseline.name}", name=verdict.metric
            )
            kind = _KINDS.get(verdict.verdict)
            if kind is not None:
                kind = "skipped" if verdict.undecided or not verdict.gates else kind
                counts[kind] += 1
                text = " ".join(filter(None, (verdict.verdict, change(verdict), verdict.reason)))
                ElementTree.SubElement(case, kind, message=_printable(text))
        suite.attrib |= {
            "tests": str(len(report.verdicts)), "failures": str(counts["failure"]),
            "errors": str(counts["error"]), "skipped": str(counts["skipped"]),
        }
    return _bytes(root)


def of_figures(told: Mapping[str, Mapping[str, str]]) -> bytes:
    """JUnit XML of figures that nothing is said of: a suite a name, a case a metric."""
    root = ElementTree.Element("testsuites")
    for name, figures in told.items():
        count = str(len(figures))
        suite = ElementTree.SubElement(
            root, "testsuite", name=name, tests=count, failures="0", errors="0", skipped="0")
        for key, figure in figures.items():
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=key)
            ElementTree.SubElement(case, "system-out").text = _printable(figure)
    return _bytes(root)


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _printable(text: str) -> str:
    """XML 1.0 has no place for control characters, not even escaped ones."""
    return "".join(c if c >= " " and c not in "\ufffe\uffff" else "?" for c in text)
