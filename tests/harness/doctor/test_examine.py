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


def test_a_missing_cuda_library_has_a_remedy(monkeypatch):
    monkeypatch.setattr(examine.environment, "has_gpu_build", lambda: True)
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
