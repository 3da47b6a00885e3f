"""What an examination finds: one thing of the machine, and its remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the report; `status` is ok, note (works without it) or missing."""

    what: str
    status: str
    detail: str
    remedy: str = ""

    @property
    def name(self) -> str:
        """What a summary calls it: libraries share their `what`, the detail begins with theirs."""
        return self.detail.partition(":")[0] if self.what == "cuda library" else self.what


def noted(what: str, detail: str, remedy: str = "") -> Finding:
    """What works, and what would make it better, if anything."""
    return Finding(what, "note" if remedy else "ok", detail, remedy)
