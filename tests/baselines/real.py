"""Real training runs, undisturbed and disturbed on purpose; prints each one's verdicts.

    python -m tests.baselines.real DATA OUT

A process of its own: peak memory is the process's. Its chronometer counts the training
thread's CPU time and the sleeps put in, not the wall's: tests share their machine, and what
others take from it is not what is tested here (tests/baselines/test_significance.py tests noise).
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path

from harness.base import paddle_env

paddle_env.require_paddle()

import numpy as np  # noqa: E402

from baselines import gate, record  # noqa: E402
from baselines.verdicts import Report  # noqa: E402
from harness import configs, runs  # noqa: E402
from harness.training import measure, train  # noqa: E402
from harness.training.step import Trainer  # noqa: E402

STEPS, ROUNDS = 14, 3
SETTINGS = (
    "train.global_batch_size=4", "train.micro_batch_size=4", f"train.max_steps={STEPS}",
    "train.log_steps=1", "data.num_workers=0", "train.eval_at_start=false",
)
slept = 0.0


def sleep(seconds: float) -> None:
    global slept
    time.sleep(seconds)
    slept += seconds


measure.time = types.SimpleNamespace(
    perf_counter=lambda: time.thread_time() + slept, time=time.time
)


class Disturbed(Trainer):
    """A trainer to which something happens before each step."""

    disturbance = staticmethod(lambda trainer: None)

    def train(self, *batches, **more):
        self.disturbance(self)
        return super().train(*batches, **more)


train.Trainer = Disturbed


def trained(data: Path, directory: Path, disturbance=lambda trainer: None) -> runs.Run:
    Disturbed.disturbance = staticmethod(disturbance)
    config = configs.load("digits_tiny", SETTINGS)
    return train.train(train.Plan(config, config.train.seed, directory, data, 0))


def flip_a_weight_bit(trainer: Trainer) -> None:
    if trainer.step == STEPS // 2:
        weight = dict(trainer.model.named_parameters())["decoder_pred.weight"]
        value = weight.numpy()
        value.view(np.uint32).reshape(-1)[0] ^= 1
        weight.set_value(value)


def verdicts(report: Report) -> dict[str, str]:
    return {"outcome": report.outcome, **{v.metric: v.verdict for v in report.verdicts}}


def main(data: Path, out: Path) -> dict[str, dict[str, str]]:
    trained(data, out / "warm-up")
    kinds: dict[str, list[runs.Run]] = {"baseline": [], "undisturbed": [], "sleep": []}
    found: dict[str, dict[str, str]] = {}
    for round_ in range(ROUNDS):
        for number in range(5 * round_, 5 * round_ + 5):  # taking turns: a drift meets all alike
            speed = 0.0
            for kind, some in kinds.items():
                nap = 0.2 * speed
                act = (lambda _, nap=nap: sleep(nap)) if kind == "sleep" else lambda _: None
                some.append(trained(data, out / f"{kind}{number}", act))
                if kind == "baseline":
                    steps = [line["step_ms"] for line in some[-1].timing() if line["step_ms"]]
                    speed = float(np.median(steps)) / 1e3
        baseline = record.record(kinds["baseline"], "real", vouched=True)
        for kind in ("undisturbed", "sleep"):
            found[kind] = verdicts(gate.check(kinds[kind], baseline, vouched=True))
        # The protocol for a noisy machine is to run again.
        if "inconclusive" not in {one["throughput"] for one in found.values()}:
            break
    found["rounds"] = {"n": str(round_ + 1)}
    flipped = trained(data, out / "bit", flip_a_weight_bit)
    found["bit"] = verdicts(gate.check([flipped], baseline, vouched=True))
    kept: list[np.ndarray] = []  # as large as all that the process had held, and in use
    peak = measure.peak_host_bytes()
    twice = trained(
        data, out / "memory", lambda _: None if kept else kept.append(np.ones(peak, np.uint8))
    )
    found["memory"] = verdicts(gate.check([twice], baseline, vouched=True))
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2])), indent=2))
