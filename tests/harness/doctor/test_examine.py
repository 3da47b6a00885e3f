import pytest

from harness.doctor import examine


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((6, 0), False), ((6, 1), True), ((7, 0), True), ((7, 2), True), ((7, 5), True),
     ((8, 0), True), ((8, 6), True), ((8, 9), True), ((9, 0), False), ((10, 0), False)],
)
def test_a_gpu_runs_code_of_its_major_version_and_no_newer_minor(capability, runs):
    assert examine.runs_code_for(capability) is runs


def test_nvidia_smi_lines_are_read_and_nonsense_is_not():
    text = "NVIDIA A100-SXM4-80GB, 8.0\nTesla V100, 7.0\nnonsense\nX, [N/A]\n"
    assert examine.parse_gpus(text) == [("NVIDIA A100-SXM4-80GB", (8, 0)), ("Tesla V100", (7, 0))]


def test_a_gpu_that_the_wheel_has_no_code_for_is_said_so(monkeypatch):
    monkeypatch.setattr(examine, "query_gpus", lambda: [("NVIDIA H200", (9, 0))])
    monkeypatch.setattr(examine, "_is_paddle3", lambda: False)
    (finding,) = examine._gpus()
    assert finding.status == "missing" and "9.0" in finding.detail
    assert "STACK=paddle3" in finding.remedy and "cu126" in finding.remedy


@pytest.mark.parametrize("build, capability, status, words", [
    ("cu126", (9, 0), "ok", "cu126 is said to have code"),
    ("cu118", (9, 0), "note", "this build (cu118)"),
    ("", (9, 0), "note", "an unknown CUDA"),
    ("cu126", (13, 0), "note", "not known here"),
])
def test_of_paddle3_no_more_is_claimed_than_is_known(
    monkeypatch, build, capability, status, words
):
    monkeypatch.setattr(examine, "query_gpus", lambda: [("NVIDIA X", capability)])
    monkeypatch.setattr(examine, "_is_paddle3", lambda: True)
    monkeypatch.setattr(examine, "_cuda_build", lambda: build)
    for gpu in (True, False):
        monkeypatch.setattr(examine.paddle_env, "has_gpu_build", lambda gpu=gpu: gpu)
        (finding,) = examine._gpus()
        assert "None" not in finding.detail + finding.remedy
        if gpu:
            assert finding.status == status and words in finding.detail


def test_the_cuda_of_a_wheel_is_its_local_version(monkeypatch):
    monkeypatch.setattr(examine.fingerprint, "version", lambda name: "3.3.1+cu126")
    assert examine._cuda_build() == "cu126"
    monkeypatch.setattr(examine.fingerprint, "version", lambda name: None)
    assert examine._cuda_build() == ""  # the CPU build's


def test_a_missing_cuda_library_has_a_remedy(monkeypatch):
    monkeypatch.setattr(examine.paddle_env, "has_gpu_build", lambda: True)
    monkeypatch.setattr(examine, "_is_paddle3", lambda: False)
    monkeypatch.setattr(examine, "CUDA_LIBRARIES", ("libnothing.so.11", "libc.so.6"))
    absent, present = examine._cuda_libraries()
    assert absent.status == "missing" and "LD_LIBRARY_PATH" in absent.remedy
    assert present.status == "ok"


def test_missing_weights_and_data_are_notes_with_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = {finding.what: finding for finding in examine.examine()}
    assert "harness fetch inception" in found["inception weights"].remedy
    assert "harness data digits" in found["data digits"].remedy
    assert "harness data fetch" in found["data coco256_features"].remedy
    assert "GFLOP/s a core, by " in found["matrix products"].detail
    assert {"governor", "turbo", "smt", "load", "stolen time"} <= found.keys()
