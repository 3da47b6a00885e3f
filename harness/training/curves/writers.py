"""The libraries that show curves, each behind the same four calls."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.base.errors import EnvironmentFault


class Writer(Protocol):
    """Where curves go. `image`: uint8 [H, W, 3]."""

    def scalar(self, tag: str, step: int, value: float) -> None: ...

    def image(self, tag: str, step: int, image: np.ndarray) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class _EventFiles:
    """What the writers of both kinds of event files are called by."""

    _writer: Any

    def scalar(self, tag: str, step: int, value: float) -> None:
        self._writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class VisualDL(_EventFiles):
    """PaddlePaddle's own; `visualdl --logdir FOLDER` shows it."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]):
        from visualdl import LogWriter

        self._writer = LogWriter(logdir=str(folder), display_name=name)
        self._writer.add_hparams(_plain(config), ["train/loss"])

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        self._writer.add_image(tag, image, step)


class TensorBoard(_EventFiles):
    """By torch's writer; `tensorboard --logdir FOLDER` shows it."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._writer.add_hparams(_plain(config), {}, run_name=".")

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        self._writer.add_image(tag, image, step, dataformats="HWC")


class WandB:
    """Weights & Biases, offline unless WANDB_MODE says otherwise; `wandb sync` sends it.

    Its curves have one counter of steps, which must not fall: each point carries its own step.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]):
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project="harness", name=name, dir=str(folder), config=dict(config), resume="allow",
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalar(self, tag: str, step: int, value: float) -> None:
        self._run.log({tag: value, "step": step})

    def image(self, tag: str, step: int, image: np.ndarray) -> None:
        import wandb

        self._run.log({tag: wandb.Image(image), "step": step})

    def flush(self) -> None:
        """It sends by itself."""

    def close(self) -> None:
        self._run.finish()


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Values that both take as hyperparameters: numbers and text; to protobuf a bool is neither."""
    return {key: value if type(value) in (int, float, str) else str(value)
            for key, value in config.items()}


WRITERS: dict[str, type] = {"visualdl": VisualDL, "tensorboard": TensorBoard, "wandb": WandB}


def require(kinds: tuple[str, ...]) -> None:
    """EnvironmentFault if the library of one of `kinds` is not installed."""
    for kind in kinds:
        if importlib.util.find_spec(kind) is None:
            raise EnvironmentFault(
                f"--report-to {kind}: the package {kind} is not installed",
                remedy=f"pip install {kind}, or leave the option out",
            )
