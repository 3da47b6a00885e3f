"""Sampling: bits that do not depend on batches, guidance, and what the network is given."""

from types import SimpleNamespace

import numpy as np
import pytest

from eval import protocols
from eval.sampling import latent_sampling
from harness import configs
from harness.base import seeds
from harness.base.errors import EnvironmentFault
from models.diffusion import Schedule
from models.uvit import UViT
from tests import fixtures
from tests.faults import cases

ALPHAS = Schedule().alphas_cumprod


@pytest.fixture(scope="module")
def model():
    made = UViT(**fixtures.tiny_config().model.model_dump())
    made.init_weights(seeds.generator(0, "weights"))
    return made


def protocol(**overrides):
    return protocols.get("digits-ddim50", **{"num_inference_steps": 4} | overrides)


def contexts(n):
    return np.random.default_rng(0).standard_normal((n, 4, 16)).astype(np.float32)


def draw(model, ids, batch_size=4, **overrides):
    ids = list(ids)
    return latent_sampling.sample_latents(
        model, contexts(20)[ids], np.zeros((4, 16), np.float32), ids,
        protocol=protocol(**overrides), alphas_cumprod=ALPHAS, batch_size=batch_size,
    )


@pytest.mark.parametrize("overrides", [{}, {"eta": 0.6}, {"sampler": "dpm"}])
def test_splitting_does_not_change_a_bit(model, overrides):
    whole = draw(model, range(10), **overrides)
    parts = [draw(model, ids, **overrides) for ids in ([0], [1, 2, 3, 4, 5], [9, 8], [6, 7])]
    order = [0, 1, 2, 3, 4, 5, 9, 8, 6, 7]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])
    assert whole.dtype == np.float32 and whole.shape == (10, 4, 8, 8)


@pytest.mark.parametrize("config", [
    configs.load("digits_tiny"), configs.parse(cases.COCO.encode(), source="coco"),
], ids=["digits_tiny", "coco"])
def test_splitting_does_not_change_a_bit_at_shipped_sizes(config):
    """Latents and context of the sizes that are trained, parted as a job's processes part them."""
    made = UViT(**config.model.model_dump())
    made.init_weights(seeds.generator(0, "weights"))
    shape = (config.model.num_text_tokens, config.model.clip_dim)
    given = np.random.default_rng(0).standard_normal((10, *shape)).astype(np.float32)

    def drawn(ids):
        return latent_sampling.sample_latents(
            made, given[ids], np.zeros(shape, np.float32), ids, alphas_cumprod=ALPHAS,
            protocol=protocol(num_inference_steps=2), batch_size=5)

    parts = [drawn(ids) for ids in ([0, 1, 2], [9, 8, 7, 6, 5, 4, 3])]
    whole = drawn(list(range(10)))
    np.testing.assert_array_equal(np.concatenate(parts), whole[[0, 1, 2, 9, 8, 7, 6, 5, 4, 3]])


def test_each_sample_and_seed_has_noise_of_its_own(model):
    found = draw(model, range(3))
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found, draw(model, range(3), seed=5))
    assert not np.allclose(draw(model, range(3), eta=0.5), found)


class Recorder:
    """A model that writes down what it is given and predicts `cond` or `uncond`."""

    training = False

    def __init__(self):
        self.config = {"in_channels": 4, "sample_size": 8}
        self.timesteps, self.batches = [], []

    def eval(self):
        self.training = False

    def __call__(self, x, timesteps, encoder_hidden_states):
        import paddle

        self.timesteps.append(float(timesteps[0]))
        self.batches.append(x.shape[0])
        level = encoder_hidden_states.mean(axis=[1, 2]).reshape([-1, 1, 1, 1])
        return SimpleNamespace(sample=paddle.ones_like(x) * level)


def sample_with(recorder, **overrides):
    return latent_sampling.sample_latents(
        recorder, np.full((3, 4, 16), 5.0, np.float32), np.full((4, 16), 2.0, np.float32),
        range(3), protocol=protocol(**overrides), alphas_cumprod=ALPHAS, batch_size=4,
    )


def test_the_network_is_given_one_more_than_the_scheduler_s_index():
    recorder = Recorder()
    sample_with(recorder, num_inference_steps=50)
    assert recorder.timesteps[:2] == [982.0, 962.0] and recorder.timesteps[-1] == 2.0


def test_guidance_is_one_batched_pass():
    recorder = Recorder()
    sample_with(recorder)
    assert recorder.batches == [8] * 4  # a padded batch of 4, with and without condition
    recorder = Recorder()
    sample_with(recorder, guidance_scale=1.0)
    assert recorder.batches == [4] * 4


def test_guidance_is_uncond_plus_g_times_the_difference():
    predict = latent_sampling.guided(
        Recorder(), np.full((2, 4, 16), 5.0, np.float32), np.full((4, 16), 2.0, np.float32), 3.0
    )
    import paddle

    out = predict(paddle.zeros([2, 4, 8, 8]), 10.0)
    np.testing.assert_allclose(out.numpy(), 2.0 + 3.0 * (5.0 - 2.0))


def test_training_mode_comes_back(model):
    model.train()
    draw(model, range(2))
    assert model.training


def test_half_precision_on_a_cpu_is_refused(model):
    with pytest.raises(EnvironmentFault, match="needs a GPU"):
        draw(model, range(2), dtype="bfloat16")


def test_padding_repeats_the_last_row():
    np.testing.assert_array_equal(
        latent_sampling.pad(np.arange(3), 5), [0, 1, 2, 2, 2]
    )
