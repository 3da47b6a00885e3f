"""Runs -> pandas tables -> Markdown, CSV, HTML."""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # On demand: parts of this package that need no pandas do not wait for it.
    if name == "load":
        from reports.tables.tidy import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
