"""What `make lint` and every pull request check."""

import re
import subprocess
import sys
from pathlib import Path

from tests.command import ROOT

PLANTED = """
from harness.base import seeds

seeds.generator("not a number", "order", 1)
"""


def test_a_wrong_argument_between_two_packages_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(PLANTED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml",
         "--cache-dir", tmp_path / "cache", planted],
        cwd=ROOT, capture_output=True, text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"planted.py:4: error: Argument 1 .*expected .int.", done.stdout), done.stdout


def test_the_pipeline_lints() -> None:
    assert "make lint" in (ROOT / ".ci" / "run").read_text()
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "ruff check ." in lint and "mypy" in lint
