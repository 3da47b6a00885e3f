import re
from pathlib import Path

import pytest

from harness.base import locked_stacks

LOCKS = Path(__file__).parents[1] / "locks"


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.lock")), ids=lambda path: path.name)
def test_a_lock_has_hashes_and_no_addresses(path):
    text = path.read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=[a-zA-Z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("stack", locked_stacks.STACKS, ids=lambda stack: stack.name)
def test_a_stack_is_what_its_lock_holds(stack):
    text = (LOCKS / f"{stack.name}-cpu.lock").read_text()
    for package, version in (("paddlepaddle", stack.paddle), ("ppdiffusers", stack.ppdiffusers),
                             ("paddlenlp", stack.paddlenlp)):
        assert re.search(rf"(?m)^{package}=={re.escape(version)} ", text)


@pytest.mark.parametrize(
    ("fingerprint", "label"),
    [({"package.paddlepaddle": "2.6.2"}, "paddle2.6"),
     ({"package.paddlepaddle": "3.3.1"}, "paddle3"),
     ({"package.paddlepaddle": None, "package.paddlepaddle-gpu": "3.3.1+cu126"}, "paddle3"),
     ({"package.paddlepaddle": "3.2.0"}, "paddle3 (paddle 3.2.0)"),
     ({"package.paddlepaddle": "4.0.0"}, "paddle 4.0.0"), ({}, "unknown stack")],
)
def test_a_runs_stack_is_told_from_its_fingerprint(fingerprint, label):
    assert locked_stacks.label(fingerprint) == label
