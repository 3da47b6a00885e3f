"""U-ViT against the PyTorch peer, and what ppdiffusers and training need of it."""

import numpy as np
import paddle
import pytest

from baselines import torch_peer as oracle
from baselines.torch_peer import TINY
from harness.base.errors import EnvironmentFault
from models import weights
from models.uvit import UViT, timestep_embedding
from reports.tables import flops


def tiny(**changes) -> UViT:
    return UViT(**{**TINY, **changes})


def tensors(section=TINY, **kwargs):
    return {k: paddle.to_tensor(v) for k, v in oracle.batch(section, **kwargs).items()}


def predict(model, b, **kwargs):
    return model(b["x"], b["timesteps"], encoder_hidden_states=b["context"], **kwargs).sample


def loss_and_gradients(model, b):
    model.clear_gradients()
    loss = (predict(model, b) - b["target"]).square().mean()
    loss.backward()
    return loss.numpy(), {n: p.grad.numpy() for n, p in model.named_parameters()}


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("tome", [
    {"ratio": 0.0}, {"ratio": 0.5}, {"ratio": 0.5, "merge_mlp": True},
])
def test_paddles_own_flags_change_no_bit(tome):
    """A script with a ppdiffusers pipeline sets none: there, a slice is a view."""
    model = tiny()
    weights.load_official(model, oracle.lively_weights(model))
    model.apply_tome(**tome)
    b = tensors()
    flag = "FLAGS_use_stride_kernel"
    before, found = paddle.get_flags(flag), []
    try:
        for value in (False, True):
            paddle.set_flags({flag: value})
            with paddle.no_grad():
                found.append(predict(model, b).numpy())
    finally:
        paddle.set_flags(before)
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(conv=False, qkv_bias=True),
        dict(num_layers=3, attention_head_dim=9, num_attention_heads=3, mlp_ratio=2.5),
        dict(patch_size=4, in_channels=3, num_text_tokens=1),
    ],
    ids=["plain", "no conv, qkv bias", "odd depth and width", "patch 4"],
)
def test_output_loss_and_gradients_are_those_of_the_torch_model(changes, tmp_path):
    section = {**TINY, **changes}
    model = UViT(**section)
    arrays = oracle.lively_weights(model)
    weights.load_official(model, arrays)
    inputs = oracle.batch(section)
    wanted = oracle.run(tmp_path, section, arrays, inputs)

    b = {k: paddle.to_tensor(v) for k, v in inputs.items()}
    sample = predict(model, b).numpy()
    # outputs are of order one to ten here
    assert np.abs(sample - wanted["sample"]).max() <= 1e-5 * max(1, np.abs(sample).max())
    loss, gradients = loss_and_gradients(model, b)
    assert relative(loss, wanted["loss"]) <= 1e-5
    linear = {n for n, p in model.named_parameters() if n.endswith("weight") and p.ndim == 2}
    for name, gradient in gradients.items():
        gradient = gradient.T if name in linear else gradient
        assert relative(gradient, wanted[f"grad/{name}"]) <= 1e-4, name


def test_twenty_training_steps_follow_the_torch_model(tmp_path):
    model = tiny()
    inputs = oracle.batch(TINY)
    wanted = oracle.run(tmp_path, TINY, weights.to_official(model), inputs, steps=20)["losses"]
    optimizer = paddle.optimizer.AdamW(
        2e-4, 0.9, 0.9, 1e-8, parameters=model.parameters(), weight_decay=0.03
    )
    b = {k: paddle.to_tensor(v) for k, v in inputs.items()}
    losses = []
    for _ in range(20):
        loss, _ = loss_and_gradients(model, b)
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"conv": False, "qkv_bias": True, "num_layers": 3, "mlp_ratio": 2.3}]
)
def test_counted_parameters_are_those_of_the_real_model(changes):
    model = tiny(**changes)
    assert flops.parameters(model.config) == sum(p.size for p in model.parameters())


def test_initial_weights_depend_on_the_generator_and_the_name_alone():
    def drawn(model, seed):
        model.init_weights(np.random.Generator(np.random.Philox(key=seed)))
        return weights.to_official(model)

    paddle.seed(1)
    first = drawn(tiny(), 7)
    paddle.seed(2)
    # a deeper model has the same blocks where the names agree
    deeper = drawn(tiny(num_layers=6), 7)
    other = drawn(tiny(), 8)
    assert all(np.array_equal(first[n], deeper[n]) for n in first)
    assert not np.array_equal(first["pos_embed"], other["pos_embed"])


def test_initial_weights_have_the_distributions_of_the_authors_code():
    arrays = weights.to_official(UViT(**{**TINY, "attention_head_dim": 64}))
    assert arrays["in_blocks.0.mlp.fc1.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert arrays["pos_embed"].std() == pytest.approx(0.02, rel=0.05)
    conv = arrays["patch_embed.proj.weight"]
    assert np.abs(conv).max() <= 0.25 and conv.std() == pytest.approx(0.25 / 3**0.5, rel=0.05)
    assert arrays["final_layer.bias"].any()
    assert (arrays["norm.weight"] == 1).all()
    assert not arrays["norm.bias"].any() and not arrays["decoder_pred.bias"].any()


def test_recompute_leaves_the_bits_as_they_are():
    b = tensors()
    loss, gradients = loss_and_gradients(tiny(), b)
    model = tiny(recompute=True)
    again, recomputed = loss_and_gradients(model, b)
    assert np.array_equal(loss, again)
    for name in gradients:
        assert np.array_equal(gradients[name], recomputed[name]), name


@pytest.mark.parametrize(
    "timestep",
    [981, 981.0, np.int64(981), paddle.to_tensor(981), paddle.to_tensor([981]),
     paddle.to_tensor(981.0), paddle.to_tensor([981] * 3, dtype="int32")],
    ids=["int", "float", "numpy", "0-d", "1-d", "0-d float", "one each"],
)
def test_one_timestep_for_all_may_come_in_any_form(timestep):
    model, b = tiny(), tensors()
    wanted = predict(model, {**b, "timesteps": paddle.to_tensor([981, 981, 981])})
    assert np.array_equal(predict(model, {**b, "timesteps": timestep}).numpy(), wanted.numpy())


def test_context_is_another_name_and_a_tuple_another_form():
    model, b = tiny(), tensors()
    wanted = predict(model, b).numpy()
    by_name = model(b["x"], b["timesteps"], context=b["context"]).sample
    (bare,) = model(b["x"], b["timesteps"], b["context"], return_dict=False)
    assert np.array_equal(by_name.numpy(), wanted) and np.array_equal(bare.numpy(), wanted)


def test_has_what_ppdiffusers_reads_of_a_unet():
    model = tiny()
    assert model.config.sample_size == 8 and model.config["in_channels"] == 4
    assert model.dtype == paddle.float32
    assert not hasattr(model.config, "no_such_key")


def test_a_sample_does_not_depend_on_its_neighbours():
    model, b = tiny(), tensors()
    together = predict(model, b).numpy()
    alone = predict(model, {k: v[1:2] for k, v in b.items()}).numpy()
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)


def test_timestep_embedding_tells_neighbouring_steps_apart():
    table = timestep_embedding(np.arange(1, 1001), 1000, 64).numpy()
    assert table.dtype == np.float32
    exact = np.arange(1, 1001)[:, None] * np.exp(-np.log(10_000) * np.arange(32) / 32)
    wanted = np.concatenate([np.cos(exact), np.sin(exact)], axis=1)
    np.testing.assert_allclose(table, wanted, atol=1e-4)
    assert np.abs(np.diff(table, axis=0)).max(axis=1).min() > 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": paddle.zeros([3, 4, 8, 10])}, r"\[3, 4, 8, 10\].*\[B, 4, 8, 8\]"),
        ({"context": paddle.zeros([3, 4, 12])}, r"\[3, 4, 12\].*\[3, 5, 12\]"),
        ({"context": None}, "none"),
        ({"timesteps": paddle.to_tensor([1, 2])}, "2 timesteps for a batch of 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        predict(tiny(), {**tensors(), **change})


@pytest.mark.skipif(paddle.is_compiled_with_cuda(), reason="a GPU build may have the kernel")
def test_memory_efficient_attention_is_refused_with_the_remedy_on_a_cpu_build():
    with pytest.raises(EnvironmentFault, match='CPU build.*attention="math"'):
        tiny(attention="memory_efficient")
    with pytest.raises(ValueError, match="flash"):
        tiny(attention="flash")
