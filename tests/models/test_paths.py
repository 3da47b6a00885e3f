"""The official network's tensors come out on each path that paddle's MKL can be told to take."""

import os
import subprocess
import sys

import pytest

from harness.base import cpu_info
from tests.command import ROOT, environment

PARITY = "test_output_loss_and_gradients_are_those_of_the_torch_model"
NEEDED = {"0": set(), "5": {"avx2", "fma"}, "7": {"avx512f", "avx512dq", "avx512bw", "avx512vl"}}


@pytest.mark.parametrize("path", NEEDED)
def test_parity_holds_on_each_path(path):
    if not cpu_info.cpu().flags >= NEEDED[path]:
        pytest.skip(f"this CPU has no {', '.join(sorted(NEEDED[path]))}")
    if os.environ.get("MKL_DEBUG_CPU_TYPE") == path:
        pytest.skip("the path of these tests: test_uvit.py has run it")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/models/test_uvit.py", "-k", f"{PARITY} and plain"],
        cwd=ROOT, env=environment(MKL_DEBUG_CPU_TYPE=path), capture_output=True, text=True,
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
