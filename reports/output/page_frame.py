"""Pages in one frame: templates/frame.html with the style of report.css, filled in by Jinja."""

from __future__ import annotations

from typing import Any

import jinja2
from markupsafe import Markup


def render(package: str, name: str, /, **values: Any) -> str:
    """The template `name` of `package`, which extends frame.html; every value is escaped.

    A template writes a file that lies beside it, or beside the frame, by `asset(file name)`.
    """
    loader = jinja2.ChoiceLoader(
        [jinja2.PackageLoader(one) for one in (package, "reports.output")])
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["asset"] = lambda file: Markup(loader.get_source(environment, file)[0])
    return environment.get_template(name).render(**values)
