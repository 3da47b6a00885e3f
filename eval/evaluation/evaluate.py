"""One evaluation, top to bottom: sample, decode, extract features, measure, write result.json.

Samples are made in blocks of `config.eval.batch_size`; each block is on disk before it counts, so
a killed evaluation goes on, and its figures are the same to the byte. Several processes share the
blocks; the one that leads reads them all, in order, so the figures are the same for any number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval import captions as caption_lists
from eval import protocols
from eval.evaluation import judges, validation
from eval.evaluation.evaluation_task import Parts, Task, opened
from eval.metrics.feature_statistics import Statistics
from eval.sampling import image_grid
from eval.sampling.finished_blocks import STAGES, Blocks
from eval.sampling.image_making import Finisher, Maker
from harness import files, runs
from harness.base import kernel_choice, paddle_env
from harness.base.errors import UsageError
from harness.base.progress import Progress, say
from harness.base.wording import counted
from harness.configs import Config
from harness.runs import lock


@dataclass(frozen=True)
class Drawn:
    """Features float32 [n, d] of an evaluation's first n samples, and what they compare with."""

    features: np.ndarray
    reference: Statistics
    metric: str
    prompts: list[str]  # of the first few


def evaluate(
    task: Task, ema: Mapping[str, np.ndarray], ema_sha256: str, *, model: Any = None,
    loss: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Evaluate EMA weights; returns the content of result.json (None where another process leads).

    `ema`: parameter name -> array; `ema_sha256`: their `checkpoints.tensors_digest`. `model`: a
    float32 UViT that has these weights already (else one is made). `loss`: their `validation_loss`
    where it is known (all processes: or none). A finished result of the same task is returned as
    it is. Errors: UsageError if the directory holds another task's result, DataError (data,
    statistics), EnvironmentFault (missing weights, VAE, data; disk full; another process at it).
    """
    world = task.world
    with opened(task, ema_sha256) as parts:
        finished = _finished(task.directory, parts.identity)
        # As the leader sees it: others may look after it has gone on.
        if world.lead(float(finished is not None)):
            if finished is None or not world.leads:
                return None
            kept = _blocks_of(task, parts.identity)
            path = task.directory / "result.json"
            return judges.completed(finished, path, kept, parts.judge, parts.also)
        with _alone(task):
            blocks = _open_blocks(task, parts.identity)
            model = model or make_model(task.config, ema)
            _make_blocks(task, blocks, len(blocks), parts, model)
            if loss is None:
                loss = validation_loss(task, parts.captions, model)
            world.meet()  # after it, all blocks are on disk
            if not world.leads:
                return None
            return _conclude(task, blocks, parts, loss)


@contextlib.contextmanager
def _alone(task: Task) -> Iterator[None]:
    """One job at a time works in the task's directory; EnvironmentFault names the other."""
    if not task.world.leads:
        yield
        return
    with runs.locked(task.directory):
        yield
        (task.directory / lock.NAME).unlink()  # what is finished anybody may read


def draw(
    task: Task, ema: Mapping[str, np.ndarray], ema_sha256: str, *, samples: int
) -> Drawn:
    """The first `samples` samples of an evaluation, rounded up to blocks; nothing is concluded.

    They are made where they are missing, and `evaluate` of the same task goes on from there.
    Errors as `evaluate`.
    """
    with opened(task, ema_sha256) as parts:
        _finished(task.directory, parts.identity)
        with _alone(task):
            blocks = _open_blocks(task, parts.identity)
            wanted = min(len(blocks), -(-samples // blocks.rows))
            if any(blocks.load(b) is None for b in _mine(task, wanted)):
                _make_blocks(task, blocks, wanted, parts, make_model(task.config, ema))
            task.world.meet()
        found = [block.features for block in blocks.all(wanted)]
        return Drawn(np.concatenate(found), parts.judge.reference.statistics,
                     parts.judge.network.metric,
                     parts.captions.first_prompts())


def make_model(config: Config, ema: Mapping[str, np.ndarray]) -> Any:
    """A float32 UViT of `config` with the weights `ema` (parameter name -> array).

    EnvironmentFault if paddle cannot be imported.
    """
    paddle_env.require_paddle(deterministic=config.train.determinism == "on")
    from models.ema import EMA
    from models.uvit import UViT

    model = UViT(**config.model.model_dump(), attention=config.train.attention)
    average = EMA(model, config.ema.decay)
    average.load(ema)
    average.copy_to(model)
    model.eval()
    return model


def _finished(directory: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The result in `directory` if it is this task's; UsageError if it is another's."""
    path = directory / "result.json"
    if not path.exists():
        return None
    result = files.read_json(path)
    files.refuse_newer(result, runs.RESULT_SCHEMA, path)
    known = {key: result.get(key) for key in identity} if isinstance(result, dict) else {}
    differing = protocols.differences(known, identity)
    if differing:
        raise UsageError(
            f"{directory} holds a result made otherwise ({', '.join(list(differing)[:6])})",
            remedy="remove that directory to evaluate again",
        )
    return result


def _open_blocks(task: Task, identity: dict[str, Any]) -> Blocks:
    """The task's blocks; the leader makes their folder, or clears it of another task's."""
    if not task.world.leads:
        task.world.meet()
    blocks = Blocks(**_blocks_of(task, identity))
    if task.world.leads:
        for folder in sorted(task.directory.parent.glob(f"{task.step:08d}-*/features")):
            blocks.take_over(folder)
        task.world.meet()
    return blocks


def _blocks_of(task: Task, identity: dict[str, Any]) -> dict[str, Any]:
    return {
        "folder": task.directory / "features", "owner": identity | kernel_choice.unusual(),
        "n_samples": task.protocol.n_samples, "rows": task.batch_size, "also": task.protocol.also,
    }


def _mine(task: Task, blocks: int) -> range:
    """Numbers of the blocks that this worker makes.

    In turns and not in runs, so that what a kill leaves undone is shared evenly as well.
    """
    return range(blocks)[task.world.rank :: task.world.size]


def _make_blocks(task: Task, blocks: Blocks, wanted: int, parts: Parts, model: Any) -> None:
    """Make this worker's share of the first `wanted` blocks."""
    captions, mine = parts.captions, _mine(task, wanted)
    further = {name: one.network for name, one in parts.also.items()}
    missing = [b for b in mine if blocks.load(b) is None]
    if not missing:
        return
    sizes = {b: blocks.span(b)[1] - blocks.span(b)[0] for b in mine}
    done = sum(sizes.values()) - sum(sizes[b] for b in missing)
    if task.world.leads:
        say(ahead(task, captions))
    maker = Maker(
        task.config, task.protocol, captions, model, parts.vae,
        batch_size=task.batch_size, decode_batch_size=task.decode_batch_size,
    )
    scorer = None
    if task.protocol.clip and task.clip is not None:
        from eval.features import clip_score

        scorer = clip_score.load(task.clip)
    label = f"evaluate step {task.step} by {task.protocol.name}"
    with (
        Progress(
            sum(sizes.values()), label, start=done, unit="image", silent=not task.world.leads,
            early=True,
        ) as progress,
        Finisher(blocks, parts.judge.network, captions, scorer, further) as finisher,
    ):
        for block in missing:
            images, seconds = maker.images(*blocks.span(block))
            finisher.finish(block, images, seconds)
            progress.advance(sizes[block])


def ahead(task: Task, captions: caption_lists.CaptionList) -> str:
    """One line of what an evaluation has to make, and of how often its captions come again."""
    protocol, images = task.protocol, len(captions.split)
    line = (
        f"ahead: {counted(protocol.n_samples, 'sample')} of "
        f"{counted(protocol.num_inference_steps, 'step')}"
    )
    if protocol.n_samples <= images:
        return line
    times = protocol.n_samples / images
    return f"{line}, for {counted(images, 'val image')}: each one's captions {times:,.4g} times"


def validation_loss(
    task: Task, captions: caption_lists.CaptionList, model: Any
) -> dict[str, Any]:
    """`validation.validation_loss` of the task's first images, shared by its processes."""
    from models.diffusion import Schedule

    diffusion = task.config.diffusion
    return validation.validation_loss(
        model, captions, images=min(task.protocol.loss_images, task.protocol.n_samples),
        schedule=Schedule.of(diffusion), latent_scale=diffusion.latent_scale,
        batch_size=task.batch_size, world=task.world,
    )


def _conclude(
    task: Task, blocks: Blocks, parts: Parts, loss: dict[str, Any]
) -> dict[str, Any]:
    captions = parts.captions
    shown, seconds, labels, scores = [], np.zeros(len(STAGES)), [], []
    for block in blocks.all():
        shown.append(block.shown)
        labels.append(block.labels)
        scores.append(block.clip)
        seconds += block.seconds
    measured = judges.measure(blocks, parts.judge, parts.also, seed=task.protocol.seed)
    read = np.concatenate(labels)[: len(captions)]
    accuracy = None
    if captions.labels is not None and (read >= 0).all():
        accuracy = float(np.mean(read == captions.labels))
    metrics = {**measured.pop("metrics"), "accuracy": accuracy, "val_loss": loss["loss"]}
    if task.protocol.clip:
        metrics["clip_score"] = float(np.concatenate(scores).mean())
    result = {
        "schema": runs.RESULT_SCHEMA,
        **parts.identity,
        "n_samples": task.protocol.n_samples,
        "metrics": metrics,
        **measured,
        "validation": loss,
        # Batch shapes and kernels: the bits depend on them, what the figures mean does not.
        "execution": {
            "batch_size": task.batch_size,
            "decode_batch_size": task.decode_batch_size,
            **kernel_choice.used(),
        },
        "timing": _timing(seconds, task.protocol.n_samples),
    }
    images = np.concatenate(shown)
    said = captions.texts[: len(images)] if captions.texts else None
    image_grid.save_grid(images, task.directory / "samples.png", prompts=said)
    files.atomic_write_json(task.directory / "result.json", result)
    return result


def _timing(seconds: np.ndarray, n_samples: int) -> dict[str, Any]:
    each = {s: float(v) / n_samples for s, v in zip(STAGES, seconds, strict=True)}
    return {"seconds_per_image": each, "seconds": float(seconds.sum())}
