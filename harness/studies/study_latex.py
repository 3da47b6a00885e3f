"""A study's table for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"}, "±": r"$\pm$",
    "\N{EN DASH}": "--",
}  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int,
          caption: str, name: str) -> str:  # fmt: skip
    """A float with one table, its first `text_columns` aligned left and the others right.

    `\\usepackage{booktabs}` is what it needs.
    """
    columns = "l" * text_columns + "r" * (len(heads) - text_columns)
    body = [" & ".join(map(escape, row)) + r" \\" for row in (heads, *rows)]
    return "\n".join([
        "% \\usepackage{booktabs}", r"\begin{table}", r"\centering",
        rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', name)}}}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:],
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))
