"""What only a GPU runs, with stand-ins for the device, its counters and its kernels."""

import importlib
import warnings

import paddle
import pytest

from harness import configs
from harness.base import paddle_env
from harness.doctor import examine
from harness.doctor.findings import Finding
from models import ops, uvit
from tests.bench import __main__ as bench
from tests.bench import bench_gpu, rows
from tests.bench.bench_gpu import VARIANTS, Variant
from tests.bench.options import Options

QUICK = Options(quick=True, rounds=2, threads=1)


class InProcess:
    """A worker whose object lives here, where the stand-ins are."""

    def __init__(self, target, *, threads, **arguments):
        module, _, name = target.partition(":")
        self.made = getattr(importlib.import_module(module), name)(**arguments)

    def __enter__(self):
        return self.made

    def __exit__(self, *_):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """An A100 that computes with the CPU's float32 kernels; counts synchronisations."""
    waits = []
    cuda = paddle.device.cuda
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device, "synchronize", lambda *_: waits.append(1))
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda: 123_000_000)
    monkeypatch.setattr(cuda, "max_memory_reserved", lambda: 150_000_000)
    monkeypatch.setattr(cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(paddle.amp, "decorate", lambda model, **_: model)
    monkeypatch.setattr(ops, "require_memory_efficient_attention", lambda: None)
    monkeypatch.setattr(ops, "memory_efficient_attention", ops.attention)
    monkeypatch.setattr(bench_gpu, "Worker", InProcess)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # auto_cast says that a CPU has no half precision
        yield waits


def test_every_variant_gives_speed_mfu_and_memory(gpu, monkeypatch):
    monkeypatch.setattr(bench_gpu, "GROUP", 1)
    monkeypatch.setattr(bench_gpu, "WARM", 1)
    monkeypatch.setattr(bench_gpu, "QUICK", VARIANTS)
    found = list(bench_gpu.rows(QUICK))
    assert all(map(rows.finite, found))
    assert len({row.key for row in found}) == len(found)
    memory = [row for row in found if row.name.endswith(": memory")]
    assert len(memory) == len(VARIANTS) and {row.ours for row in memory} == {123_000_000}
    peaks = [row.against for row in found if row.against.startswith("peak")]
    assert len(peaks) == len(VARIANTS) and {"peak, fp16", "peak, bf16"} < set(peaks)
    # every half-precision and attention kind is put beside plain float32 of its batch
    assert sum("fp32, math, on NVIDIA A100" in row.against for row in found) == len(VARIANTS) - 2
    assert len(gpu) > 4 * len(VARIANTS)


def test_the_variants_are_what_was_asked_for():
    assert {v.batch for v in VARIANTS} == {32, 64}
    assert {(v.precision, v.level) for v in VARIANTS} > {*bench_gpu.HALF}
    assert {v.attention for v in VARIANTS} == {"math", "memory_efficient"}
    assert {v.recompute for v in VARIANTS} == {False, True}
    assert len(set(VARIANTS)) == len(VARIANTS)
    for variant in VARIANTS:
        configs.load("small", variant.sets())


def test_a_volta_lacks_bf16_and_says_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(bench_gpu, "QUICK", [Variant("bf16")])
    assert list(bench_gpu.rows(QUICK)) == []
    assert "bf16 O1, math: not measured" in capsys.readouterr().err


def test_a_variant_that_fails_is_left_out_and_said(capsys, monkeypatch):
    # A worker of its own, without stand-ins: this machine's own paddle refuses.
    monkeypatch.setattr(bench_gpu, "QUICK", [Variant(attention="memory_efficient")])
    if paddle_env.has_gpu_build():
        pytest.skip("this build can")
    assert list(bench_gpu.rows(QUICK)) == []
    assert "not measured" in capsys.readouterr().err


def test_on_a_gpu_sides_wait_for_it(gpu):
    from tests.bench import uvit_ours

    uvit_ours.finish()
    assert gpu == [1]


def test_the_whole_benchmark_tells_what_a_gpu_lacks(monkeypatch, capsys):
    lacking = Finding("gpu", "note", "none found", "get one")
    monkeypatch.setattr(examine, "examine", lambda: [lacking, Finding("disk", "note", "full")])
    assert bench.main(["--device", "gpu"]) == 5
    assert capsys.readouterr().err == "bench: gpu: none found; get one\n"


def test_with_a_gpu_every_part_is_measured(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(examine, "examine", lambda: [Finding("gpu", "ok", "A100")])

    def measure(parts, options):
        asked.append((parts, options.device))
        return [], []

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.main(["--device", "gpu", "--out", str(tmp_path / "bench.json")]) == 0
    assert asked == [([*bench.PARTS, "gpu"], "gpu")]


def test_the_model_module_takes_the_standins(gpu):
    """The stand-ins above replace what the model really calls."""
    model = uvit.UViT(sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=16,
                      clip_dim=16, num_text_tokens=4, attention="memory_efficient")
    assert model.in_blocks[0].attn.kind == "memory_efficient"
