"""The validation loss: fixed in everything but the model."""

import numpy as np
import pytest

from eval import captions
from eval.evaluation import validation
from harness.base import seeds
from models.diffusion import Schedule
from models.uvit import UViT
from tests import fixtures

SHAPES = {"moments_shape": (8, 8, 8), "context_shape": (4, 16)}


@pytest.fixture(scope="module")
def model():
    made = UViT(**fixtures.tiny_config().model.model_dump())
    made.init_weights(seeds.generator(0, "weights"))
    return made


def loss(model, chosen, images=7, batch_size=4):
    return validation.validation_loss(
        model, chosen, images=images, schedule=Schedule(), latent_scale=0.23, batch_size=batch_size
    )


def test_eight_equidistant_timesteps():
    assert validation.timesteps(1000) == [63, 188, 313, 438, 563, 688, 813, 938]


def test_it_is_the_training_loss_at_those_timesteps(model, features):
    import paddle

    chosen = captions.choose(features, 7, 1, **SHAPES)
    found = loss(model, chosen)
    latents, noise = validation._draw(chosen, range(7), 0.23)
    with paddle.no_grad():
        expected = [
            float(Schedule().loss(model, latents, noise, np.full(7, n), chosen.contexts(0, 7)))
            for n in found["timesteps"]
        ]
    np.testing.assert_allclose(found["per_timestep"], expected, rtol=1e-5)
    assert found["loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert found["images"] == 7 and found["standard_error"] > 0.0


def test_the_same_bits_every_time_and_other_images_make_another_loss(model, features):
    chosen = captions.choose(features, 20, 1, **SHAPES)
    assert loss(model, chosen) == loss(model, chosen)
    assert loss(model, chosen)["loss"] != loss(model, chosen, images=5)["loss"]


def test_a_worse_model_is_seen(features):
    worse = UViT(**fixtures.tiny_config().model.model_dump())
    worse.init_weights(seeds.generator(0, "weights"))
    good = loss(worse, captions.choose(features, 20, 1, **SHAPES), images=20)
    parameter = worse.final_layer.bias
    parameter.set_value(parameter + 0.5)
    bad = loss(worse, captions.choose(features, 20, 1, **SHAPES), images=20)
    assert bad["loss"] > good["loss"] + 0.1
