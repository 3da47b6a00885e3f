"""The diffusion process that U-ViT is trained on: discrete, noise prediction (Ho et al. 2020)."""

from __future__ import annotations

import numpy as np
import paddle


class Schedule:
    """Scaled-linear noise schedule, as the U-ViT authors' `stable_diffusion_beta_schedule`.

    betas = linspace(sqrt(beta_start), sqrt(beta_end), N)^2, kept in float64. Timesteps n count
    from 1 to N: n = 1 is the least noise, n = 0 would be none. `alphas_cumprod[n - 1]`, float64
    [N], is the signal's share of the variance at n, and the network is given n itself. A sampler
    that counts from 0 therefore has to give the network t + 1.
    """

    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
    ):
        self.num_train_timesteps = num_train_timesteps
        ends = np.sqrt([beta_start, beta_end], dtype=np.float64)
        self.betas = np.linspace(ends[0], ends[1], num_train_timesteps, dtype=np.float64) ** 2
        self.alphas_cumprod = np.cumprod(1.0 - self.betas)

    @classmethod
    def of(cls, diffusion) -> Schedule:
        """That of a config's section `diffusion`."""
        return cls(diffusion.num_train_timesteps, diffusion.beta_start, diffusion.beta_end)

    def levels(self, timesteps) -> tuple[np.ndarray, np.ndarray]:
        """Factors of latents and of noise at `timesteps` (ints 1..N, [B]): two float32 [B].

        Raises ValueError for a timestep that is no integer or out of range.
        """
        if isinstance(timesteps, paddle.Tensor):
            timesteps = timesteps.numpy()
        n = np.atleast_1d(np.asarray(timesteps))
        if not np.issubdtype(n.dtype, np.integer):
            raise ValueError(f"timesteps are integers, not {n.dtype}")
        if n.size and (n.min() < 1 or n.max() > self.num_train_timesteps):
            raise ValueError(
                f"timesteps {n.min()}..{n.max()} outside of 1..{self.num_train_timesteps}"
            )
        signal = self.alphas_cumprod[n - 1]
        return np.sqrt(signal).astype(np.float32), np.sqrt(1.0 - signal).astype(np.float32)

    def add_noise(self, latents, noise, timesteps) -> paddle.Tensor:
        """sqrt(a_n) latents + sqrt(1 - a_n) noise, float32.

        `latents` and `noise`: float32 [B, ...], paddle tensors or arrays; `timesteps` int [B] or
        one for all.
        """
        latents, noise = _tensor(latents), _tensor(noise)
        shape = [-1] + [1] * (latents.ndim - 1)
        signal, sigma = (paddle.to_tensor(f.reshape(shape)) for f in self.levels(timesteps))
        return signal * latents + sigma * noise

    def loss(self, model, latents, noise, timesteps, context) -> paddle.Tensor:
        """Mean squared error of the predicted noise, a float32 scalar.

        The authors average over each sample's elements and then over the samples; all samples are
        of one size, so that is the mean over everything.

        Args:
            model: called as model(x, timesteps, encoder_hidden_states=context), gives `.sample`.
            latents, noise: float32 [B, C, H, W].
            timesteps: int [B], in 1..N.
            context: float32 [B, T, D].
        """
        noise = _tensor(noise)
        noisy = self.add_noise(latents, noise, timesteps)
        predicted = model(noisy, _tensor(timesteps), encoder_hidden_states=_tensor(context)).sample
        return mean_squared_error(predicted, noise)


def mean_squared_error(predicted, target) -> paddle.Tensor:
    """Mean over all elements, summed in float32 whatever the dtype of `predicted`."""
    with paddle.amp.auto_cast(enable=False):
        return (predicted.astype(paddle.float32) - target.astype(paddle.float32)).square().mean()


def _tensor(value) -> paddle.Tensor:
    return value if isinstance(value, paddle.Tensor) else paddle.to_tensor(np.asarray(value))
