"""Images of the same prompts and noise in rows, one row a model or setting, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from reports.output.sample_grids import shrunk
from reports.output.short_page import Section

MOST_ROWS = 12
_WIDEST = 128  # pixels of one image; larger ones are made smaller
_GAP, _LINE = 4, 16


def picture(rows: Mapping[str, np.ndarray]) -> bytes:
    """Label -> images uint8 [k, H, W, 3] of the same k prompts, in order; the first MOST_ROWS.

    Each row's label stands above it.
    """
    shown = list(rows.items())[:MOST_ROWS]
    tiles = {label: [shrunk(Image.fromarray(image), _WIDEST) for image in images]
             for label, images in shown}
    width = max(sum(t.width + _GAP for t in row) for row in tiles.values()) + _GAP
    heights = [max((t.height for t in row), default=0) + _LINE + _GAP for row in tiles.values()]
    width = max(width, 7 * max(map(len, tiles)) + 2 * _GAP)
    sheet = Image.new("RGB", (width, sum(heights)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (label, row), height in zip(tiles.items(), heights, strict=True):
        draw.text((_GAP, top + 2), label.encode("ascii", "replace").decode(), fill="black")
        left = _GAP
        for tile in row:
            sheet.paste(tile, (left, top + _LINE))
            left += tile.width + _GAP
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def section(texts: list[str], rows: Mapping[str, np.ndarray]) -> Section:
    """`picture(rows)` under the table of what its columns are, from left to right."""
    said = "The same prompts and noise in each row; the columns from left to right:"
    return Section("Side by side", said, ("column", "prompt"),
                   [(str(i), text) for i, text in enumerate(texts, 1)],
                   ("side-by-side.png", picture(rows)))
