"""Commands beside each other, so many at a time, each in a process group of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import files
from harness.distributed import child_commands

_LOOK = 0.1  # seconds between two looks at who has ended


@dataclass(frozen=True)
class Job:
    """A command, called `name`; what it says is appended to `log`.

    `environment`: variables of its own. `descriptors`: those of ours that it inherits.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    folder: Path | None = None
    descriptors: tuple[int, ...] = ()


def run(
    jobs: Iterable[Job], slots: Sequence[Mapping[str, str]], environment: Mapping[str, str]
) -> Generator[tuple[Job, int], None, None]:
    """Run all, as many at once as there are slots; each that ended, with its exit code.

    A job gets `environment` and its slot's variables. Whatever is raised here, Ctrl-C or SIGTERM,
    and closing this, stops all of them first, as SIGTERM does, and waits.
    """
    free = list(reversed(slots))
    waiting = list(reversed(list(jobs)))
    running: list[tuple[Job, Mapping[str, str], subprocess.Popen[str]]] = []
    try:
        while waiting or running:
            while waiting and free:
                job, slot = waiting.pop(), free.pop()
                with files.writing(job.log):
                    job.log.parent.mkdir(parents=True, exist_ok=True)
                    process = child_commands.start(
                        job.command, env={**environment, **job.environment, **slot},
                        cwd=job.folder, log=job.log, pass_fds=job.descriptors)
                running.append((job, slot, process))
            time.sleep(_LOOK)
            for one in [one for one in running if one[2].poll() is not None]:
                running.remove(one)
                free.append(one[1])
                yield one[0], one[2].returncode
    finally:
        child_commands.stop(process for _, _, process in running)
