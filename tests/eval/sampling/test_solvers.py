"""The samplers against ppdiffusers' scheduler and against an ODE with a known solution."""

import numpy as np
import pytest

from eval.sampling import solvers
from harness.base.errors import UsageError
from models.diffusion import Schedule

ALPHAS = Schedule().alphas_cumprod


def network(x, n):
    """A smooth stand-in for the noise predictor that depends on x and on the timestep."""
    return 0.6 * np.sin(x) + 0.3 * np.cos(n / 300.0) * x


def test_the_timesteps_are_stable_diffusion_s():
    found = solvers.ddim_timesteps(50, 1000)
    assert found[:2] == [981, 961] and found[-1] == 1 and len(found) == 50
    with pytest.raises(UsageError):
        solvers.ddim_timesteps(1000, 1000)


@pytest.mark.parametrize("steps", [50, 20, 7])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_equals_ppdiffusers(steps, eta):
    import paddle
    from ppdiffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, clip_sample=False,
        beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    random = np.random.default_rng(0)
    start = random.standard_normal((2, 4, 8, 8)).astype(np.float32)
    noises = random.standard_normal((steps, *start.shape)).astype(np.float32)

    theirs = paddle.to_tensor(start)
    for i, t in enumerate(scheduler.timesteps):
        # ppdiffusers hands its network t; ours is to get t + 1, the step it was trained with.
        predicted = paddle.to_tensor(network(theirs.numpy(), int(t) + 1))
        theirs = scheduler.step(
            predicted, int(t), theirs, eta=eta,
            variance_noise=paddle.to_tensor(noises[i]) if eta else None,
        ).prev_sample
    ours = solvers.ddim(
        network, start, ALPHAS, num_inference_steps=steps, eta=eta, step_noise=lambda i: noises[i]
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 49, 50, 51])
def test_dpm_solver_spends_exactly_its_steps(steps):
    assert sum(solvers.dpm_orders(steps)) == steps
    asked = []

    def counted(x, n):
        asked.append(n)
        return network(x, n)

    solvers.dpm_solver(counted, np.ones(3), ALPHAS, num_inference_steps=steps)
    # 1000 first, then down by equal parts: the official code's 'time_uniform'.
    expected = 1000 * np.linspace(1.0, 0.001, steps + 1)[:-1]
    np.testing.assert_allclose(asked, expected, rtol=1e-12)


def test_fifty_steps_are_the_official_orders():
    assert solvers.dpm_orders(50) == [3] * 16 + [2]
    assert solvers.dpm_orders(51) == [3] * 16 + [2, 1]
    assert solvers.dpm_orders(49) == [3] * 16 + [1]


def gaussian_error(solve, steps, deviation=0.5):
    """Relative error at the end of the ODE whose data are N(0, deviation^2), solution known."""
    schedule = solvers.VPSchedule(ALPHAS)

    def total(time):
        alpha, sigma, _ = schedule(time)
        return np.sqrt((alpha * deviation) ** 2 + sigma**2)

    def optimal(x, n):
        _, sigma, _ = schedule(n / 1000)
        return sigma / total(n / 1000) ** 2 * x

    start = np.array([1.0])
    end = solve(optimal, start, ALPHAS, num_inference_steps=steps)
    exact = start * total(0.001) / total(1.0)
    return abs(float(end[0] / exact[0]) - 1.0)


def test_dpm_solver_converges_on_the_exact_solution():
    errors = [gaussian_error(solvers.dpm_solver, steps) for steps in (26, 50, 101, 200)]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.02 and errors[-1] < 0.002
    assert errors[1] < gaussian_error(solvers.ddim, 50) / 2


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_update_is_of_the_order_that_it_claims(order):
    """Halving the step divides the error of one update of order p by 2^(p + 1)."""

    def schedule(half_log_snr):  # a smooth schedule whose time is the half log-SNR itself
        sigma = 1 / np.sqrt(1 + np.exp(2 * half_log_snr))
        return np.exp(half_log_snr) * sigma, sigma, half_log_snr

    def total(time):
        alpha, sigma, _ = schedule(time)
        return np.sqrt((0.5 * alpha) ** 2 + sigma**2)

    def data_prediction(x, time):
        alpha, _, _ = schedule(time)
        return 0.25 * alpha / total(time) ** 2 * x

    def error(h):
        # The first part's length does not matter, the second point's place (2/3) does.
        times = 0.3 + h * np.array([0.0, 0.4, 2 / 3, 1.0])[[*range(order), 3]]
        x = solvers._dpm_update(data_prediction, schedule, 1.0, times)
        return abs(x - total(times[-1]) / total(times[0]))

    observed = np.log2(error(0.2) / error(0.1))
    assert observed == pytest.approx(order + 1, abs=0.4)


def test_noise_levels_between_timesteps_are_interpolated():
    schedule = solvers.VPSchedule(ALPHAS)
    for n in (1, 500, 1000):
        alpha, sigma, half_log_snr = schedule(n / 1000)
        assert alpha**2 == pytest.approx(ALPHAS[n - 1], rel=1e-12)
        assert alpha**2 + sigma**2 == pytest.approx(1.0, rel=1e-12)
        assert half_log_snr == pytest.approx(np.log(alpha / sigma), rel=1e-9)
    between = schedule(0.5005)[0]
    assert between == pytest.approx(np.sqrt(schedule(0.5)[0] * schedule(0.501)[0]), rel=1e-12)
