"""`harness data check`: is this data whole and sound, and which data is it?

Lists every fault, not the first. Without `full`: numbering, every file's size,
and the content of a sample of images. With it: every value of every file, and a
digest of the data (see harness.data.identity).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base.errors import DataError, EnvironmentFault, NewerFile
from harness.configs.schema import Diffusion
from harness.data import digests, features, identity, packed_reading, splits
from harness.data.preparation import check_files

# MS-COCO 2014: (images, captions) of each split's annotation file.
COCO = {"train": (82_783, 414_113), "val": (40_504, 202_654)}
# Scaled latents should have a standard deviation near 1; a VAE or a scale that is not
# the one meant is off by more than this.
_STD_RANGE = (0.5, 2.0)
_SAME_CONTEXT = 1e-3


@dataclass
class Report:
    """What `check` found. `faults`: (file, what is wrong with it), in order."""

    directory: Path
    form: str
    full: bool
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    moments_shape: tuple[int, ...] | None = None
    context_shape: tuple[int, ...] | None = None
    sampled_digest: str | None = None
    digest: str | None = None

    def fault(self, path: Path | str, what: str) -> None:
        self.faults.append((str(path), what))

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            "directory": str(self.directory), "form": self.form, "full": self.full,
            "faults": [{"file": name, "what": what} for name, what in self.faults],
            "notes": self.notes, "splits": self.splits,
            "moments_shape": list(self.moments_shape or ()),
            "context_shape": list(self.context_shape or ()),
            "sampled_digest": self.sampled_digest, "digest": self.digest,
        }


def check(
    directory: Path, *, full: bool = False, latent_scale: float | None = None,
    moments_shape: tuple[int, int, int] | None = None,
    context_shape: tuple[int, int] | None = None, empty_caption: np.ndarray | None = None,
) -> Report:
    """Check the data in `directory`, plain or packed.

    Shapes that are not given are those that most of a sample of files have; the latent scale
    is then what the data set states (dataset.json), else MS-COCO's.
    `empty_caption`: what a text encoder makes of '', float32 [T, D], to hold
    empty_context against. A full check without faults notes the digest in the
    directory, so that runs record it. EnvironmentFault if there is no data.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise EnvironmentFault(f"{directory} is not a directory",
                               remedy="`harness data fetch DIR` gets coco256_features")
    is_packed = packed_reading.is_packed(directory)
    report = Report(directory, "packed" if is_packed else "plain", full)
    latent_scale = latent_scale or _stated_scale(directory)
    names = [name for name in ("train", "val") if (directory / name).is_dir()]
    if "train" not in names:
        report.fault(directory / "train", "is missing")
    if "val" not in names:
        report.notes.append("there is no val/: evaluation needs it")
    if is_packed:
        _check_packed(report, names, latent_scale)
    else:
        shapes = check_files.common_shapes(directory, names)
        report.moments_shape = moments_shape or shapes[0]
        report.context_shape = context_shape or shapes[1]
        _check_plain(report, names, latent_scale)
    _check_prompts(report, empty_caption)
    _conclude(report)
    return report


def _stated_scale(directory: Path) -> float:
    """What the data set says that its latents are multiplied by, else the COCO configs' scale."""
    path = directory / "dataset.json"
    stated = files.read_json(path) if path.is_file() else None
    scale = stated.get("latent_scale") if isinstance(stated, dict) else None
    if files.is_number(scale) and 0 < scale < 1e6:
        return float(scale)
    return Diffusion().latent_scale


def _check_plain(report: Report, names: list[str], latent_scale: float) -> None:
    for name in names:
        folder = report.directory / name
        if report.moments_shape is None or report.context_shape is None:
            report.fault(folder, "holds no features that can be read")
            continue
        found = check_files.check_split(
            folder, report.moments_shape, report.context_shape, full=report.full
        )
        _take(report, folder, found, found.digest, latent_scale)


def _check_packed(report: Report, names: list[str], latent_scale: float) -> None:
    try:
        whole = packed_reading.manifest(report.directory)
    except NewerFile:
        raise
    except DataError as error:
        report.fault(report.directory / packed_reading.MANIFEST, error.message)
        return
    report.moments_shape = tuple(whole["moments_shape"])
    report.context_shape = tuple(whole["context_shape"])
    for name in whole["splits"]:
        folder = report.directory / name
        if name not in names:
            report.fault(folder, "is missing")
            continue
        sizes = packed_reading.shard_faults(folder, whole)
        for what in sizes:
            report.fault(folder, what)
        if sizes:
            continue
        try:
            split = packed_reading.open_split(
                report.directory, name, moments_shape=report.moments_shape,
                context_shape=report.context_shape,
            )
        except DataError as error:
            report.fault(folder, error.message)
            continue
        found = check_files.check_rows(split, full=report.full)
        _take(report, folder, found, split.digest, latent_scale)


def _take(
    report: Report, folder: Path, found: check_files.Found, digest: str | None, scale: float
) -> None:
    """What was found in a split, its latents' deviation and its counts among it."""
    report.faults += found.faults
    entry = report.splits[folder.name] = {
        "images": found.images, "captions": found.captions, "read": found.read, "digest": digest,
    }
    if found.statistics.count:
        std = found.statistics.std() * scale
        entry["scaled_latents_std"] = round(std, 4)
        if not _STD_RANGE[0] <= std <= _STD_RANGE[1]:
            report.fault(
                folder, f"latents scaled by {scale:g} have standard deviation {std:.3g}, expected "
                "about 1: another VAE made them, or another latent scale belongs to them",
            )
    _counts(report, folder, found)


def _counts(report: Report, folder: Path, found: check_files.Found) -> None:
    """Counts of captions (missing ones are listed already), against captions.jsonl and COCO's."""
    images, captions = COCO[folder.name]
    if found.images == images and found.expected != captions:
        report.fault(folder, f"has {found.expected} captions, MS-COCO 2014 has {captions}")
    path = folder / "captions.jsonl"
    if path.is_file():
        lines = files.read_bytes(path).count(b"\n")
        if lines != found.expected:
            report.fault(path, f"has {lines} lines, there are {found.expected} captions")


def _check_prompts(report: Report, empty_caption: np.ndarray | None) -> None:
    """empty_context.npy and run_vis/."""
    if report.context_shape is None:
        return
    path = report.directory / "empty_context.npy"
    try:
        empty = features.empty_context(report.directory, report.context_shape)
    except DataError as error:
        report.fault(path, check_files.reason(error, path))
    else:
        _hold_against(report, path, empty, empty_caption)
    run_vis = features.run_vis_files(report.directory)
    if not run_vis:
        report.notes.append("there is no run_vis/: no samples will be drawn while training")
    for prompt in run_vis:
        try:
            features.read_prompt(prompt, report.context_shape)
        except DataError as error:
            report.fault(prompt, check_files.reason(error, prompt))


def _hold_against(
    report: Report, path: Path, empty: np.ndarray, expected: np.ndarray | None
) -> None:
    if expected is None:
        return
    if expected.shape != empty.shape:
        report.fault(path, f"has shape {list(empty.shape)}, the text encoder makes "
                           f"{list(expected.shape)}")
        return
    apart = float(np.abs(expected - empty).max())
    if apart > _SAME_CONTEXT:
        report.fault(path, f"is up to {apart:.3g} from the text encoder's empty caption")


def _conclude(report: Report) -> None:
    """The digests, if the data is sound."""
    if report.faults or report.moments_shape is None or report.context_shape is None:
        return
    split = splits.open_split(
        report.directory, "train", moments_shape=report.moments_shape,
        context_shape=report.context_shape,
    )
    empty = features.empty_context(report.directory, report.context_shape)
    report.sampled_digest = identity.sampled_digest(split, empty)
    if isinstance(split, packed_reading.PackedSplit):
        report.digest = digests.data_digest(split.digest, empty)
    elif report.full:
        report.digest = digests.data_digest(report.splits["train"]["digest"], empty)
        each = {name: entry["digest"] for name, entry in report.splits.items()}
        try:
            identity.record(report.directory, report.digest, each)
        except EnvironmentFault as error:
            report.notes.append(f"the digest could not be noted there: {error.message}")
    else:
        report.digest = identity.recorded(report.directory)
