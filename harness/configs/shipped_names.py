"""Names of the shipped configs, cheap enough for shell completion (no pydantic)."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"


def shipped() -> list[str]:
    """Names of the configs that ship with the harness, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
