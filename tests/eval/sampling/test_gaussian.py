"""Samplers on a model with a known answer.

For data N(m, s^2) the noisy x at level a is N(sqrt(a) m, a s^2 + 1 - a), and the best prediction of
the noise in it is sqrt(1 - a) (x - sqrt(a) m) / (a s^2 + 1 - a). A network that is told the wrong
step believes in the wrong level a. Both samplers end at the level of the first step, a_1, whose
noise they leave in; that is the distribution to compare with.
"""

import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from eval import protocols
from eval.sampling import image_making, latent_sampling
from models.diffusion import Schedule

LEVELS = Schedule().alphas_cumprod
SCALE = 0.2301
TOLERANCE = 0.02
SAMPLES = 40
# A wide distribution, and one as narrow as the last levels, where a step more or less counts.
WIDE, NARROW = (1.0, 0.2), (0.5, 0.01)


class Gaussian:
    """The perfect network for data N(mean, std^2); `off_by` is added to the step it is given."""

    config: ClassVar = {"in_channels": 4, "sample_size": 32}
    training = False

    def __init__(self, mean, std, off_by=0):
        self.mean, self.std, self.off_by = mean, std, off_by
        self.seen = []

    def eval(self):
        pass

    def __call__(self, x, timesteps, encoder_hidden_states=None):
        n = float(timesteps[0])
        self.seen.append(n)
        steps = np.arange(len(LEVELS) + 1)
        a = math.exp(np.interp(n + self.off_by, steps, [0.0, *np.log(LEVELS)]))
        gain = math.sqrt(1 - a) / (a * self.std**2 + 1 - a)
        return SimpleNamespace(sample=gain * (x - math.sqrt(a) * self.mean))


def draw(model, sampler, steps):
    protocol = protocols.Protocol(
        "gaussian", "digits", SAMPLES, sampler=sampler, num_inference_steps=steps,
        guidance_scale=1.0,
    )
    contexts = np.zeros((SAMPLES, 1, 1), np.float32)
    return latent_sampling.sample_latents(
        model, contexts, contexts[0], range(SAMPLES), protocol=protocol, alphas_cumprod=LEVELS,
        batch_size=SAMPLES,
    ).astype(np.float64)


def errors(latents, mean, std, scale=1.0):
    """Relative errors of mean and variance, of latents divided by `scale`."""
    a = LEVELS[0]
    want_mean = math.sqrt(a) * mean / scale
    want_variance = (a * std**2 + 1 - a) / scale**2
    return abs(latents.mean() / want_mean - 1), abs(latents.var() / want_variance - 1)


@pytest.mark.parametrize("sampler, steps", [("ddim", 999), ("dpm", 500)])
@pytest.mark.parametrize("data", [WIDE, NARROW])
def test_mean_and_variance_are_right(sampler, steps, data):
    mean_error, variance_error = errors(draw(Gaussian(*data), sampler, steps), *data)
    assert mean_error < TOLERANCE and variance_error < TOLERANCE


@pytest.mark.parametrize("sampler, steps", [("ddim", 999), ("dpm", 500)])
def test_the_off_by_one_of_ppdiffusers_shows(sampler, steps):
    """Put back: the network is given the scheduler's t in place of t + 1."""
    latents = draw(Gaussian(*NARROW, off_by=-1), sampler, steps)
    assert errors(latents, *NARROW)[1] > 10 * TOLERANCE
    other = draw(Gaussian(*NARROW, off_by=1), sampler, steps)
    assert errors(other, *NARROW)[1] > TOLERANCE


def test_the_network_is_given_the_steps_it_was_trained_on():
    model = Gaussian(*WIDE)
    draw(model, "ddim", 50)
    assert model.seen == [float(n) for n in range(982, 0, -20)]
    assert model.seen[-1] == 2
    model = Gaussian(*WIDE)
    draw(model, "dpm", 50)
    assert max(model.seen) == pytest.approx(1000) and min(model.seen) >= 1


class Vae:
    """Keeps what it is asked to decode."""

    def __init__(self):
        self.latents = []

    def decode(self, latents):
        self.latents.append(latents)
        return np.zeros((len(latents), 3, 8, 8), np.float32)


@pytest.mark.parametrize("scale, right", [(SCALE, True), (0.18215, False)])
def test_the_vae_gets_latents_in_its_own_units(scale, right):
    """Data N(m, s^2) in the VAE's units; the model was trained on them times 0.2301."""
    mean, std = (value / SCALE for value in WIDE)
    latents = draw(Gaussian(mean * SCALE, std * SCALE), "dpm", 500)
    vae = Vae()
    image_making.decode(vae, latents.astype(np.float32), latent_scale=scale, batch_size=10)
    decoded = np.concatenate(vae.latents).astype(np.float64)
    found = errors(decoded, *WIDE, scale=SCALE)
    assert (max(found) < TOLERANCE) == right
    if not right:
        assert min(found) > 10 * TOLERANCE


def test_ancestral_sampling_keeps_mean_and_spread():
    """eta 1 adds the noise it should; its variance is 6 % off by the steps' own size."""
    protocol = protocols.Protocol(
        "gaussian", "digits", 8, num_inference_steps=999, guidance_scale=1.0, eta=1.0
    )
    contexts = np.zeros((8, 1, 1), np.float32)
    latents = latent_sampling.sample_latents(
        Gaussian(*WIDE), contexts, contexts[0], range(8), protocol=protocol,
        alphas_cumprod=LEVELS, batch_size=8,
    )
    mean_error, variance_error = errors(latents.astype(np.float64), *WIDE)
    assert mean_error < TOLERANCE and variance_error < 0.08
