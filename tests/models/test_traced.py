"""One network by fused kernels, by paddle's own and as a graph: one answer, one gradient."""

import numpy as np
import paddle
import pytest

from baselines import torch_peer as oracle
from baselines.torch_peer import TINY
from harness.base.errors import EnvironmentFault
from models import weights
from models.traced import Traced
from models.uvit import UViT

TOLERANCE = 1e-4  # of the largest gradient of a parameter; docs/reproducibility.md says it
WAYS = ({}, {"HARNESS_KERNELS": "paddle"}, {"HARNESS_EXECUTION": "static"})


def tensors(batch):
    return {k: paddle.to_tensor(v) for k, v in oracle.batch(TINY, **batch).items()}


def made():
    model = UViT(**TINY)
    weights.load_official(model, oracle.lively_weights(model))
    return model


def predict(model, b):
    return model(b["x"], b["timesteps"], encoder_hidden_states=b["context"]).sample


def computed():
    """{name: array}: loss, prediction, gradients; samples with merged tokens and without."""
    model, b = made(), tensors({})
    out = predict(model, b)
    loss = (out - b["target"]).square().mean()
    loss.backward()
    found = {"loss": loss, "out": out} | {n: p.grad for n, p in model.named_parameters()}
    with paddle.no_grad():
        for name, ratio in (("plain", 0.0), ("merged", 0.5), ("plain again", 0.0)):
            found[name] = predict(model.apply_tome(ratio, merge_mlp=True), b)
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_all_ways_agree(monkeypatch):
    found = []
    for way in WAYS:
        with monkeypatch.context() as patch:
            for name, value in way.items():
                patch.setenv(name, value)
            found.append(computed())
    fused, plain, static = found
    assert any((fused[n] != plain[n]).any() for n in fused)  # others did compute
    for other in (fused, static):
        for name, wanted in plain.items():
            np.testing.assert_allclose(
                other[name], wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max(), err_msg=name)
    assert (static["plain"] != static["merged"]).any()
    assert (static["plain"] == static["plain again"]).all()


@pytest.mark.parametrize("settings", [{"recompute": True}, {"attention": "memory_efficient"}])
def test_what_cannot_be_traced_is_refused(settings, monkeypatch):
    monkeypatch.setenv("HARNESS_EXECUTION", "static")
    monkeypatch.setattr("models.ops.require_memory_efficient_attention", lambda: None)
    with pytest.raises(EnvironmentFault, match="static execution is not for"):
        UViT(**TINY, **settings)


def test_a_network_that_looks_at_values_is_refused_in_one_line():
    @paddle.jit.not_to_static
    def network(x):
        return x * float(x.numpy().max())

    with pytest.raises(EnvironmentFault, match="cannot trace the network: ") as e:
        Traced(network)(paddle.ones([2]))
    assert "\n" not in str(e.value) and "--execution eager" in str(e.value)
