"""Three U-ViTs with the same weights on the same batches: ours, ppdiffusers' and PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import configs
from tests.bench import inputs
from tests.bench.options import Options
from tests.bench.worker import Worker

OURS, PPDIFFUSERS, TORCH = "ours", "ppdiffusers", "PyTorch"
BATCHES = 4

# What `--quick` makes of a config: every part of it, in milliseconds.
TINY = (
    "model.sample_size=8", "model.num_layers=2", "model.num_attention_heads=2",
    "model.attention_head_dim=16", "model.clip_dim=16", "model.num_text_tokens=4",
)


def settings(options: Options, batch: int, *more: str) -> list[str]:
    """--set values for training alone on one batch of this size."""
    sizes = [f"train.global_batch_size={batch}", f"train.micro_batch_size={batch}"]
    # Steps this early have next to no learning rate, as in a real run: fine for timing.
    return [*(TINY if options.quick else ()), *sizes, *more]


def ours(folder: Path, options: Options, config: str, sets: list[str], batch: int) -> Worker:
    """A worker that trains `config` with `sets` on batches in `folder`, which are made."""
    section = configs.load(config, sets).model.model_dump()
    inputs.write(folder, section, batch=batch, count=BATCHES)
    return Worker(
        "tests.bench.uvit_ours:UViT", threads=options.threads, folder=str(folder), config=config,
        sets=sets,
    )


@contextmanager
def three(options: Options, *, config: str = "small", batch: int) -> Iterator[dict[str, Worker]]:
    """The three workers by name, their first weights the same."""
    sets = settings(options, batch)
    made = configs.load(config, sets)
    section, optim = made.model.model_dump(), made.optim.model_dump()
    with options.folder() as folder, ExitStack() as stack:
        mine = stack.enter_context(ours(folder, options, config, sets, batch))
        mine.write_weights()
        common = {"threads": options.threads, "folder": str(folder), "model": section,
                  "optim": optim}
        device = "cuda" if options.device == "gpu" else "cpu"
        peers = {
            # USE_TORCH: it would import torch as well, which it does not use here.
            PPDIFFUSERS: Worker(
                "tests.bench.uvit_ppdiffusers:UViT", **common,
                environment={"USE_TORCH": "0", "HF_HUB_OFFLINE": "1"},
            ),
            TORCH: Worker("tests.bench.uvit_torch:UViT", **common, device=device),
        }
        for peer in peers.values():
            stack.enter_context(peer)
        for peer in peers.values():
            peer.wait()
        yield {OURS: mine, **peers}


def series(
    workers: dict[str, Worker], work: Callable[[Worker], Any], rounds: int
) -> dict[str, list[Any]]:
    """What `work` gave for each worker in turn, `rounds` times; a round before them warms up."""
    told: dict[str, list[Any]] = {name: [] for name in workers}
    for number in range(rounds + 1):
        for name, worker in workers.items():
            answer = work(worker)
            if number:
                told[name].append(answer)
    return told


def require_same(what: str, values: dict[str, float], tolerance: float = 1e-3) -> None:
    """ValueError unless all sides computed the same: else their times say nothing."""
    reference = values[OURS]
    for name, value in values.items():
        if not math.isclose(value, reference, rel_tol=tolerance):
            raise ValueError(f"{what}: {name} has {value}, ours {reference}")
