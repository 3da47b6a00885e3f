"""Runs -> pandas tables -> Markdown, CSV, HTML."""

from reports.tidy import load

__all__ = ["load"]
