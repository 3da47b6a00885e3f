"""Drawing latents from a model: the same bits whatever the batch a sample is drawn in.

The noise of sample j depends on (seed, j) alone, and the network always runs at the pinned batch
size, the last batch padded, because a kernel's result can depend on the shape it runs at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from eval.protocols import Protocol
from eval.sampling import solvers
from harness.base import kernel_choice, seeds
from harness.base.errors import EnvironmentFault


def sample_latents(
    model: Any, contexts: np.ndarray, empty_context: np.ndarray, sample_ids: Sequence[int], *,
    protocol: Protocol, alphas_cumprod: np.ndarray, batch_size: int,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Latents of samples `sample_ids` for `contexts` by `protocol`, float32 [n, C, H, W].

    Args:
        model: a U-ViT with the weights to sample from (the EMA's).
        contexts: float32 [n, T, D]; empty_context: float32 [T, D], the unconditional one.
        sample_ids: the samples' numbers, which key their noise.
        alphas_cumprod: float64 [N] of the schedule the model was trained on.
        batch_size: what the network runs at (twice that, with guidance), padded where needed.
        on_batch: called with the number of samples finished, after each batch.

    The latents are scaled as in training: divide by the latent scale before decoding.
    """
    parts = []
    with inference(model, protocol.dtype), merging(model, protocol):
        for first in range(0, len(sample_ids), batch_size):
            ids = list(sample_ids[first : first + batch_size])
            used = len(ids)
            ids += ids[-1:] * (batch_size - used)
            chunk = pad(contexts[first : first + batch_size], batch_size)
            latents = _sample_batch(model, chunk, empty_context, ids, protocol, alphas_cumprod)
            parts.append(latents[:used])
            if on_batch:
                on_batch(used)
    return np.concatenate(parts)


def pad(array: np.ndarray, size: int) -> np.ndarray:
    """`array` with its last row repeated until it has `size` rows."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def initial_noise(seed: int, ids: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Standard normal float32 [n, *shape]; row i depends on (seed, ids[i]) alone."""
    return np.stack(
        [seeds.generator(seed, "eval-noise", j).standard_normal(shape, np.float32) for j in ids]
    )


def step_noise(seed: int, ids: Sequence[int], step: int, shape: Sequence[int]) -> np.ndarray:
    """Noise added after sampling step `step` where eta > 0, as `initial_noise`."""
    return np.stack([
        seeds.generator(seed, "eval-step-noise", j, step).standard_normal(shape, np.float32)
        for j in ids
    ])


@contextlib.contextmanager
def inference(model: Any, dtype: str = "float32") -> Iterator[None]:
    """No gradients, evaluation mode (restored after), `dtype` kernels on a GPU.

    EnvironmentFault for a half-precision dtype on a CPU, where auto_cast silently does nothing.
    """
    import paddle

    half = dtype != "float32"
    if half and kernel_choice.static():
        raise EnvironmentFault(
            f"static execution is not for {dtype} sampling", remedy="use --execution eager"
        )
    if half and not paddle.device.get_device().startswith("gpu"):
        raise EnvironmentFault(
            f"{dtype} sampling needs a GPU: paddle has no half-precision kernels on a CPU",
            remedy="use a float32 protocol",
        )
    training = model.training
    model.eval()
    kernels = paddle.amp.auto_cast(enable=half, dtype=dtype if half else "float16")
    try:
        with paddle.no_grad(), kernels:
            yield
    finally:
        if training:
            model.train()


@contextlib.contextmanager
def merging(model: Any, protocol: Protocol) -> Iterator[None]:
    """Inside, the model merges tokens as the protocol says; after it, none."""
    if not protocol.tome:
        yield
        return
    model.apply_tome(protocol.tome, merge_mlp=protocol.tome_mlp)
    try:
        yield
    finally:
        model.remove_tome()


def _sample_batch(
    model: Any, contexts: np.ndarray, empty: np.ndarray, ids: list[int], protocol: Protocol,
    alphas_cumprod: np.ndarray,
) -> np.ndarray:
    import paddle

    config = model.config
    shape = (config["in_channels"], config["sample_size"], config["sample_size"])
    predict = guided(model, contexts, empty, protocol.guidance_scale)
    x = paddle.to_tensor(initial_noise(protocol.seed, ids, shape))
    steps = protocol.num_inference_steps
    if protocol.sampler == "dpm":
        x = solvers.dpm_solver(predict, x, alphas_cumprod, num_inference_steps=steps)
    else:
        x = solvers.ddim(
            predict, x, alphas_cumprod, num_inference_steps=steps, eta=protocol.eta,
            step_noise=lambda i: paddle.to_tensor(step_noise(protocol.seed, ids, i, shape)),
        )
    return x.astype("float32").numpy()


def guided(
    model: Any, contexts: np.ndarray, empty: np.ndarray, guidance_scale: float
) -> solvers.Predict:
    """Noise predictor uncond + g (cond - uncond), both in one batched pass (Ho & Salimans 2022).

    At g = 1 that is the conditional prediction, and only that is computed.
    """
    import paddle

    if guidance_scale == 1.0:
        context = paddle.to_tensor(contexts)
        return lambda x, n: _noise(model, x, n, context)
    both = paddle.to_tensor(
        np.concatenate([contexts, np.broadcast_to(empty, (len(contexts), *empty.shape))])
    )

    def predict(x: Any, n: float) -> Any:
        cond, uncond = paddle.split(_noise(model, paddle.concat([x, x]), n, both), 2)
        return uncond + guidance_scale * (cond - uncond)

    return predict


def _noise(model: Any, x: Any, n: float, context: Any) -> Any:
    import paddle

    timesteps = paddle.full([x.shape[0]], n, dtype="float32")
    return model(x, timesteps, encoder_hidden_states=context).sample.astype("float32")
