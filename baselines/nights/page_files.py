"""The site's files: an index and a page a config, each with its figures in a script beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baselines.nights import kept_nights, night_notes, night_series, page_data
from baselines.nights.night_series import Series
from harness.base.wording import counted
from reports import build
from reports.output import page_frame

INDEX = "index"


def write(history: Path, out: Path) -> Path:
    """Read `history` and write its pages into `out`; the path of the index.

    Errors are those of kept_nights.read, night_notes.read and reports.build.write.
    """
    every = night_series.of(kept_nights.read(history))
    notes = night_notes.read(history)
    pages = {name: page_name(name) for name in sorted({one.config for one in every})}
    made: dict[str, bytes] = {}
    for config, page in pages.items():
        series = [one for one in every if one.config == config]
        data = page_data.of_config(series, notes, history, out)
        made |= _page(page, f"{config} over nights", _lead(series), pages, data)
    lead = f"{counted(len(pages), 'config')}. {_lead(every)}"
    made |= _page(INDEX, "Nightly benchmarks", lead, pages,
                  page_data.of_index(every, notes, pages))
    return build.write(made, out)


def page_name(config: str) -> str:
    """The config's name where it may be a file's, else one made of its digest."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}", config) and config.lower() != INDEX:
        return config
    digest = hashlib.sha256(config.encode("utf-8", "surrogatepass")).hexdigest()
    return f"config-{digest[:12]}"


def _lead(series: Sequence[Series]) -> str:
    nights = sorted({night.night for one in series for night in one.nights})
    runners = sorted({one.runner for one in series})
    named = ", ".join(runners[:6]) + (" and others" if len(runners) > 6 else "")
    span = " to ".join(dict.fromkeys((nights[0], nights[-1])))
    return (f"{counted(len(nights), 'night')}, {span}, on "
            f"{counted(len(runners), 'runner')}: {named}.")


def _page(
    name: str, title: str, lead: str, pages: dict[str, str], data: dict[str, Any]
) -> dict[str, bytes]:
    text = page_frame.render(
        "baselines.nights", "history.html",
        title=title, lead=lead, name=name, pages=pages, index=name == INDEX, kind=data["kind"],
    )  # fmt: skip
    values = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return {
        f"{name}.js": f"window.HISTORY = {values};\n".encode(),
        f"{name}.html": text.encode("utf-8", "backslashreplace"),
    }
