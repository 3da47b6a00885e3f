"""What is said of a config with mistakes: each by its key, a misspelt one with what it is like."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.configs.schema import Config, Section


def explain(error: ValidationError, known: Sequence[str] = ()) -> str:
    """The first mistakes, each as `section.key: what is wrong`, misspelt keys with a guess.

    `known`: the keys that there are, where they are not a config's.
    """
    known = known or _known_keys()
    found = [_explain_one(one, known) for one in error.errors(include_url=False)]
    more = f" (and {len(found) - 4} more)" if len(found) > 4 else ""
    return "; ".join(found[:4]) + more


def _explain_one(one: Any, known: Sequence[str]) -> str:
    place = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        near = _nearest_key(place, known)
        hint = f", did you mean {near!r}?" if near else ""
        return f"unknown key {place[:80]!r}{hint}"
    if one["type"] == "missing":
        return f"{place} is missing"
    message = one["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(one["input"], dict) else f" (got {repr(one['input'])[:60]})"
    return f"{place}: {message}{shown}" if place else f"{message}{shown}"


def _nearest_key(place: str, known: Sequence[str]) -> str | None:
    """The known key most like `place`, or with the same last part in another section."""
    if near := difflib.get_close_matches(place, known, n=1, cutoff=0.7):
        return near[0]
    last = {key.rpartition(".")[2]: key for key in known}
    near = difflib.get_close_matches(place.rpartition(".")[2], list(last), n=1, cutoff=0.7)
    return last[near[0]] if near else None


def _known_keys(kind: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    keys = []
    for name, field in kind.model_fields.items():
        keys.append(prefix + name)
        if section := subsection(field.annotation):
            keys += _known_keys(section, f"{prefix}{name}.")
    return keys


def subsection(annotation: Any) -> type[Section] | None:
    """The section that a field of this annotation holds, if it is one."""
    is_section = isinstance(annotation, type) and issubclass(annotation, Section)
    return annotation if is_section else None
