"""Noise schedule and loss against their definitions."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from models.diffusion import Schedule


def test_levels_are_those_of_the_authors_schedule():
    schedule = Schedule()
    assert schedule.alphas_cumprod.dtype == np.float64
    # float64 reference, spelled out step by step
    product, wanted = 1.0, []
    for k in range(1000):
        root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * k / 999
        product *= 1 - root**2
        wanted.append(product)
    np.testing.assert_allclose(schedule.alphas_cumprod, wanted, rtol=1e-12)
    signal, sigma = schedule.levels(np.array([1, 1000]))
    assert signal.dtype == sigma.dtype == np.float32
    assert signal[0] == pytest.approx((1 - 0.00085) ** 0.5)
    np.testing.assert_allclose(signal**2 + sigma**2, 1, rtol=1e-6)


def test_noise_is_added_at_each_samples_own_level():
    latents, noise = np.random.default_rng(0).standard_normal((2, 2, 4, 8, 8), dtype=np.float32)
    schedule = Schedule()
    found = schedule.add_noise(paddle.to_tensor(latents), noise, paddle.to_tensor([1, 700])).numpy()
    for i, n in enumerate((1, 700)):
        a = schedule.alphas_cumprod[n - 1]
        wanted = a**0.5 * latents[i] + (1 - a) ** 0.5 * noise[i]
        np.testing.assert_allclose(found[i], wanted, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("timesteps", [[0, 5], [1001], [-1]])
def test_timesteps_out_of_range_are_refused(timesteps):
    with pytest.raises(ValueError, match=r"outside of 1\.\.1000"):
        Schedule().levels(timesteps)


def test_fractional_timesteps_are_refused():
    with pytest.raises(ValueError, match="integers"):
        Schedule().levels([1.5])


def test_loss_is_the_mean_over_all_elements_and_the_network_is_given_n():
    random = np.random.default_rng(0)
    latents, noise, answer = random.standard_normal((3, 2, 4, 8, 8), dtype=np.float32)
    context = random.standard_normal((2, 5, 12), dtype=np.float32)
    seen = {}

    def model(x, timesteps, encoder_hidden_states):
        seen.update(x=x.numpy(), n=timesteps.numpy(), context=encoder_hidden_states.numpy())
        return SimpleNamespace(sample=paddle.to_tensor(answer))

    n = np.array([3, 1000])
    loss = Schedule().loss(model, latents, noise, n, context)
    assert loss.shape == [] and loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(((answer - noise) ** 2).mean(), rel=1e-6)
    assert np.array_equal(seen["n"], n) and np.array_equal(seen["context"], context)
    assert np.array_equal(seen["x"], Schedule().add_noise(latents, noise, n).numpy())


def test_a_perfect_prediction_costs_nothing():
    noise = np.ones((2, 4, 8, 8), np.float32)

    def model(x, timesteps, encoder_hidden_states):
        return SimpleNamespace(sample=paddle.to_tensor(noise))

    assert float(Schedule().loss(model, noise * 0, noise, np.array([1, 2]), noise)) == 0.0
