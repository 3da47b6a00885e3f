"""A run directory of one stack, read and continued by the other (needs both environments)."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import runs
from harness.base import locked_stacks
from harness.runs import checkpoints
from tests import command, fixtures

# Prints the digest of the weights once they have been through the network of that Paddle.
READ = """
import sys
from harness.base import paddle_env
paddle_env.prepare(threads=1)
from harness import runs
from harness.runs import checkpoints
from models import weights
from models.uvit import UViT

run = runs.load(sys.argv[1])
for part in ("model", "ema"):
    model = UViT(**run.config.model.model_dump())
    read = checkpoints.load(run.checkpoint(3), parts=(part,))
    weights.load_own(model, read.parts[part])
    print(checkpoints.tensors_digest({n: p.numpy() for n, p in model.named_parameters()}))
"""


def environments():
    """Name of each stack -> the interpreter of its environment in this checkout."""
    folders = {stack.name: command.ROOT / f".venv-{stack.name}" for stack in locked_stacks.STACKS}
    folders[locked_stacks.STACKS[0].name] = command.ROOT / ".venv"
    return {name: folder / "bin" / "python" for name, folder in folders.items()}


def called(python, *words):
    return subprocess.run(
        [python, *map(str, words)], cwd=command.ROOT, env=command.environment(),
        capture_output=True, text=True, timeout=300,
    )


def other_stack():
    found = [path for path in environments().values() if path.exists()]
    here = Path(sys.prefix).resolve()
    others = [path for path in found if path.parents[1].resolve() != here]
    if len(others) != len(locked_stacks.STACKS) - 1:
        pytest.skip("needs both stacks: make install, and make install STACK=paddle3")
    return others[0]


def test_a_run_of_one_stack_is_read_exactly_and_continued_by_the_other(features, tmp_path):
    other = other_stack()
    config = fixtures.write_tiny_config(tmp_path / "tiny.toml")
    words = ("-m", "harness", "train", config, "--data", features, "--output-dir", tmp_path / "run",
             "--kernels", "paddle")
    begun = called(sys.executable, *words, "--until", 3)
    assert begun.returncode == 0, begun.stderr
    run = runs.load(tmp_path / "run")
    manifest = checkpoints.read_manifest(run.checkpoint(3))

    read = called(other, "-c", READ, run.directory)
    assert read.stdout.split() == [manifest["weights_digest"], manifest["ema_digest"]], read.stderr

    went_on = called(other, *words)
    assert went_on.returncode == 0, went_on.stderr
    assert "warning: from step 3 on the bits are not those of one stack" in went_on.stderr
    assert "package.paddlepaddle" in went_on.stderr
    assert runs.load(run.directory).checkpoint_steps()[-1] == 6

    came_back = called(sys.executable, "-m", "harness", "verify", run.directory, "--from", 3)
    assert came_back.returncode == 0, came_back.stderr
