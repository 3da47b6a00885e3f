"""A config's text for somebody who is going to change it: what each value may be, beside it."""

from __future__ import annotations

from typing import Any

from harness.configs.load import describe
from harness.configs.schema import Config

_BOUNDS = (
    ("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"),
    ("exclusiveMaximum", "less than"),
)


def commented(config: Config, *, name: str) -> str:
    """`config`, called `name`, as TOML with comments made of the schema; fit to be loaded."""
    own = {"name": name, "description": f"Begun from {config.name}"}
    lines = describe(config.model_copy(update=own)).splitlines()
    known = Config.model_json_schema()
    section, said = known, ["# `harness config schema` prints the schema, for editors."]
    for line in lines:
        if line.startswith("["):
            section = known["$defs"][known["properties"][line[1:-1]].get("$ref", "").split("/")[-1]]
            said += ["# " + text for text in section["description"].splitlines()]
        key = line.partition(" = ")[0]
        allowed = _allowed(section["properties"].get(key, {})) if " = " in line else ""
        said.append(f"{line}  # {allowed}" if allowed else line)
    return "\n".join(said) + "\n"


def _allowed(field: dict[str, Any]) -> str:
    if "enum" in field:
        return "one of " + ", ".join(map(str, field["enum"]))
    if field.get("type") == "boolean":
        return "true or false"
    return ", ".join(f"{word} {field[key]:g}" for key, word in _BOUNDS if key in field)
