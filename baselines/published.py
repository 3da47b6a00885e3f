"""Published numbers, each with its source and the protocol it was made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError

FILE = Path(__file__).parent / "published.json"


def load(path: Path = FILE) -> list[dict[str, Any]]:
    """One dict a number: model, metric, value, ..., `protocol` and `source` as full entries.

    DataError if a number lacks its source or its protocol: it would say nothing.
    """
    try:
        return _numbers(files.read_json(path), path)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a list of published numbers: {error!r}") from error


def _numbers(content: Any, path: Path) -> list[dict[str, Any]]:
    found = []
    for number in content["numbers"]:
        for key, table in (("protocol", "protocols"), ("source", "sources")):
            if number.get(key) not in content[table]:
                named = f"{number.get('model')} {number.get('metric')}"
                raise DataError(f"{path}: {named} has no {key}")
        for key in ("also", "first_in"):  # where else the number stands, where it came from
            if number.get(key, number["source"]) not in content["sources"]:
                raise DataError(f"{path}: there is no source {number[key]}")
        protocol = {"name": number["protocol"], **content["protocols"][number["protocol"]]}
        source = {"name": number["source"], **content["sources"][number["source"]]}
        found.append({**number, "protocol": protocol, "source": source})
    return found
