import ctypes

import pytest

from harness.doctor import cuda_libraries


def test_each_library_is_said_to_be_missing_or_where_it_comes_from(monkeypatch, tmp_path):
    libc = next(line.split()[-1] for line in open("/proc/self/maps") if "libc.so" in line)
    (tmp_path / "libc.so.6").symlink_to(libc)
    ctypes.CDLL("libm.so.6")
    monkeypatch.setattr(cuda_libraries, "LIBRARIES", ("libnothing.so", "libc.so.6", "libm.so.6"))
    found = list(cuda_libraries.examine(tmp_path))
    absent, installed, machines = (one for one in found if one.what == "cuda library")
    assert absent.status == "missing" and absent.name == "libnothing.so"
    assert absent.detail.count("libnothing.so") == 1
    assert "make install DEVICE=gpu" in absent.remedy and "LD_LIBRARY_PATH" in absent.remedy
    assert installed.detail.startswith("libc.so.6: installed, /")
    assert machines.detail.startswith("libm.so.6: the machine's, /")


@pytest.mark.parametrize(("names", "status", "words"), [
    (("nvidia-cudnn-cu12", "nvidia-nccl-cu11"), "missing", "nvidia-nccl-cu11 write into"),
    (("nvidia-cudnn-cu12", "nvidia-nccl-cu12"), "ok", "cudnn 1.0, nccl 1.0"),
])
def test_torchs_libraries_are_to_be_its_own(monkeypatch, names, status, words):
    class Distribution:
        version = "1.0"

        def __init__(self, name):
            self.metadata = {"Name": name}

    monkeypatch.setattr(cuda_libraries.metadata, "distributions", lambda: map(Distribution, names))
    (one,) = cuda_libraries._torchs()
    assert one.status == status and words in one.detail
