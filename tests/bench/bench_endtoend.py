"""Whole commands against the sum of their parts, and the demo against a limit.

The parts are measured one after another in a process that does nothing else; a command's efficiency
is their sum over its own time. Above 1 it does some of them at once, below it spends time on
something that is none of them. The data is the demo's, and so is the run that is evaluated.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, faster, share
from tests.bench.worker import ROOT, Worker, clean_environment

PART, TARGET, ROUNDS = "endtoend", 0.9, 3
DEMO_LIMITS = (240.0, 180.0)  # seconds: where MKL takes its best path by itself, and elsewhere
CONFIG = "digits_tiny"
# What a command imports before it can work.
START = (
    "from harness.base import paddle_env; paddle_env.require_paddle(); "
    "import harness.training.hooks, harness.training.train, eval.evaluation.evaluate_run"
)
START_EVAL = START + "; import ppdiffusers"  # which the VAE comes from, and paddlenlp with it
SHORT = ("train.max_steps=2", "train.eval_steps=0", "train.eval_at_start=false")


def rows(options: Options) -> Iterator[Row]:
    """The demo; `harness train` and `harness eval` of its model and data."""
    steps, samples = (4, 4) if options.quick else (300, 300)
    rounds = min(options.rounds, ROUNDS)
    with options.folder() as folder:
        yield _demo(folder, options)
        run, data = folder / f"demo/runs/{CONFIG}", folder / "demo/digits"
        train = [
            "train", CONFIG, "--data", data, "--no-eval", "--output-dir", folder / "whole",
            "--set", f"train.max_steps={steps}", "--set", f"train.save_steps={steps // 2}",
        ]
        evaluate = ["eval", run, "--fid", "--n-samples", samples, "--seed"]
        told: dict[str, list[float]] = {name: [] for name in ("train", "of train", "eval", "of it")}
        with Worker(
            f"{__name__}:Parts", threads=options.threads, run=str(run), data=str(data)
        ) as parts:
            for number in range(rounds):
                shutil.rmtree(folder / "whole", ignore_errors=True)
                start, start_eval = (
                    _seconds([sys.executable, "-c", code], folder, options)
                    for code in (START, START_EVAL)
                )
                told["train"].append(_seconds(_harness(*train), folder, options))
                told["of train"].append(start + parts.train(steps=steps, saves=2))
                # each seed is a protocol of its own, and so is made anew
                command = _harness(*evaluate, 1000 + number)
                told["eval"].append(_seconds(command, folder, options))
                told["of it"].append(
                    start_eval + parts.evaluate(samples=samples, seed=1000 + number)
                )
    yield faster(
        PART, f"harness train {CONFIG}, {steps} steps",
        "the sum of start, data, steps, logs, saves", told["train"], told["of train"],
        target=TARGET,
    )
    yield faster(
        PART, f"harness eval --fid, {CONFIG}, {samples} images",
        "the sum of start, sampling, decoding, features", told["eval"], told["of it"],
        target=TARGET,
    )


def _demo(folder: Path, options: Options) -> Row:
    """`make demo` once, without the installation: the Makefile's own commands, in `folder`."""
    lines = (ROOT / "Makefile").read_text().partition("\ndemo: ")[2].split("\n\n")[0].splitlines()
    commands = [_harness(*line.split()[1:]) for line in lines[1:]]
    if options.quick:
        for command in commands:
            for value in SHORT if "train" in command else ():
                command += ["--set", value]
    seconds = sum(_seconds(command, folder, options) for command in commands)
    limit = sides.target(*DEMO_LIMITS)
    return share(PART, f"make demo, its {len(commands)} commands", f"{limit:g} s", [seconds],
                 [limit], target=1.0)


def _harness(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def _seconds(command: list[str], folder: Path, options: Options) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(options.threads), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-3000:]}")
    return time.perf_counter() - began


class Parts:
    """What `harness train` and `harness eval` of a run are made of, one at a time."""

    def __init__(self, run: str, data: str):
        from harness.base import paddle_env

        paddle_env.require_paddle()
        from harness import runs

        self.run, self.data = runs.load(run), Path(data)
        self.numbers = count()

    def train(self, steps: int, saves: int) -> float:
        """Seconds of drawing the batches, of the steps, of their log lines and of checkpoints."""
        from harness import data, runs
        from harness.distributed.process_group import World
        from harness.training import logged_values, train
        from harness.training.background_saving import Saver
        from harness.training.step import Trainer

        config = self.run.config
        trainer = Trainer(config, seed=1)
        copy = runs.create(
            self.run.directory.parent / f"parts-{next(self.numbers)}", config, 1,
            fingerprint=self.run.info["fingerprint"], data=self.run.info["data"], commit=None,
        )
        log = logged_values.RunLog(copy, World.alone(), keep_through=0)
        saver = Saver(copy, trainer, before=log.sync)
        shard, part = train.shares(config, trainer.world)[0]
        size = config.train.global_batch_size
        wanted = ((n, range(n * size + part.start, n * size + part.stop)) for n in range(steps))
        began = time.perf_counter()
        source = data.open_source(config, 1, self.data)
        batches = list(data.prefetch(source, wanted, config.data.num_workers))
        for number, batch in enumerate(batches, 1):
            loss, _ = trainer.train([(shard, batch)])
            log.chrono.step_done()
            log.step(trainer.step, loss)
            if number % (steps // saves) == 0:
                saver.save()
                saver.settle()
        taken = time.perf_counter() - began
        saver.close()
        log.close()
        shutil.rmtree(copy.directory)
        return taken

    def evaluate(self, samples: int, seed: int) -> float:
        """Seconds of sampling, decoding and features."""
        from eval import protocols
        from eval.evaluation import evaluate, evaluate_run, evaluation_task
        from eval.features.networks import open_network
        from eval.sampling import image_making

        config = self.run.config
        protocol = protocols.get(config.eval.protocol, n_samples=samples, seed=seed)
        step, _, ema = evaluate_run.load_ema(self.run, None)
        task = evaluation_task.Task(config, protocol, self.data, self.run.directory, step)
        maker = image_making.Maker(
            config, protocol, evaluation_task.open_captions(task),
            evaluate.make_model(config, ema),
            self.data / "vae", batch_size=task.batch_size,
            decode_batch_size=task.decode_batch_size,
        )
        with open_network(protocol.features, data=self.data) as network:
            return sum(self._block(maker, network, first, min(first + task.batch_size, samples))
                       for first in range(0, samples, task.batch_size))

    @staticmethod
    def _block(maker: Any, network: Any, first: int, last: int) -> float:
        began = time.perf_counter()
        images, _ = maker.images(first, last)
        network.extract(images)
        network.classify(images)
        return time.perf_counter() - began
