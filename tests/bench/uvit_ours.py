"""Our U-ViT in a worker: the step of `harness train`, and the sampler of `harness eval`."""

from __future__ import annotations

import time
from pathlib import Path

from harness.base import paddle_env

paddle_env.require_paddle()

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from eval.sampling import latent_sampling, solvers  # noqa: E402
from harness import configs  # noqa: E402
from harness.data import Batch  # noqa: E402
from harness.doctor import rate  # noqa: E402
from harness.training.step import Trainer  # noqa: E402
from harness.training.train import shares  # noqa: E402
from models import weights  # noqa: E402
from tests.bench import inputs  # noqa: E402


class UViT:
    """A trainer of config `config`, changed by `sets`, on the batches of `folder`."""

    def __init__(self, folder: str, config: str, sets: list[str]):
        self.folder = Path(folder)
        self.trainer = Trainer(configs.load(config, sets), seed=1)
        self.shares = shares(self.trainer.config, self.trainer.world)
        self.batches = [Batch(0, **batch) for batch in inputs.read(self.folder)]

    def write_weights(self) -> None:
        """In both layouts: official.npz for PyTorch, paddle.npz for ppdiffusers."""
        model = self.trainer.model
        np.savez(self.folder / "official.npz", **weights.to_official(model))
        own = {name: p.numpy() for name, p in model.named_parameters()}
        np.savez(self.folder / "paddle.npz", **own)

    def step(self) -> dict[str, float]:
        """Train one step, EMA included; {"seconds", "loss"}."""
        batch = self.batches[self.trainer.step % len(self.batches)]
        given = [
            (shard, Batch(0, *(getattr(batch, k)[part.start : part.stop] for k in inputs.KEYS)))
            for shard, part in self.shares
        ]
        began = time.perf_counter()
        loss, _ = self.trainer.train(given)
        finish()
        return {"seconds": time.perf_counter() - began, "loss": loss}

    def sample(self, images: int, steps: int, guidance_scale: float) -> dict[str, object]:
        """Draw `images` latents in `steps` DDIM steps; {"seconds", "latents"}."""
        contexts, empty = inputs.context(self.folder, images)
        x = paddle.to_tensor(inputs.initial_noise(self.folder, images))
        model = self.trainer.model
        began = time.perf_counter()
        with latent_sampling.inference(model):
            predict = latent_sampling.guided(model, contexts, empty, guidance_scale)
            x = solvers.ddim(
                predict, x, self.trainer.schedule.alphas_cumprod, num_inference_steps=steps
            )
            latents = x.numpy()
        return {"seconds": time.perf_counter() - began, "latents": latents.ravel().tolist()}

    def sgemm(self, shapes: list[list[int]], repeats: int) -> float:
        """`rate.best` of these shapes, by the path that training takes."""
        return rate.best(shapes, repeats, finish=finish)


def finish() -> None:
    """Wait for the GPU, which works behind the program's back; a CPU's results are there."""
    if paddle.device.get_device().startswith("gpu"):
        paddle.device.synchronize()
