"""Paddle 2.6's GPU build, its libraries included: `make test-gpu-build`, with a GPU or without."""

import json
import subprocess
import sys

import pytest

from harness.base import nvml
from harness.base.errors import EnvironmentFault
from tests.command import assert_one_line_error, environment, harness

pytestmark = pytest.mark.gpu_build


def cards() -> int:
    try:
        return len(nvml.driver().cards)
    except EnvironmentFault:
        return 0


without_a_gpu = pytest.mark.skipif(cards() > 0, reason="a GPU is here")


def python(script: str) -> dict:
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


MAPPED = """
import json
paths = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
cuda = ("libcublas.", "libcudnn.", "libnccl.", "libcudart", "libnvrtc.", "libcusolver.")
print(json.dumps({**found, "cuda": sorted(p for p in paths if any(c in p for c in cuda))}))
"""


def test_paddle_opens_the_locked_libraries_and_no_variable_is_needed():
    found = python("""
import paddle
found = {
    "gpu": paddle.is_compiled_with_cuda(), "cudnn": paddle.device.get_cudnn_version(),
    "nccl": paddle.base.core.nccl_version(), "devices": paddle.device.cuda.device_count(),
}
""" + MAPPED)
    assert (found["gpu"], found["cudnn"], found["nccl"]) == (True, 8600, 21605)
    assert found["devices"] == cards()
    assert found["cuda"] and all("/cuda11/nvidia/" in path for path in found["cuda"])


def test_torch_in_its_own_process_has_its_own():
    found = python("import torch\nfound = {'cuda': torch.version.cuda}\n" + MAPPED)
    names = {path.rpartition("/")[2] for path in found["cuda"]}
    assert {"libcudnn.so.9", "libcublas.so.12", "libnccl.so.2"} <= names
    assert all("/site-packages/nvidia/" in path for path in found["cuda"])


def test_the_doctor_finds_every_library_and_whether_there_is_a_driver():
    process = harness("doctor", "--json")
    findings = json.loads(process.stdout)
    libraries = [one for one in findings if one["what"] == "cuda library"]
    assert len(libraries) == 8
    assert all(one["status"] == "ok" and "/cuda11/nvidia/" in one["detail"] for one in libraries)
    (torchs,) = (one for one in findings if one["what"] == "torch's cuda")
    assert torchs["status"] == "ok"
    gpus = [one for one in findings if one["what"] == "gpu"]
    if cards():
        assert len(gpus) == cards()
        return
    assert_one_line_error(process, 5, "missing: gpu; see")
    assert "no driver of NVIDIA answers" in gpus[0]["detail"] and "--gpus all" in gpus[0]["remedy"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu-build") / "digits"
    assert harness("data", "digits", folder).returncode == 0
    return folder


def train(digits, run, *options, config="digits_tiny"):
    return harness("train", config, "--data", digits, "--output-dir", run, "--no-eval", *options)


@without_a_gpu
def test_without_a_device_it_trains_and_evaluates_on_the_cpu(digits, tmp_path):
    run = tmp_path / "run"
    for until in (2, 4):  # the second time it continues
        process = train(digits, run, "--until", until)
        assert process.returncode == 0, process.stderr
    fingerprint = json.loads((run / "run.json").read_text())["fingerprint"]
    assert fingerprint["package.paddlepaddle-gpu"] == "2.6.2" and fingerprint["driver"] is None
    assert fingerprint["kernels"] == "fused" and "NVIDIA" not in fingerprint["device"]
    timing = (run / "timing.jsonl").read_text().splitlines()[-1]
    assert json.loads(timing)["peak_device_bytes"] is None
    process = harness("eval", run, "--fid", "--n-samples", 20, "--data", digits)
    assert process.returncode == 0 and "fd_digits" in process.stdout, process.stderr


@without_a_gpu
def test_without_a_device_two_workers_meet_through_gloo(digits, tmp_path):
    options = ("--nproc", 2, "--set", "train.reduction=fixed-order")
    process = train(digits, tmp_path / "two", "--until", 2, *options)
    assert process.returncode == 0, process.stderr
    assert train(digits, tmp_path / "one", "--until", 2, *options[2:]).returncode == 0
    one, two = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "two"))
    assert one == two


@without_a_gpu
@pytest.mark.parametrize(("options", "said"), [
    (("--set", "train.precision=fp16"), "needs a GPU"),
    (("--set", "train.attention=memory_efficient"), "the device is cpu"),
    (("--nproc", 2, "--devices", "0,1"), "no driver of NVIDIA answers"),
], ids=["half precision", "attention", "devices"])
def test_what_needs_a_device_is_refused_in_one_line(digits, tmp_path, options, said):
    assert_one_line_error(train(digits, tmp_path / "run", *options), 5, said)
