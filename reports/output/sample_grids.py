"""Sample grids: found in the runs, kept within a size, in the formats the report needs."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from harness.files.image_reading import opened_image
from reports.reading import figure_protocols
from reports.reading.run_records import Record

_MOST_RUNS, _MOST_STEPS = 12, 16  # in the page; what is left out is said there
_WIDEST = 640  # pixels of a grid in the page
_BUDGET = 5 << 20  # bytes of all images in the page


@dataclass
class Series:
    """Grids that show the same thing: `paths` is run label -> step -> file."""

    title: str
    paths: dict[str, dict[int, Path]] = field(default_factory=dict)

    def steps(self) -> list[int]:
        return sorted({step for files in self.paths.values() for step in files})


def find(records: list[Record]) -> list[Series]:
    """The run_vis prompts while training, then the samples of every protocol's evaluations."""
    training = Series("Prompts of run_vis, during training")
    for record in records:
        found = {step: record.run.sample_grid(step) for step in record.run.sample_steps()}
        if found:
            training.paths[record.label] = found
    names = figure_protocols.labels(f.protocol for record in records for f in record.figures)
    evaluated = {digest: Series(f"Evaluation samples, {name}") for digest, name in names.items()}
    for record in records:
        for figure in record.figures:
            path = figure.directory / "samples.png"
            if path.is_file():
                series = evaluated[figure.protocol.digest]
                series.paths.setdefault(record.label, {})[figure.step] = path
    return [series for series in (training, *evaluated.values()) if series.paths]


@dataclass(frozen=True)
class Grid:
    """One opened grid; `prompts` of its tiles in reading order, where the file tells.

    The file tells in PNG text chunks: `prompts` (a JSON list), `columns` and `gap`
    (pixels around every tile), as `eval.sampling.image_grid.save_grid` writes them.
    """

    image: Image.Image
    prompts: tuple[str, ...] = ()
    columns: int = 0
    gap: int = 0

    def tiles(self) -> list[Image.Image]:
        """The single images, one per prompt; empty if the file does not say how it is cut."""
        if not self.prompts or not self.columns:
            return []
        rows, gap = -(-len(self.prompts) // self.columns), self.gap
        width = (self.image.width - gap) // self.columns - gap
        height = (self.image.height - gap) // rows - gap
        if width < 1 or height < 1:
            return []
        corners = [
            (gap + (i % self.columns) * (width + gap), gap + (i // self.columns) * (height + gap))
            for i in range(len(self.prompts))
        ]
        return [self.image.crop((x, y, x + width, y + height)) for x, y in corners]


def read(path: Path) -> Grid:
    """Open a grid; DataError if it is not an image."""
    with opened_image(path) as opened:
        opened.load()
        text = dict(getattr(opened, "text", {}))
        image = opened.convert("RGB")
    return Grid(image, *_layout(text))


def _layout(text: dict[str, str]) -> tuple[tuple[str, ...], int, int]:
    try:
        prompts, columns = json.loads(text["prompts"]), int(text["columns"])
        gap = int(text.get("gap", 0))
    except (KeyError, ValueError, RecursionError):
        return (), 0, 0
    strings = isinstance(prompts, list) and all(isinstance(p, str) for p in prompts)
    sound = strings and 0 < columns <= 64 and 0 <= gap <= 64
    return (tuple(prompts), columns, gap) if sound else ((), 0, 0)


def shrunk(image: Image.Image, widest: int) -> Image.Image:
    """The image, at most so many pixels wide."""
    if image.width <= widest:
        return image
    height = max(1, round(image.height * widest / image.width))
    return image.resize((widest, height), Image.Resampling.LANCZOS)


def png(path: Path) -> bytes:
    """The grid as a PNG for the Markdown report, at most 1024 pixels wide."""
    buffer = io.BytesIO()
    shrunk(read(path).image, 1024).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(image: Image.Image, widest: int, quality: int = 80) -> str:
    """A WebP data URI at most `widest` pixels wide."""
    buffer = io.BytesIO()
    shrunk(image, widest).save(buffer, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Shown:
    """What the page shows of one series, and what it leaves out."""

    title: str
    steps: list[int]
    images: dict[str, dict[int, str]]  # run -> step -> data URI
    prompts: list[str]
    tiles: dict[str, list[str]]  # run -> data URI per prompt, at its last step
    tile_steps: dict[str, int]
    left_out: str


def for_page(found: list[Series], order: list[str]) -> list[Shown]:
    """Choose runs and steps evenly, encode, and stay within the page's budget."""
    share = _BUDGET // max(len(found), 1)
    return [_for_page(series, order, share) for series in found[:6]]


def _for_page(series: Series, order: list[str], budget: int) -> Shown:
    runs = [label for label in order if label in series.paths]
    shown = runs[:_MOST_RUNS]
    steps = _spread(series.steps(), _MOST_STEPS)
    # Fewer and smaller rather than over the budget; a guess from the first image.
    widest, quality = _WIDEST, 80
    count = sum(len(set(steps) & set(series.paths[run])) for run in shown)
    sample = len(data_uri(read(next(iter(series.paths[shown[0]].values()))).image, widest))
    if count * sample > budget:
        quality = 60
        widest = max(160, int(widest * (budget / (count * sample)) ** 0.5))
        steps = _spread(steps, max(3, int(len(steps) * min(1.0, 4 * budget / (count * sample)))))
    images = {
        run: {
            step: data_uri(read(path).image, widest, quality)
            for step, path in series.paths[run].items() if step in steps
        }
        for run in shown
    }  # fmt: skip
    prompts, tiles, tile_steps = _tiles(series, shown)
    left = []
    if len(runs) > len(shown):
        left.append(f"{len(runs) - len(shown)} of {len(runs)} runs")
    if len(series.steps()) > len(steps):
        left.append(f"{len(series.steps()) - len(steps)} of {len(series.steps())} steps")
    return Shown(series.title, steps, images, prompts, tiles, tile_steps, " and ".join(left))


def _tiles(
    series: Series, shown: list[str]
) -> tuple[list[str], dict[str, list[str]], dict[str, int]]:
    """Single images by prompt at each run's last step; only prompts that the files name."""
    prompts: list[str] = []
    tiles: dict[str, list[str]] = {}
    steps: dict[str, int] = {}
    for run in shown:
        step = max(series.paths[run])
        grid = read(series.paths[run][step])
        if not grid.prompts or (prompts and list(grid.prompts) != prompts):
            continue  # other prompts: nothing to set side by side
        prompts = list(grid.prompts)
        tiles[run] = [data_uri(tile, 128) for tile in grid.tiles()[:24]]
        steps[run] = step
    return prompts[:24], tiles, steps


def _spread(values: list[int], most: int) -> list[int]:
    """At most `most` of the values, first and last among them, evenly chosen."""
    if len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
