"""The page of two runs compared pair by pair: the verdict, every look, the images side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reports.output import image_rows, short_page
from reports.output.short_page import Section
from reports.reading import figure_protocols


def files(
    document: dict[str, Any], images: Mapping[str, np.ndarray]
) -> dict[str, bytes]:
    """File name -> content, as `reports.build.write` takes it, of a `paired_comparison`.

    `images`: a label for each side -> its images uint8 [k, H, W, 3] of `document["prompts"]`.
    """
    metric = figure_protocols.heading(document["metric"])
    rows = [
        (f"{look['samples']:,}", f"{look['a']:.4g}", f"{look['b']:.4g}",
         f"{look['difference']:.3g} +- {look['standard_error']:.2g}",
         f"{look['low']:.3g} to {look['high']:.3g}")
        for look in document["looks"]
    ]
    heads = ("pairs", f"{metric} of A", f"{metric} of B", "A - B", "interval of this look")
    return short_page.files("against", "A against B", lead(document), [
        Section("Looks", f"Less is better. The bound: {document['bound']}.", heads, rows),
        image_rows.section(document["prompts"], images),
    ])


def lead(document: dict[str, Any]) -> str:
    """The verdict in one sentence, with what it took and how far it is to be trusted."""
    a, b = (f"{n} (step {s})" for n, s in zip(document["runs"], document["steps"], strict=True))
    effect, rate = document["minimum_effect"], document["error_rate"]
    return (
        f"A, {a}, is {_WORDS.get(document['verdict'], document['verdict'])} B, {b}: after "
        f"{document['samples']:,} of at most {document['planned'][-1]:,} pairs by "
        f"{document['protocol']}. Equal is within {effect:.3g} of B's figure; verdicts are wrong "
        f"in at most {rate:.3g} of such comparisons."
    )


_WORDS = {
    "better": "better than", "worse": "worse than", "equal": "equal to",
    "undecided": "not to be told from",
}
