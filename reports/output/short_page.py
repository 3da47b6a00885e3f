"""A page of a few tables and pictures, as Markdown and as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from reports.output import page_frame
from reports.output.markdown import escape


@dataclass(frozen=True)
class Section:
    """A heading with what is under it: text, a table, a picture (file name, PNG)."""

    title: str
    text: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    picture: tuple[str, bytes] | None = None


def files(name: str, title: str, lead: str, sections: Sequence[Section]) -> dict[str, bytes]:
    """NAME.md with its pictures, then NAME.html: file name -> content."""
    made = dict(section.picture for section in sections if section.picture)
    made[f"{name}.md"] = _markdown(title, lead, sections).encode()
    made[f"{name}.html"] = _html(title, lead, sections).encode()
    return made


def _markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}", escape(lead)]
    for section in sections:
        parts += [f"## {section.title}", escape(section.text)]
        if section.rows:
            lines = [section.heads, ["---"] * len(section.heads), *section.rows]
            parts.append("\n".join(f"| {' | '.join(map(escape, row))} |" for row in lines))
        if section.picture:
            parts.append(f"![{section.title}]({section.picture[0]})")
    return "\n\n".join(filter(None, parts)) + "\n"


def _html(title: str, lead: str, sections: Sequence[Section]) -> str:
    return page_frame.render(
        "reports.output", "short_page.html", title=title, lead=lead,
        sections=[
            (section, section.picture and base64.b64encode(section.picture[1]).decode())
            for section in sections
        ],
    )  # fmt: skip
