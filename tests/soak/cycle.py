"""One cycle: a run is trained on, evaluated and reported, with something going wrong each time.

Two runs are trained: one that is new in every cycle, whose bits have to be those of the first
cycle's, and one that goes on from cycle to cycle and is begun anew every `ANEW` cycles, as a longer
run is a longer report, which is no leak.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness import files, runs
from tests.faults import cases
from tests.soak import watching
from tests.soak.watching import Usage
from tests.warm import Warm

ANEW = 25
STEPS = 4  # by which the run that goes on is trained in a cycle
LONG = [word for key, value in {
    "max_steps": 10**6, "save_steps": 2, "log_steps": 1, "image_steps": 0, "eval_steps": 0,
    "global_batch_size": 16, "micro_batch_size": 16, "eval_at_start": "false",
}.items() for word in ("--set", f"train.{key}={value}")]


def _killed(process: psutil.Process) -> None:
    process.kill()


def _asked_to_stop(process: psutil.Process) -> None:
    process.send_signal(signal.SIGTERM)


def _stopped_a_while(process: psutil.Process) -> None:
    process.suspend()
    time.sleep(1.0)
    process.resume()


def _disk_full(process: psutil.Process) -> None:
    """No file of it grows beyond 4 kB from here on."""
    process.rlimit(resource.RLIMIT_FSIZE, (4096, 4096))


# What is done to a running command -> how it may end then. In the very first moments of a process
# a signal's default ends it; the disk may be full when nothing is left to write.
FAULTS: dict[str, tuple[Callable[[psutil.Process], None] | None, set[int]]] = {
    "nothing": (None, {0}),
    "killed": (_killed, {0, -signal.SIGKILL}),
    "asked to stop": (_asked_to_stop, {0, 75, -signal.SIGTERM}),
    "stopped a while": (_stopped_a_while, {0}),
    "disk full": (_disk_full, {0, 5}),
}


def _torn_log(run: Path) -> None:
    with contextlib.suppress(FileNotFoundError), open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 99, "lo')


def _broken_checkpoint(run: Path) -> None:
    saved = sorted((run / "checkpoints").glob("*/ema.safetensors"))
    if len(saved) > 1:
        saved[-1].write_bytes(saved[-1].read_bytes()[:-1])


def _leftovers(run: Path) -> None:
    if (run / "checkpoints").is_dir():
        (run / "checkpoints" / ".00000009.77.tmp").mkdir(exist_ok=True)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda run: None, "torn log": _torn_log, "broken checkpoint": _broken_checkpoint,
    "leftovers of a save": _leftovers,
}


class Cycles:
    """What cycles have in common: `folder`, where all lies, and the server of commands."""

    def __init__(self, folder: Path, warm: Warm, mark: str):
        self.folder, self.warm, self.mark = folder, warm, mark
        self.most: dict[str, Usage] = {}
        self.faults: list[str] = []
        self.tiny = cases.make("tiny", warm, _empty(folder / "tiny"))
        self.digits = folder / "digits"
        if not self.digits.exists():
            self._run(["data", "digits", self.digits], "nothing", random.Random(0))

    def one(self, number: int) -> dict[str, Any]:
        """Cycle `number`; what was seen, as JSON holds it. AssertionError: a promise is broken."""
        draw, began = random.Random(number), time.monotonic()
        self.most, self.faults = {}, []
        bits = self._new_run(draw)
        run = self.folder / "long"
        if number % ANEW == 0:
            shutil.rmtree(run, ignore_errors=True)
        last = runs.load(run).checkpoint_steps() if (run / "run.json").exists() else []
        until = (last[-1] if last else 0) + STEPS
        until += -until % 2
        train = ["train", "digits_tiny", "--data", self.digits, "--output-dir", run, *LONG,
                 "--until", until]
        self._through(train, run, draw)
        assert runs.load(run).metrics()[-1]["step"] == until
        self._through(["eval", run, "--fid", "--n-samples", 10, "--steps", 2], run, draw)
        self._through(["report", run, self.folder / "new", "-o", self.folder / "report"], run, draw)
        for old in sorted((run / "eval").iterdir())[:-2]:
            shutil.rmtree(old)  # as a person does who keeps the last ones
        known = {psutil.Process().pid, *(p.pid for p in psutil.Process().children())}
        number_of_files, size = watching.files_below(self.folder)
        return {
            "cycle": number, "seconds": time.monotonic() - began, "faults": self.faults,
            "bits": bits, "disk_bytes": size, "files": number_of_files,
            "left_over": len(watching.left_over(self.mark, known)),
            "shared_memory": len(list(Path("/dev/shm").iterdir())),
            **{f"{command}_{key}": value for command, most in self.most.items()
               for key, value in vars(most).items()},
        }

    def _new_run(self, draw: random.Random) -> str:
        directory = self.folder / "new"
        shutil.rmtree(directory, ignore_errors=True)
        self._through([*self.tiny.train(directory)], directory, draw)
        found = {name: hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else
                 content for name, content in cases.bits(directory).items()}
        return hashlib.sha256(files.canonical_json(found)).hexdigest()

    def _through(self, arguments: list[object], run: Path, draw: random.Random) -> None:
        """A command with a fault, what it leaves damaged, and the same command again."""
        fault = draw.choice(list(FAULTS))
        code = self._run(arguments, fault, draw)
        damage = draw.choice(list(DAMAGES)) if arguments[0] == "train" else "nothing"
        DAMAGES[damage](run)
        self.faults.append(f"{arguments[0]}: {fault}, {damage}")
        if code or damage != "nothing":
            self._run(arguments, "nothing", draw)

    def _run(self, arguments: list[object], fault: str, draw: random.Random) -> int:
        act, codes = FAULTS[fault]
        child = self.warm.start(*arguments)
        moment = time.monotonic() + draw.uniform(0.0, 4.0)
        most = Usage()
        while (now := watching.usage(child.pid)) is not None:
            most = most.most(now)
            if act and time.monotonic() > moment:
                with contextlib.suppress(psutil.Error):
                    act(psutil.Process(child.pid))
                act = None
            time.sleep(0.02)
        ended = self.warm.wait(child)
        child.out.unlink(), child.err.unlink()
        said = f"{' '.join(map(str, arguments))}, {fault}: {ended.returncode}\n{ended.stderr}"
        assert ended.returncode in codes and "Traceback" not in ended.stderr, said
        if not ended.returncode:  # of one that was cut short, less
            name = str(arguments[0])
            self.most[name] = self.most.get(name, Usage()).most(most)
        return ended.returncode


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def seen(path: Path) -> list[dict[str, Any]]:
    """The cycles of earlier calls, from `cycles.jsonl`; a torn last line is left out."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]
