"""`harness data extract`: images and captions -> features, as the official preparation does.

Work goes by blocks of consecutive images. A block's bits depend on the block
alone, so an extraction that was killed and resumed, or shared among devices, is
byte-identical to one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import files, runs
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.base.progress import Progress
from harness.base.wording import counted
from harness.data import features
from harness.data.preparation import annotations as captioned
from harness.data.preparation import images
from harness.data.preparation.annotations import Item

_DECODERS = 8  # threads; images are decoded without Python's lock
_AHEAD = 2  # blocks decoded ahead of the device
_PROMPTS = 8  # captions that become run_vis when no prompts are given


@dataclass(frozen=True)
class Job:
    """What is extracted from where. `split`: 'train' or 'val'; `size`: pixels, square."""

    images: Path
    captions: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path | None
    output: Path
    split: str
    size: int = 256
    batch_size: int = 8

    @property
    def folder(self) -> Path:
        return self.output / self.split


@dataclass
class Models:
    """The frozen models; `moments` [B,3,H,W] -> [B,2C,h,w], `context` texts -> [B,T,D]."""

    moments: Callable[[np.ndarray], np.ndarray]
    context: Callable[[list[str]], np.ndarray]
    moments_shape: tuple[int, ...]
    context_shape: tuple[int, ...]


def load_models(job: Job) -> Models:
    """Load VAE and text encoder (imports paddle); UsageError if the size does not fit the VAE."""
    from models.pretrained import autoencoder, text_encoder

    vae = autoencoder.load(job.vae)
    text = text_encoder.load(job.text_encoder, job.tokenizer)
    if job.size % vae.factor:
        raise UsageError(f"--size {job.size} is not a multiple of the VAE's factor {vae.factor}")
    side = job.size // vae.factor
    return Models(
        vae.encode_moments, text.encode, (2 * vae.latent_channels, side, side),
        (text.max_length, text.hidden_size),
    )


def begin(job: Job) -> list[Item]:
    """Check everything that can be checked before the models load; note what the job is.

    UsageError if the output was begun with something else, DataError listing how
    many images are missing.
    """
    items = captioned.read(job.captions)
    missing = [i.file for i in items if not (job.images / i.file).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} images are not in {job.images}, {missing[0]} for one",
            remedy="give the directory that the names in the captions file start from",
        )
    said = _describe(job, len(items))
    note = _note(job)
    if note.is_file():
        before = files.read_json(note)
        differing = [k for k in said if not isinstance(before, dict) or before.get(k) != said[k]]
        if differing:
            raise UsageError(
                f"{job.folder} was begun with another {', '.join(differing)}",
                remedy="give another -o, or what it was begun with",
            )
    elif job.folder.is_dir() and any(job.folder.glob("*.npy")):
        raise UsageError(f"{job.folder} holds features that no extraction began",
                         remedy="give another -o; nothing there was touched")
    else:
        files.atomic_write_json(note, said)
    return items


def _note(job: Job) -> Path:
    return job.output / f"extract-{job.split}.json"


def _describe(job: Job, count: int) -> dict[str, Any]:
    return {
        "captions": files.sha256_file(job.captions), "images": count, "size": job.size,
        "batch_size": job.batch_size, "vae": _folder_digest(job.vae),
        "text_encoder": _folder_digest(job.text_encoder),
        "tokenizer": _folder_digest(job.tokenizer) if job.tokenizer else None,
    }


def _folder_digest(folder: Path) -> str:
    """SHA-256 (hex) of the names and contents of a folder's files."""
    if not folder.is_dir():
        raise EnvironmentFault(f"{folder} is not a directory",
                               remedy="name a folder with config.json and weights")
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(os.fsencode(f"{path.name} {files.sha256_file(path)}\n"))
    return digest.hexdigest()


def run(job: Job, items: list[Item], models: Models, *, part: tuple[int, int] = (0, 1)) -> None:
    """Extract the blocks that are not there yet; of them every n-th from k on, part = (k, n).

    DataError listing every image that cannot be read, once all others are done.
    """
    with files.writing(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
    blocks = [
        range(at, min(at + job.batch_size, len(items)))
        for at in range(0, len(items), job.batch_size)
    ][part[0] :: part[1]]
    missing = [block for block in blocks if not _is_done(job, items, models, block)]
    done = sum(map(len, blocks)) - sum(map(len, missing))
    label = f"extract {job.split}" + (f" {part[0] + 1}/{part[1]}" if part[1] > 1 else "")
    unreadable: list[str] = []
    parent = os.getppid()
    with Progress(done + sum(map(len, missing)), label, start=done, unit="image") as progress:
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            written: Future[None] | None = None
            for block, pixels in _decoded(job, items, missing):
                if part[1] > 1 and os.getppid() != parent:
                    raise EnvironmentFault("the process that shared out the work has gone")
                if isinstance(pixels, list):
                    unreadable += pixels
                    continue
                arrays = _encode(models, items, block, pixels)
                if written:
                    written.result()
                written = writer.submit(_write, job.folder, arrays)
                progress.advance(len(block))
            if written:
                written.result()
    if unreadable:
        raise DataError(f"{counted(len(unreadable), 'image')} cannot be used: "
                        f"{'; '.join(unreadable)}",
                        remedy="mend or leave out these images, then run the same command again")


def _is_done(job: Job, items: list[Item], models: Models, block: range) -> bool:
    for image in block:
        for caption in range(-1, len(items[image].captions)):
            shape = models.moments_shape if caption < 0 else models.context_shape
            size = len(features.npy_header("<f4", shape)) + 4 * int(np.prod(shape))
            path = job.folder / features.file_name(image, caption)
            # A power cut can leave a file without its content; a kill cannot.
            if not path.is_file() or path.stat().st_size != size:
                return False
    return True


def _decoded(
    job: Job, items: list[Item], blocks: list[range]
) -> Iterator[tuple[range, np.ndarray | list[str]]]:
    """Each block's images, float32 [B,3,H,W], or what is wrong with those that cannot be read."""
    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        waiting: list[tuple[range, list[Future[np.ndarray]]]] = []
        try:
            for block in [*blocks, *[None] * _AHEAD]:
                if block is not None:
                    waiting.append((block, [
                        pool.submit(images.prepare, job.images / items[i].file, job.size)
                        for i in block
                    ]))
                if waiting and (block is None or len(waiting) > _AHEAD):
                    ready, futures = waiting.pop(0)
                    yield ready, _gather(futures)
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _gather(futures: list[Future[np.ndarray]]) -> np.ndarray | list[str]:
    arrays, wrong = [], []
    for future in futures:
        try:
            arrays.append(future.result())
        except DataError as error:
            wrong.append(error.message)
    return wrong or np.stack(arrays)


def _encode(models: Models, items: list[Item], block: range,
            pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The block's features by file name."""
    moments = models.moments(pixels)
    owners = [(i, k) for i in block for k in range(len(items[i].captions))]
    contexts = models.context([items[i].captions[k] for i, k in owners])
    arrays = {features.file_name(i): moments[row] for row, i in enumerate(block)}
    arrays |= {features.file_name(i, k): contexts[row] for row, (i, k) in enumerate(owners)}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"the models made NaN or infinite values of {name}",
                            remedy="check the VAE's and text encoder's weights")
    return arrays


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write whole files under their names: temporary and rename; one sync comes at the end."""
    with files.writing(folder):
        for name, array in arrays.items():
            temporary = folder / f".{name}.tmp"
            with open(temporary, "wb") as file:
                np.save(file, np.ascontiguousarray(array, "<f4"))
            os.replace(temporary, folder / name)


def finish(job: Job, items: list[Item], models: Models, prompts: list[str] | None) -> None:
    """What belongs beside the split: captions.jsonl, empty_context.npy, run_vis/."""
    lines = [
        {"image": i, "caption": k, "text": text, "file": item.file}
        for i, item in enumerate(items) for k, text in enumerate(item.captions)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    files.atomic_write_bytes(job.folder / "captions.jsonl", text.encode())
    empty = models.context([""])[0]
    path = job.output / "empty_context.npy"
    if not path.is_file():
        _write(job.output, {path.name: empty})
    elif not np.array_equal(files.load_npy(path, dtype="float32"), empty):
        raise UsageError(f"{path} is of another text encoder", remedy="give another -o")
    _write_prompts(job, models, prompts or [item.captions[0] for item in items[:_PROMPTS]])
    os.sync()


def _write_prompts(job: Job, models: Models, prompts: list[str]) -> None:
    """run_vis/{i}.npy: object arrays (prompt, context), as the official extraction writes them."""
    folder = job.output / "run_vis"
    if folder.is_dir():
        return
    work = folder.with_name(".run_vis.tmp")
    with files.writing(folder):
        work.mkdir(exist_ok=True)
        for number, (prompt, context) in enumerate(
            zip(prompts, models.context(list(prompts)), strict=True)
        ):
            entry = np.empty(2, dtype=object)
            entry[0], entry[1] = prompt, context
            np.save(work / f"{number}.npy", entry, allow_pickle=True)
        os.rename(work, folder)


def extract(job: Job, *, prompts: Path | None, processes: int | None,
            arguments: Sequence[str]) -> None:
    """Do the whole job, on all GPUs at hand or `processes` processes (paddle is prepared).

    `arguments`: the command line after `harness`, for the processes that do a part.
    """
    from harness.data.preparation import extract_parts

    with runs.locked(job.output / f".extract-{job.split}"):
        items = begin(job)
        count = processes or extract_parts.devices()
        with extract_parts.others(arguments, count, gpus=extract_parts.devices() >= count > 1):
            models = load_models(job)
            run(job, items, models, part=(0, count))
        finish(job, items, models, _read_prompts(prompts))


def _read_prompts(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        lines = files.read_bytes(path, limit=1 << 20).decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text") from error
    return [line for line in lines if line.strip()] or None
