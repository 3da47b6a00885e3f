"""`harness acceptance`: everything that a machine has to show before its figures are believed.

The checks of `harness.doctor.probe` at another depth, and those that take longer: each leaves its
lines in DIR/checks/ when it is done, so that the same command goes on with the next. A check that
raises is a line too, with its traceback in DIR/said/.
"""

from __future__ import annotations

import json
import statistics
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines import gate, record, torch_peer
from eval.features.inception_weights import weights_path
from harness import configs, files, runs
from harness.base import fingerprint
from harness.base.errors import HarnessError, Interrupted
from harness.base.progress import Progress
from harness.cells import run_cells as cells
from harness.distributed import child_commands
from harness.doctor import examine
from harness.doctor.probe import CHECKS, Lab, Promise, same
from harness.plan import memory
from reports.tables import flops, gpu_peaks

SCHEMA = 1
BASELINE_RUNS = 5
# Every step is followed by a sleep of so many SECONDS: planted by way of PYTHONPATH.
_SLOWER = """
import os
import time

from harness.training.measure import Chrono

_done = Chrono.step_done


def step_done(self):
    time.sleep(float(os.environ["SECONDS"]))
    _done(self)


Chrono.step_done = step_done
"""


@dataclass(frozen=True)
class Depth(Lab):
    """A lab with the bounds that its machine is held to.

    `timed`: steps of a run whose speed counts; `slower`: the share of a step that is planted and
    has to be found; `beside_torch`: the least of PyTorch's speed; `memory`: how far the peak may be
    from the plan's, a share.
    """

    timed: int = 12
    slower: float = 5.0  # found on a machine that does much else at the same time
    beside_torch: float = 0.1
    memory: float = 0.5
    evaluated: int = 20  # samples


def full(folder: Path) -> Depth:
    """About an hour on a GPU: `small`, curves of 200 steps, a slowdown of 7 %."""
    return Depth(folder, config="small", steps=200, batch=64, micro_batch=16, timed=300,
                 slower=0.07, beside_torch=0.8, memory=0.25, evaluated=200)


def rehearsal(folder: Path) -> Depth:
    """A minute or two on a CPU: the whole way, at sizes and bounds that say nothing of speed."""
    return Depth(folder)


def _doctor(lab: Depth) -> Iterator[Promise]:
    for finding in examine.examine():
        if finding.status == "missing":
            needed = lab.gpus or finding.name != "gpu"
            yield Promise(f"doctor: {finding.what}", False if needed else None,
                          f"{finding.detail}; {finding.remedy}")
    yield Promise("doctor has looked", True, "every finding is in the page's environment")


def _ways(lab: Depth) -> Iterator[Promise]:
    """Recompute and the other attention: the same step, in less memory."""
    first = lab.train(lab.cell("first"))
    if isinstance(first, str):
        yield Promise("recompute", False, first)
        return
    yield same(lab, "recompute leaves the bits", first,
               lab.cell("recompute", "train.recompute=true"))
    name = "memory-efficient attention"
    if not lab.gpus:
        yield Promise(name, None, "needs a GPU")
        return
    other = lab.train(lab.cell("efficient", "train.attention=memory_efficient"))
    if isinstance(other, str):
        yield Promise(name, False, other)
        return
    a, b = (one.metrics()[0]["loss"] for one in (first, other))
    apart = abs(a - b) / abs(a)
    yield Promise(name, apart <= 1e-4, f"{apart:.1e} of the first loss", "1e-04")


def _memory(lab: Depth) -> Iterator[Promise]:
    """The peak of a run against what the plan says of it."""
    for name, more in (("first", ()), ("recompute", ("train.recompute=true",))):
        said = f"memory{', recompute' * bool(more)}"
        run = lab.train(lab.cell(name, *more))
        if isinstance(run, str):
            yield Promise(said, False, run)
            continue
        key = "peak_device_bytes" if lab.gpus else "peak_host_bytes"
        peak = max(line[key] for line in run.timing())
        parts = memory.parts(
            configs.Config.model_validate(run.info["config"]), lab.micro_batch,
            on_cpu=not lab.gpus)
        if lab.gpus:  # the allocator's peak: the context is not in it
            del parts["workspace"]
        planned = memory.total(parts)
        yield Promise(said, abs(peak / planned - 1) <= lab.memory,
                      f"{peak / 1e9:.2f} GB, planned {planned / 1e9:.2f} GB",
                      f"within {lab.memory:.0%}")


def _speed(lab: Depth) -> Iterator[Promise]:
    """A step beside PyTorch's on the same device, and MFU."""
    alone = (f"train.global_batch_size={lab.micro_batch}", "train.reduction=fast")
    cell = lab.cell("alone", *alone, until=lab.timed, arguments=())
    run = lab.train(cell)
    if isinstance(run, str):
        yield Promise("step beside PyTorch's", False, run)
        return
    ours = step_seconds(run)
    section = run.info["config"]["model"]
    theirs = torch_seconds(lab, section)
    both = f"{1e3 * ours:.1f} ms, {1e3 * theirs:.1f} ms"
    yield Promise("step beside PyTorch's", theirs / ours >= lab.beside_torch,
                  f"{theirs / ours:.2f} times its speed: {both}", f"{lab.beside_torch:g} and more")
    device = str(run.info["fingerprint"]["device"])
    peak = gpu_peaks.peak(device, "fp32")
    if peak is None:
        yield Promise("MFU", None, f"no peak is known of {device}")
    else:
        share = flops.mfu(lab.micro_batch / ours, 1, section, peak)
        yield Promise("MFU", 0 < share <= 1, f"{share:.1%} of {peak.arithmetic}", "at most 100%")
    together = lab.folder / "together"
    if lab.gpus > 1 and together.is_dir():
        each = [step_seconds(runs.load(lab.folder / name)) for name in ("first", "together")]
        yield Promise("cost of several devices", each[1] < each[0],
                      f"{each[0] / each[1]:.2f} times one device's speed on {lab.gpus}",
                      "more than 1")


def torch_seconds(lab: Depth, section: dict[str, Any]) -> float:
    """Median seconds of a step of PyTorch's U-ViT, on the device that paddle has here."""
    from models.uvit import UViT

    folder = lab.folder / "torch"
    folder.mkdir(exist_ok=True)
    made = torch_peer.run(
        folder, section, torch_peer.lively_weights(UViT(**section)),
        torch_peer.batch(section, lab.micro_batch), steps=np.array(min(lab.timed, 50)),
        threads=np.array(int(fingerprint.collect()["env.OMP_NUM_THREADS"] or 1)),
        device=np.array("cuda" if lab.gpus else "cpu"),
    )
    return float(np.median(made["seconds"][2:]))


def step_seconds(run: runs.Run) -> float:
    """The median step of a run."""
    return statistics.median(
        line["step_ms"] for line in run.timing() if line.get("steps_timed")) / 1e3


def _rates(lab: Depth) -> Iterator[Promise]:
    """An evaluation of the digits, and of Inception where its weights are."""
    digits = lab.folder / "digits"
    cell = cells.Cell("digits_tiny", digits, lab.folder / "evaluated", until=lab.steps)
    child_commands.run([sys.executable, "-m", "harness", "data", "digits", str(digits)])
    run = lab.train(cell)
    ended = run if isinstance(run, str) else cells.evaluate(
        cell, "--n-samples", lab.evaluated, "--steps", 2)
    if isinstance(ended, str) or ended.code:
        yield Promise("evaluation", False, str(ended))
        return
    result = runs.load(cell.directory).results()[-1]
    rate = 1 / sum(result["timing"]["seconds_per_image"].values())
    distance = result["metrics"]["fd_digits"]
    yield Promise("evaluation", bool(np.isfinite(distance)),
                  f"{rate:.1f} images/s; FD {distance:.1f} of {lab.evaluated} samples", "finite")
    path = weights_path()
    if not path.is_file():
        yield Promise("Inception", None, f"{path} is missing: `harness fetch inception`")


def _gate(lab: Depth) -> Iterator[Promise]:
    """A baseline of five runs, a sixth that it passes, and five slower ones that it must find."""
    plant = lab.folder / "plant"
    plant.mkdir(exist_ok=True)
    (plant / "sitecustomize.py").write_text(_SLOWER)

    def cell(name: str, seconds: float) -> cells.Cell:
        return lab.cell(name, f"train.save_steps={lab.timed}", until=lab.timed,
                        environment={"PYTHONPATH": str(plant), "SECONDS": str(seconds)})

    made: dict[str, list[runs.Run]] = {"good": [], "slow": []}
    for number in range(BASELINE_RUNS + 1):
        for kind in made:
            if kind == "slow" and number == BASELINE_RUNS:
                continue  # the sixth is a good one
            # A share of what a step takes here, the same for all, so that they scatter no more.
            slept = lab.slower * step_seconds(made["good"][0]) if kind == "slow" else 0.0
            run = lab.train(cell(f"{kind}-{number}", slept))
            if isinstance(run, str):
                yield Promise("baseline and gate", False, run)
                return
            made[kind].append(run)
    *five, sixth = made["good"]
    baseline = record.record(five, "five", vouched=True)
    record.save(baseline, folder=lab.folder / "baseline", replace=True)
    said = gate.check([sixth], baseline, vouched=True, only=("loss_bits", "weights_bits",
                                                            "ema_bits", "train_loss"))
    yield Promise("a sixth run passes the baseline", said.outcome == "passed",
                  _verdicts(said.verdicts), "same or better")
    said = gate.check(made["slow"], baseline, vouched=True, only=("throughput",), turns=True)
    yield Promise(f"{lab.slower:.0%} slower is found", said.outcome == "failed",
                  _verdicts(said.verdicts), "worse")


def _verdicts(verdicts: Any) -> str:
    return ", ".join(f"{one.metric} {one.verdict}" for one in verdicts)


ALL: dict[str, Callable[[Any], Iterator[Promise]]] = {
    "doctor": _doctor, **CHECKS, "ways": _ways, "memory": _memory, "speed": _speed,
    "rates": _rates, "gate": _gate,
}


def accept(lab: Depth) -> Iterator[tuple[str, list[Promise]]]:
    """(check, its lines) of each of `ALL`; those that are done already are read."""
    with Progress(len(ALL), "acceptance", unit="check", early=True) as progress:
        for name, check in ALL.items():
            yield name, _kept(lab, name, check)
            progress.advance()


def _kept(lab: Depth, name: str, check: Callable[[Any], Iterator[Promise]]) -> list[Promise]:
    path = lab.folder / "checks" / f"{name}.json"
    if path.exists():
        before = files.read_json(path)
        files.refuse_newer(before, SCHEMA, path)
        return [Promise(**one) for one in before["promises"]]
    try:
        found = list(check(lab))
    except Interrupted:
        raise
    except Exception as error:  # one broken check is a line, and the others are still looked at
        log = lab.folder / "said" / f"{name}-traceback.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(traceback.format_exc())
        kind = "" if isinstance(error, HarnessError) else f"{type(error).__name__}: "
        found = [Promise(name, False, f"{kind}{error}")]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.atomic_write_json(path, {"schema": SCHEMA, "promises": [asdict(one) for one in found]})
    return found


def document(lab: Depth, found: dict[str, list[Promise]]) -> dict[str, Any]:
    """Everything that whoever gets the page asks for, as JSON values."""
    said = sorted((lab.folder / "said").glob("*.txt"))
    return {
        "schema": SCHEMA, "fingerprint": json.loads(json.dumps(fingerprint.collect(), default=str)),
        "commit": fingerprint.git_commit(), "config": lab.config, "steps": lab.steps,
        "promises": [{"check": name, **asdict(one)} for name, each in found.items()
                     for one in each],
        "findings": [asdict(finding) for finding in examine.examine()],
        "said": {path.name: path.read_text(errors="replace")[-4000:] for path in said},
    }
