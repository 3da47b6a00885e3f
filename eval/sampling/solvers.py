"""DDIM and DPM-Solver++ as plain functions: coefficients in float64, steps in the latents' dtype.

`predict(x, n)` gives the (guided) noise predicted in x at step n of 1..N, n may be fractional.
`alphas_cumprod` is float64 [N]; index t counts from 0, so the network is given n = t + 1: the
samplers of ppdiffusers give it t, one off from what U-ViT was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.base.errors import UsageError

Predict = Callable[[Any, float], Any]


def ddim_timesteps(num_inference_steps: int, num_train_timesteps: int) -> list[int]:
    """0-based indices, descending: 50 of 1000 are 981, 961, ..., 1 ('leading', steps_offset 1)."""
    if num_inference_steps >= num_train_timesteps:
        raise UsageError(
            f"{num_inference_steps} sampling steps of {num_train_timesteps} training steps",
            remedy=f"use at most {num_train_timesteps - 1}",
        )
    ratio = num_train_timesteps // num_inference_steps
    return [i * ratio + 1 for i in reversed(range(num_inference_steps))]


def ddim(
    predict: Predict, x: Any, alphas_cumprod: np.ndarray, *, num_inference_steps: int,
    eta: float = 0.0, step_noise: Callable[[int], Any] | None = None,
) -> Any:
    """DDIM (Song et al. 2020, formulas 12 and 16), as Stable Diffusion sets it up.

    No clipping; the last step goes to the noise level of index 0 (`set_alpha_to_one=False`).
    `step_noise(i)` gives the standard normal noise of step i where eta > 0.
    """
    count = len(alphas_cumprod)
    ratio = count // num_inference_steps
    for i, t in enumerate(ddim_timesteps(num_inference_steps, count)):
        here = alphas_cumprod[t]
        there = alphas_cumprod[max(t - ratio, 0)]
        sigma = eta * np.sqrt((1 - there) / (1 - here) * (1 - here / there))
        scale = np.sqrt(there / here)
        shift = np.sqrt(1 - there - sigma**2) - scale * np.sqrt(1 - here)
        x = float(scale) * x + float(shift) * predict(x, t + 1)
        if eta > 0.0:
            if step_noise is None:
                raise ValueError("eta > 0 needs step_noise")
            x = x + float(sigma) * step_noise(i)
    return x


def dpm_orders(num_inference_steps: int) -> list[int]:
    """Orders of the single-step updates that spend exactly that many network evaluations.

    As 'DPM-Solver-fast' (Lu et al. 2022, section 3.4): third order, and lower ones at the end.
    """
    k, rest = divmod(num_inference_steps, 3)
    if rest == 0:
        return [3] * (k - 1) + [2, 1]
    return [3] * k + [rest]


class VPSchedule:
    """Noise levels at continuous times in (0, 1]: log alpha interpolated linearly at n / N."""

    def __init__(self, alphas_cumprod: np.ndarray):
        self.count = len(alphas_cumprod)
        self._times = np.arange(1, self.count + 1) / self.count
        self._log_alpha = 0.5 * np.log(alphas_cumprod)

    def __call__(self, time: float) -> tuple[float, float, float]:
        """(alpha, sigma, lambda = log(alpha / sigma)) at `time`."""
        log_alpha = float(np.interp(time, self._times, self._log_alpha))
        sigma = float(np.sqrt(-np.expm1(2 * log_alpha)))
        return float(np.exp(log_alpha)), sigma, log_alpha - float(np.log(sigma))


def dpm_solver(
    predict: Predict, x: Any, alphas_cumprod: np.ndarray, *, num_inference_steps: int
) -> Any:
    """DPM-Solver++, single-step, third order, times uniform from 1 to 1/N (Lu et al. 2022b).

    The setting of the official U-ViT code, which made the published figures: its network is
    given fractional timesteps, and the result is the sample at time 1/N as it is. Uniform times do
    not put the second point of an update at two thirds of its half log-SNR, which the third order
    would need; that is how the code is, and 50 such steps are what the figures were made with.
    """
    schedule = VPSchedule(alphas_cumprod)
    times: Any = np.linspace(1.0, 1.0 / schedule.count, num_inference_steps + 1)

    def data_prediction(x: Any, time: float) -> Any:
        alpha, sigma, _ = schedule(time)
        return (x - sigma * predict(x, time * schedule.count)) * (1.0 / alpha)

    at = 0
    for order in dpm_orders(num_inference_steps):
        x = _dpm_update(data_prediction, schedule, x, times[at : at + order + 1])
        at += order
    return x


def _dpm_update(
    data_prediction: Predict, schedule: VPSchedule, x: Any, times: Sequence[float]
) -> Any:
    """One update over times[0] -> times[-1], its order is the number of intervals."""
    (_, sigma_s, lambda_s), (alpha_t, sigma_t, lambda_t) = schedule(times[0]), schedule(times[-1])
    h = lambda_t - lambda_s
    phi_1 = np.expm1(-h)

    def move(alpha: float, sigma: float, phi: float) -> Any:
        return float(sigma / sigma_s) * x - float(alpha * phi) * m_s

    m_s = data_prediction(x, times[0])
    whole = move(alpha_t, sigma_t, phi_1)
    if len(times) == 2:
        return whole
    alpha_1, sigma_1, lambda_1 = schedule(times[1])
    r1 = (lambda_1 - lambda_s) / h
    x_1 = move(alpha_1, sigma_1, np.expm1(-r1 * h))
    d_1 = data_prediction(x_1, times[1]) - m_s
    if len(times) == 3:
        return whole - float(alpha_t * phi_1 / (2 * r1)) * d_1
    alpha_2, sigma_2, lambda_2 = schedule(times[2])
    r2 = (lambda_2 - lambda_s) / h
    phi_12 = np.expm1(-r2 * h)
    x_2 = move(alpha_2, sigma_2, phi_12)
    x_2 = x_2 + float(r2 / r1 * alpha_2 * (phi_12 / (r2 * h) + 1.0)) * d_1
    d_2 = data_prediction(x_2, times[2]) - m_s
    return whole + float(alpha_t * (phi_1 / h + 1.0) / r2) * d_2
