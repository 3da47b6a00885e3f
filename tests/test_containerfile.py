"""The image for runners is made of the project's own installation; building it needs an engine."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Containerfile").read_text()


def test_it_installs_by_the_makefile_on_a_python_that_is_supported():
    makefile = (ROOT / "Makefile").read_text()
    target, variable = re.search(r"RUN make (\w+) (\w+)=", TEXT).groups()
    assert re.search(rf"(?m)^{target}:", makefile)
    assert re.search(rf"(?m)^{variable} +\?=", makefile)
    minor = int(re.search(r"FROM python:3\.(\d+)", TEXT)[1])
    assert 10 <= minor <= 12
    assert "pip install" not in TEXT  # nothing beside the locks


def test_what_the_makefile_calls_is_in_the_image():
    packages = re.search(r"--no-install-recommends \\\n(.*?)\n &&", TEXT, re.S)[1].split()
    assert {"make", "git", "gcc", "libgomp1"} <= set(packages)
    assert "utility" in re.search(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", TEXT)[1]  # NVML


def test_what_git_does_not_keep_stays_outside():
    ignored = set((ROOT / ".dockerignore").read_text().split())
    for line in (ROOT / ".gitignore").read_text().split():
        name = line.strip("/")
        if line.endswith("/") and name not in ("__pycache__",) and not name.endswith("_cache"):
            assert name in ignored, name
    assert not any(name.startswith(".git") for name in ignored)  # a run names its commit
