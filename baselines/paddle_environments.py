"""Environments that differ in Paddle alone: a version or a wheel, installed beside the stack's."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.base import locked_stacks
from harness.base.errors import EnvironmentFault, UsageError
from harness.base.progress import say
from harness.cells import run_cells as cells
from harness.distributed import child_commands
from harness.files import safe_reading

_VERSION = re.compile(r"\d+(\.\w+)+")
_FORMS = "a version (3.2.0), a wheel's file, or the Python of an environment"


def names(given: list[str] | tuple[str, ...]) -> list[str]:
    """What each of `given` is called: its version, or its path where that says more."""
    found = [version(one) or one for one in given]
    return found if len(set(found)) == len(found) else list(given)


def version(given: str) -> str | None:
    """The version of Paddle that a text or a wheel's file name says; None of an interpreter."""
    if given.endswith(".whl"):
        parts = Path(given).name.split("-")
        return parts[1] if parts[0].startswith("paddlepaddle") and len(parts) > 2 else None
    return given if _VERSION.fullmatch(given) else None


def interpreter(given: str) -> str:
    """The Python of an environment with this Paddle, which is installed if it is not there yet.

    `given`: a version (3.2.0), a wheel's file, or an interpreter, which is taken as it is. Each
    environment is kept in build/paddle/ of the checkout, so that the next call installs nothing.
    UsageError for what is none of them; EnvironmentFault if it cannot be installed.
    """
    wanted = version(given)
    if wanted is None:
        if given.endswith(".whl"):
            raise UsageError(f"{given} is not named as a wheel of Paddle", remedy=f"give {_FORMS}")
        return cells.interpreter(given)
    wheel = Path(given).resolve() if given.endswith(".whl") else None
    if wheel and not wheel.is_file():
        raise UsageError(f"{given} is no file", remedy=f"give {_FORMS}")
    stack = locked_stacks.of(wanted)
    if stack is None:
        known = ", ".join(stack.series + "x" for stack in locked_stacks.STACKS)
        raise UsageError(f"there is no stack for Paddle {wanted}", remedy=f"versions: {known}")
    if cells.CHECKOUT is None:
        raise UsageError(
            f"Paddle {wanted} can be installed from a checkout of this project only",
            remedy="give the Pythons of environments that have it",
        )
    folder = cells.CHECKOUT / "build" / "paddle" / (_name(wheel) if wheel else wanted)
    say(f"Paddle {wanted}: its environment is {folder} (installing takes minutes)")
    done = child_commands.run(
        ["make", "-s", "install", f"STACK={stack.name}", f"PADDLE={wheel or wanted}",
         f"VENV={folder}"],
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")},
        cwd=cells.CHECKOUT,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])
        told = next((line for line in reversed(last) if not line.startswith("make")), last[-1])
        raise EnvironmentFault(
            f"Paddle {wanted} could not be installed: {told.strip()}",
            remedy=f"`make install STACK={stack.name} PADDLE={wheel or wanted} VENV={folder}`",
        )
    return str(folder / "bin" / "python")


def _name(wheel: Path) -> str:
    """Told by contents too: one night's build is often named as that of another night."""
    return f"{wheel.stem}-{safe_reading.sha256_file(wheel)[:8]}"
