"""A history as the nightly script and `harness history build` leave it, made without training."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import numpy as np

RUNNERS = ("a100", "h100", "cpu")
CONFIGS = tuple(f"size_{letter}" for letter in "abcdefghijkl")
_FIRST = datetime.date(2024, 1, 1)
_ROUNDS = 5


def date(night: int) -> str:
    return (_FIRST + datetime.timedelta(days=night)).isoformat()


def history(
    folder: Path, *, nights: int = 60, configs=CONFIGS[:3], runners=RUNNERS, seed: int = 0
) -> Path:
    """`nights` nights of all configs and runners, with a slowdown in the middle of each config.

    Throughput and memory are noisy, quality the same every night until a new stack comes after
    two thirds. Every night has its check against a baseline that is recorded again after the
    slowdown.
    """
    rng = np.random.default_rng(seed)
    shape = (nights, len(runners), len(configs), _ROUNDS)
    noise = 1 + 0.004 * rng.standard_normal((2, *shape))
    slow = nights // 2
    for night in range(nights):
        for place, runner in enumerate(runners):
            new = night >= 2 * nights // 3
            stack = {
                "python": "3.11.7", "device": _device(runner), "driver": "550.54" if new else
                "535.12", "package.paddlepaddle": "3.3.1" if new else "2.6.2",
                "kernels": "paddle", "execution": "eager", "world_size": 1,
                **{f"env.X{number}": str(number) for number in range(20)},
            }
            cells = [
                _cell(config, night, slow + number % 3, new, stack,
                      noise[:, night, place, number] * [[900.0 / (place + 1)], [8e9]])
                for number, config in enumerate(configs)
            ]
            _write(folder / date(night) / runner, runner, stack, cells)
    return folder


def _device(runner: str) -> str:
    return {"a100": "NVIDIA A100-SXM4-80GB", "h100": "NVIDIA H100"}.get(runner, "a CPU")


def _cell(config, night, slow, new, stack, drawn) -> dict:
    speeds, memory = drawn
    slowed = night >= slow
    speeds = speeds * (0.94 if slowed else 1.0)
    # Recorded again a week after the slowdown.
    baseline = speeds.mean() / (0.94 if slowed and night < slow + 7 else 1.0)
    fid = 5.2 if new else 5.31
    worse = slowed and night < slow + 7
    verdict = {"verdict": "worse" if worse else "same", "change": -0.06 if worse else 0.0}
    return {
        "config": config, "digest": "d" * 64, "device": f"1 x {stack['device']}",
        "kernels": "paddle", "stack": 0,
        "commit": hashlib.sha1(str(night // 2).encode()).hexdigest(),
        "outcome": "failed" if worse else "passed",
        "metrics": {
            "throughput": {
                "values": [round(float(v), 3) for v in speeds], "noise": 0.012,
                "conditions": {"throttled_share": 0.0, "others_share": 0.01},
                "baseline": round(float(baseline), -1), **verdict,
            },
            "host_memory": {"values": [int(v) for v in memory / 4], "verdict": "same",
                            "baseline": 2e9, "change": 0.001},
            "device_memory": {"values": [int(v) for v in memory], "verdict": "same",
                              "baseline": 8e9, "change": 0.001},
            "train_loss": {"values": [0.1234] * _ROUNDS, "verdict": "same", "baseline": 0.1234},
            "fid/coco-ddim50": {"values": [fid], "verdict": "same", "baseline": 5.3},
            "val_loss/coco-ddim50": {"values": [0.0987], "verdict": "same", "baseline": 0.0987},
            "loss_bits": {"values": [], "verdict": "same"},
            "weights_bits": {"values": [], "verdict": "same"},
        },
    }


def _write(folder: Path, runner: str, stack: dict, cells: list) -> None:
    folder.mkdir(parents=True)
    about = {"schema": 1, "runner": runner, "report": None}
    (folder / "night.json").write_text(json.dumps(about))
    (folder / "figures.json").write_text(json.dumps({
        "schema": 1, "folders": [], "runner": runner, "stacks": [stack], "cells": cells,
        "report": f"https://ci.example.org/{folder.parent.name}/{runner}",
    }))
