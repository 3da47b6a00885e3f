"""Which of the harness's promises hold with the Paddle that is installed, each with a figure.

Everything is computed in processes of their own, by the commands that users give where there is
one, so that a Paddle that dies says what it died of and the other promises are still looked at.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from baselines import torch_peer
from harness import runs
from harness.base import seeds
from harness.base.errors import HarnessError
from harness.cells import run_cells as cells
from harness.cells.run_cells import Cell
from harness.distributed import child_commands
from harness.reproduction import diff

STEPS = 6  # of each run; half of them before the run that is stopped
# Of the largest value of a prediction, and of a gradient's norm (tests/models/test_uvit.py).
NETWORK, GRADIENT = 1e-5, 1e-4
# Half precision against float32, of the loss: eight bits of bfloat16 are 4e-3.
HALF = 2e-2
WAYS: dict[str, dict[str, str]] = {
    "fused": {"HARNESS_KERNELS": "fused"},
    "paddle": {"HARNESS_KERNELS": "paddle"},
    "static": {"HARNESS_EXECUTION": "static", "HARNESS_KERNELS": ""},
}
# A batch that two workers can share; each step's loss is logged.
_SETTINGS = (
    "train.log_steps=1", f"train.save_steps={STEPS // 2}", "train.global_batch_size=8",
    "train.micro_batch_size=2", "train.shards=4", "train.reduction=fixed-order",
)


@dataclass(frozen=True)
class Promise:
    """One line: `met` is None where it cannot be looked at on this machine (`figure` says why)."""

    name: str
    met: bool | None
    figure: str
    bound: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def probe(folder: Path) -> Iterator[Promise]:
    """Look at each promise; about a minute on two cores. What was computed is left in `folder`."""
    yield from _network(folder)
    yield _saving(folder)
    yield from _training(folder)


def _network(folder: Path) -> Iterator[Promise]:
    """Output and gradients of random weights against those of PyTorch."""
    from models.uvit import UViT

    gpus = _gpus()

    section = torch_peer.TINY
    try:
        arrays = torch_peer.lively_weights(UViT(**section))
        wanted = torch_peer.run(folder, section, arrays, torch_peer.batch(section))
    except HarnessError as error:
        yield Promise("parity with the official network", False, str(error))
        return
    for way, variables in WAYS.items():
        name = f"network ({way})"
        if way == "fused" and gpus:
            yield Promise(name, None, "there are no fused kernels for a GPU")
            continue
        found = _worker("network", folder, variables)
        if isinstance(found, str):
            yield Promise(name, False, found)
            continue
        apart = np.abs(found["sample"] - wanted["sample"]).max() / np.abs(wanted["sample"]).max()
        yield _within(f"output, {way}", float(apart), NETWORK, "of the largest value")
        keys = [key for key in wanted if key.startswith("grad/")]
        worst = max(_norm(found[k] - wanted[k]) / _norm(wanted[k]) for k in keys)
        yield _within(f"gradients, {way}", float(worst), GRADIENT, "of a gradient's norm")


def _saving(folder: Path) -> Promise:
    found = _worker("saving", folder, {})
    if isinstance(found, str):
        return Promise("paddle.save and load", False, found)
    changed, count = int(found["changed"]), int(found["weights"])
    return Promise("paddle.save and load", not changed, f"{changed} of {count} weights changed",
                   "none")


def _training(folder: Path) -> Iterator[Promise]:
    """Short runs of a shipped config over random features, each set against the first."""
    cell = Cell(
        "digits_tiny", _features(folder / "features"), folder / "first", until=STEPS,
        overrides=_SETTINGS, arguments=("--kernels", "paddle"),
    )
    first = _trained(cell)
    if isinstance(first, str):
        yield Promise("training", False, first)
        return
    yield _same("same bits twice", first, replace(cell, directory=folder / "again"))
    stopped = replace(cell, directory=folder / "resumed")
    half = _trained(replace(stopped, until=STEPS // 2))
    yield Promise("same bits after a stop", False, half) if isinstance(half, str) else _same(
        "same bits after a stop", first, stopped)
    gpus = _gpus()
    if gpus == 1:
        yield Promise("same bits on two devices", None, "needs a second GPU")
    else:
        yield _same("same bits on two devices", first, replace(
            cell, directory=folder / "two", arguments=(*cell.arguments, "--nproc", "2")))
    for precision in ("fp16", "bf16"):
        name = f"{precision} against fp32"
        if not gpus:
            yield Promise(name, None, "needs a GPU")
            continue
        half = _trained(replace(
            cell, directory=folder / precision,
            overrides=(*_SETTINGS, f"train.precision={precision}"),
        ))
        yield Promise(name, False, half) if isinstance(half, str) else _within(
            name, diff.diff(first, half)["losses"]["largest"]["relative"], HALF, "of a loss")


def _same(name: str, first: runs.Run, cell: Cell) -> Promise:
    second = _trained(cell)
    if isinstance(second, str):
        return Promise(name, False, second)
    report = diff.diff(first, second)
    tensors = sum(len(one["tensors"]) for one in report["checkpoints"])
    figure = (f"{report['losses']['differing']} of {report['losses']['compared']} losses and "
              f"{tensors} tensors differ")
    if report["findings"]:
        figure += "; " + report["findings"][0]["what"]
    return Promise(name, report["identical"], figure, "none")


def _trained(cell: Cell) -> runs.Run | str:
    """The run, or what its command said last."""
    ended = cells.train(cell)
    return _died(ended.code, ended.stderr) if ended.code else runs.load(cell.directory)


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


def _gpus() -> int:
    """How many GPUs paddle computes on here."""
    import paddle

    on_gpu = paddle.device.get_device().startswith("gpu")
    return paddle.device.cuda.device_count() if on_gpu else 0


def _within(name: str, apart: float, bound: float, of: str) -> Promise:
    # NaN is not within anything.
    return Promise(name, bool(apart <= bound), f"{apart:.1e} {of}", f"{bound:.0e}")


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def _features(folder: Path) -> Path:
    """Random moments and contexts of the digits' shapes, in the format that training reads."""
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        for image in range(32):
            draw = seeds.generator(0, split, image)
            moments = draw.standard_normal((2, 8, 8), dtype=np.float32)
            np.save(folder / split / f"{image}.npy", moments)
            context = draw.standard_normal((12, 64), dtype=np.float32)
            np.save(folder / split / f"{image}_0.npy", context)
    np.save(folder / "empty_context.npy", np.zeros((12, 64), np.float32))
    return folder
