"""U-ViTs with the same weights on the same batches: ours, ppdiffusers' and PyTorch's.

A peer is measured as a user gets it: installed, and no variable set. Where our MKL takes another
path than it would by itself (`harness.machine.mkl_cpu_type`), each is measured a second time with
that variable, so that what it alone is worth can be told. And PyTorch is measured compiled.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import configs
from harness.base import cpu_info
from tests.bench import inputs
from tests.bench.options import Options
from tests.bench.rows import Row, Skipped, faster
from tests.bench.worker import Worker

OURS, PPDIFFUSERS, TORCH = "ours", "ppdiffusers, paddle's defaults", "PyTorch"
COMPILED = "PyTorch, torch.compile"
PADDLE = "ours, --kernels paddle"  # beside ours, which a CPU computes by the fused ones
PATH = cpu_info.mkl_cpu_type(cpu_info.cpu())
SAME_PATH = {
    peer: f"{peer.partition(',')[0]}, MKL_DEBUG_CPU_TYPE={PATH}" for peer in (PPDIFFUSERS, TORCH)
}
# Beside ours in one series each: as many U-ViTs as 16 GB of memory hold.
GROUPS = [[PPDIFFUSERS, TORCH, COMPILED], *([[*SAME_PATH.values()]] if PATH else [])]
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


def ours(
    folder: Path, options: Options, config: str, sets: list[str], batch: int, **variables: str
) -> Worker:
    """A worker that trains `config` with `sets` on batches in `folder`, which are made."""
    section = configs.load(config, sets).model.model_dump()
    inputs.write(folder, section, batch=batch, count=BATCHES)
    return Worker(
        "tests.bench.uvit_ours:UViT", threads=options.threads, environment=variables,
        folder=str(folder), config=config, sets=sets,
    )


def target(intel: float, others: float) -> float:
    """The target on this machine: its CPU takes MKL's best path by itself, or has to be told."""
    return others if PATH else intel


def lacking(peer: str, options: Options) -> str:
    """Why `peer` cannot be measured here; empty if it can."""
    if peer != COMPILED:
        return ""
    if options.device == "gpu":
        return "" if importlib.util.find_spec("triton") else "no triton"
    compiler = os.environ.get("CXX", "g++")  # where torch looks
    return "" if shutil.which(compiler) else f"no C++ compiler ({compiler})"


@contextmanager
def beside(
    peers: list[str], options: Options, *, config: str = "small", batch: int
) -> Iterator[dict[str, Worker]]:
    """Workers by name: ours, and these peers where nothing is `lacking`; the same first weights."""
    sets = settings(options, batch)
    made = configs.load(config, sets)
    section, optim = made.model.model_dump(), made.optim.model_dump()
    with options.folder() as folder, ExitStack() as stack:
        workers = {OURS: stack.enter_context(ours(folder, options, config, sets, batch))}
        workers[OURS].write_weights()
        given = {"folder": str(folder), "model": section, "optim": optim}
        for peer in peers:
            if peer == PADDLE:
                workers[peer] = stack.enter_context(
                    ours(folder, options, config, sets, batch, HARNESS_KERNELS="paddle")
                )
            elif not lacking(peer, options):
                workers[peer] = stack.enter_context(_peer(peer, options, given))
        for worker in workers.values():
            worker.wait()
        yield workers


def _peer(name: str, options: Options, given: dict[str, Any]) -> Worker:
    environment = {"MKL_DEBUG_CPU_TYPE": PATH} if name in SAME_PATH.values() else {}
    if name.startswith("ppdiffusers"):
        # USE_TORCH: it would import torch as well, which it does not use here.
        environment |= {"USE_TORCH": "0", "HF_HUB_OFFLINE": "1"}
        target = "tests.bench.uvit_ppdiffusers:UViT"
    else:
        target = "tests.bench.uvit_torch:UViT"
        given = {**given, "device": "cuda" if options.device == "gpu" else "cpu"}
        if name == COMPILED:  # the C++ takes a minute: how it goes is shown without
            given["backend"] = "eager" if options.quick else "inductor"
    return Worker(target, threads=options.threads, environment=environment, **given)


def against(
    peers: list[str], options: Options, part: str, name: str, told: dict[str, list[float]],
    targets: dict[str, float], *, unit: str = "s",
) -> Iterator[Row | Skipped]:
    """A row for each of `peers`; `told`: seconds by side, `targets`: by peer, where it has one."""
    for peer in peers:
        if why := lacking(peer, options):
            yield Skipped(part, name, peer, why)
        else:
            yield faster(part, name, peer, told[OURS], told[peer], unit=unit,
                         target=targets.get(peer))


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
