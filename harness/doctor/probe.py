"""Which of the harness's promises hold with the Paddle that is installed, each with a figure.

`CHECKS` are those that take a minute; `harness.doctor.acceptance` has the others, for a device that
is to be accepted. Each check stands alone, in a `Lab`: how much is done, and where it is left.

Everything is computed in processes of their own, by the commands that users give where there is
one, so that a Paddle that dies says what it died of and the other promises are still looked at.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from baselines import torch_peer
from harness import configs, runs
from harness.base import seeds
from harness.base.errors import HarnessError
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell
from harness.distributed import child_commands
from harness.reproduction import diff

# Of the largest value of a prediction, and of a gradient's norm (tests/models/test_uvit.py).
NETWORK, GRADIENT = 1e-5, 1e-4
# Half precision against float32, of the loss: eight bits of bfloat16 are 4e-3.
HALF = 2e-2
WAYS: dict[str, dict[str, str]] = {
    "fused": {"HARNESS_KERNELS": "fused"},
    "paddle": {"HARNESS_KERNELS": "paddle"},
    "static": {"HARNESS_EXECUTION": "static", "HARNESS_KERNELS": ""},
}
@dataclass(frozen=True)
class Promise:
    """One line: `met` is None where it cannot be looked at on this machine (`figure` says why)."""

    name: str
    met: bool | None
    figure: str
    bound: str = ""


@dataclass(frozen=True)
class Lab:
    """How much is done to look at a promise, and the folder that it is left in.

    Runs are of `config` on random features of its shapes, for `steps` steps of `batch` images,
    `micro_batch` at a time: as many as two devices can share.
    """

    folder: Path
    config: str = "digits_tiny"
    steps: int = 6
    batch: int = 8
    micro_batch: int = 2

    @cached_property
    def gpus(self) -> int:
        """How many GPUs paddle computes on here."""
        import paddle

        on_gpu = paddle.device.get_device().startswith("gpu")
        return paddle.device.cuda.device_count() if on_gpu else 0

    @property
    def data(self) -> Path:
        """The features, which are made by the first that asks."""
        folder = self.folder / "features"
        if not (folder / "empty_context.npy").exists():
            write_features(folder, configs.load(self.config).model.model_dump())
        return folder

    def cell(self, name: str, *more: str, **changes: Any) -> Cell:
        """A run called `name` of paddle's own kernels, with the settings `more`."""
        settings = (
            "train.log_steps=1", f"train.save_steps={max(1, self.steps // 2)}",
            f"train.global_batch_size={self.batch}",
            f"train.micro_batch_size={self.micro_batch}", "train.shards=4",
            "train.reduction=fixed-order", *more,
        )
        return replace(Cell(
            self.config, self.data, self.folder / name, until=self.steps, overrides=settings,
            arguments=("--kernels", "paddle"),
        ), **changes)

    def train(self, cell: Cell) -> runs.Run | str:
        """The run, or what its command said last; all that it said is kept beside it."""
        ended = cells.train(cell)
        if not ended.code:
            return runs.load(cell.directory)
        log = self.folder / "said" / f"{cell.directory.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(ended.stderr)
        return _died(ended.code, ended.stderr)


def probe(folder: Path) -> Iterator[Promise]:
    """Look at each promise; about a minute on two cores. What was computed is left in `folder`."""
    lab = Lab(folder)
    for check in CHECKS.values():
        yield from check(lab)


def _network(lab: Lab) -> Iterator[Promise]:
    """Output and gradients of random weights against those of PyTorch."""
    from models.uvit import UViT

    folder = lab.folder
    section = torch_peer.TINY
    try:
        arrays = torch_peer.lively_weights(UViT(**section))
        wanted = torch_peer.run(folder, section, arrays, torch_peer.batch(section))
    except HarnessError as error:
        yield Promise("parity with the official network", False, str(error))
        return
    for way, variables in WAYS.items():
        name = f"network ({way})"
        if way == "fused" and lab.gpus:
            yield Promise(name, None, "there are no fused kernels for a GPU")
            continue
        found = _worker("network", folder, variables)
        if isinstance(found, str):
            yield Promise(name, False, found)
            continue
        apart = np.abs(found["sample"] - wanted["sample"]).max() / np.abs(wanted["sample"]).max()
        yield within(f"output, {way}", float(apart), NETWORK, "of the largest value")
        keys = [key for key in wanted if key.startswith("grad/")]
        worst = max(_norm(found[k] - wanted[k]) / _norm(wanted[k]) for k in keys)
        yield within(f"gradients, {way}", float(worst), GRADIENT, "of a gradient's norm")


def _saving(lab: Lab) -> Iterator[Promise]:
    found = _worker("saving", lab.folder, {})
    if isinstance(found, str):
        yield Promise("paddle.save and load", False, found)
        return
    changed, count = int(found["changed"]), int(found["weights"])
    yield Promise("paddle.save and load", not changed, f"{changed} of {count} weights changed",
                  "none")


def _bits(lab: Lab) -> Iterator[Promise]:
    """Short runs of a shipped config, each set against the first."""
    first = lab.train(lab.cell("first"))
    if isinstance(first, str):
        yield Promise("training", False, first)
        return
    yield same(lab, "same bits twice", first, lab.cell("again"))
    half = lab.train(lab.cell("resumed", until=lab.steps // 2))
    yield Promise("same bits after a stop", False, half) if isinstance(half, str) else same(
        lab, "same bits after a stop", first, lab.cell("resumed"))
    count = max(2, lab.gpus)
    name = f"same bits on {'two' if count == 2 else count} devices"
    if lab.gpus == 1:
        yield Promise(name, None, "needs a second GPU")
    else:
        cell = lab.cell("together")
        yield same(lab, name, first, replace(
            cell, arguments=(*cell.arguments, "--nproc", str(count))))


def _precision(lab: Lab) -> Iterator[Promise]:
    """Half precision's curve of the loss against float32's."""
    kinds = [(precision, level) for precision in ("fp16", "bf16") for level in ("O1", "O2")]
    first = lab.train(lab.cell("first")) if lab.gpus else ""
    for precision, level in kinds:
        name = f"{precision} {level} against fp32"
        if not lab.gpus:
            yield Promise(name, None, "needs a GPU")
            continue
        half = lab.train(lab.cell(
            f"{precision}-{level}", f"train.precision={precision}", f"train.amp_level={level}"))
        if isinstance(first, str) or isinstance(half, str):
            yield Promise(name, False, first if isinstance(first, str) else str(half))
        else:
            largest = diff.diff(first, half)["losses"]["largest"]
            apart = largest["relative"] if largest else 0.0
            yield within(name, apart, HALF, f"of a loss at most, over {lab.steps} steps")


def same(lab: Lab, name: str, first: runs.Run, cell: Cell) -> Promise:
    """Whether the cell's run has the bits of `first`."""
    second = lab.train(cell)
    if isinstance(second, str):
        return Promise(name, False, second)
    report = diff.diff(first, second)
    tensors = sum(len(one["tensors"]) for one in report["checkpoints"])
    figure = (f"{report['losses']['differing']} of {report['losses']['compared']} losses and "
              f"{tensors} tensors differ")
    if report["findings"]:
        figure += "; " + report["findings"][0]["what"]
    return Promise(name, report["identical"], figure, "none")


def _worker(what: str, folder: Path, variables: Mapping[str, str]) -> dict[str, np.ndarray] | str:
    done = child_commands.run(
        [sys.executable, "-m", "harness.doctor.probe_worker", what, str(folder)],
        env={**os.environ, **variables, "PYTHONPATH": str(torch_peer.ROOT)}, cwd=folder,
    )
    if done.returncode:
        return _died(done.returncode, done.stderr)
    with np.load(folder / f"{what}.npz") as file:
        return dict(file)


def _died(code: int, stderr: str) -> str:
    last = (stderr.strip().splitlines() or ["it said nothing"])[-1]
    number = -code if code < 0 else code - 128
    if number in signal.valid_signals() and code not in range(2, 126):
        return f"died of {signal.Signals(number).name}: {last}"
    return f"ended with {code}: {last.removeprefix('harness: error: ')}"


def within(name: str, apart: float, bound: float, of: str) -> Promise:
    """Whether a difference stays below its bound."""
    # NaN is not within anything.
    return Promise(name, bool(apart <= bound), f"{apart:.1e} {of}", f"{bound:.0e}")


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def write_features(folder: Path, model: dict[str, Any], count: int = 32) -> None:
    """Random moments and contexts for a model of this section, as training reads them."""
    side, text = model["sample_size"], (model["num_text_tokens"], model["clip_dim"])
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for image in range(count):
            draw = seeds.generator(0, split, image)
            shape = (2 * model["in_channels"], side, side)
            moments = draw.standard_normal(shape, dtype=np.float32)
            np.save(folder / split / f"{image}.npy", moments)
            context = draw.standard_normal(text, dtype=np.float32)
            np.save(folder / split / f"{image}_0.npy", context)
    np.save(folder / "empty_context.npy", np.zeros(text, np.float32))


CHECKS: dict[str, Callable[[Lab], Iterator[Promise]]] = {
    "network": _network, "saving": _saving, "bits": _bits, "precision": _precision,
}
