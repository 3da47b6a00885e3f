"""What one evaluation is of, and what it is made with: opened, and described for its result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import captions as caption_lists
from eval import protocols
from eval.evaluation import model_identity
from eval.evaluation.judges import Judge
from eval.features.networks import open_also, open_network
from eval.metrics import reference_statistics
from eval.protocols import Protocol
from harness import data
from harness.configs import Config
from harness.distributed.process_group import World


@dataclass(frozen=True)
class Task:
    """What to evaluate by what, where things lie, and where the result goes.

    `vae` defaults to DATA/vae, `reference` to the statistics found in DATA, `weights` (Inception)
    to where pytorch-fid looks; `clip` (a CLIPModel folder) is needed where the protocol says so.
    `also`: folders of further networks' weights, by name, else where `harness fetch` puts
    them.
    `world`: the processes that share the work. Each makes the blocks whose number is its rank
    modulo their number, in a directory that all of them see; the one that leads measures.
    """

    config: Config
    protocol: Protocol
    data: Path
    directory: Path
    step: int
    vae: Path | None = None
    reference: Path | None = None
    weights: Path | None = None
    clip: Path | None = None
    also: Mapping[str, Path] = field(default_factory=dict)
    world: World = field(default_factory=World.alone)

    @property
    def batch_size(self) -> int:
        """What the network runs at, padded; a look at few samples is not padded to a full batch."""
        return min(self.config.eval.batch_size, self.protocol.n_samples)

    @property
    def decode_batch_size(self) -> int:
        """What the VAE runs at, padded."""
        return min(self.config.eval.decode_batch_size, self.batch_size)


@dataclass(frozen=True)
class Parts:
    """What an evaluation is made with, opened, and what its result will say of it."""

    captions: caption_lists.CaptionList
    judge: Judge
    also: dict[str, Judge]  # by the name of the further network
    vae: Path
    identity: dict[str, Any]


@contextlib.contextmanager
def opened(task: Task, ema_sha256: str) -> Iterator[Parts]:
    """Networks, references and captions of `task`, closed at the end; errors as `evaluate`'s."""
    config, protocol = task.config, task.protocol
    captions = open_captions(task)
    with (
        open_network(protocol.features, weights=task.weights, data=task.data) as network,
        open_also(protocol.also, task.also) as further,
    ):
        judge = Judge(network, reference_statistics.load(network, task.data, task.reference))
        also = {
            name: Judge(other, reference_statistics.load(other, task.data, also=name))
            for name, other in further.items()
        }
        vae_directory = task.vae or task.data / "vae"
        described = protocols.describe(
            protocol, captions=captions.describe(), **judge.describe(),
            also={name: one.describe() for name, one in also.items()},
            latent_scale=config.diffusion.latent_scale,
            vae_sha256=model_identity.folder_digest(vae_directory, "VAE", "--vae"),
            clip=model_identity.clip_identity(protocol, task.clip, captions),
        )
        yield Parts(captions, judge, also, vae_directory, {
            "step": task.step, "ema_sha256": ema_sha256, "protocol": described,
            "val_data": data.sampled_digest(captions.split, captions.empty_context),
            "model": config.model.model_dump(), "diffusion": config.diffusion.model_dump(),
        })  # fmt: skip


def open_captions(task: Task) -> caption_lists.CaptionList:
    """The caption list of `task`; errors as in `harness.data`."""
    model = task.config.model
    return caption_lists.choose(
        task.data, task.protocol.n_samples, task.protocol.caption_seed,
        moments_shape=(2 * model.in_channels, model.sample_size, model.sample_size),
        context_shape=(model.num_text_tokens, model.clip_dim),
    )
