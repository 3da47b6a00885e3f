"""Data on which an evaluation of the digits works, and runs to evaluate, without any training."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.features.digits import DigitsFeatures
from eval.metrics import feature_statistics
from harness import runs
from harness.digits import dataset, pictures
from harness.runs import checkpoints
from tests import assets, fixtures


def write(folder: Path, *, images: int = 20, captions: int = 2, real: int = 120) -> Path:
    """Features that fit `fixtures.tiny_config()`; of evaluation VAE, network, texts, reference."""
    fixtures.write_features(folder, images=images, captions=captions)
    shutil.copytree(assets.VAE, folder / "vae")
    shutil.copyfile(dataset.ASSETS / "features.safetensors", folder / "features.safetensors")
    digits = pictures.rgb(pictures.load()[0][:real])
    np.save(folder / "val_images.npy", digits)
    found = feature_statistics.of_features(DigitsFeatures.load(folder).extract(digits))
    feature_statistics.save(folder / "reference.npz", found)
    with open(folder / "val" / "captions.jsonl", "w") as file:
        for image in range(images):
            for caption in range(captions):
                line = {"image": image, "caption": caption, "text": "a digit", "label": image % 10}
                file.write(json.dumps(line) + "\n")
    return folder


def untrained(directory: Path, data: Path, seeds: Mapping[int, int], *, batch_size: int) -> Path:
    """A run of `fixtures.tiny_config()` with checkpoints: step -> the seed of its weights."""
    from harness.training.step import Trainer

    config = fixtures.tiny_config(
        f"eval.batch_size={batch_size}", f"eval.decode_batch_size={batch_size}")
    made = runs.create(
        directory, config, 1, fingerprint={}, data={"directory": str(data)}, commit=None
    )
    for step, seed in seeds.items():
        parts, state = Trainer(config, seed).state()
        checkpoints.save(
            made.checkpoint(step), checkpoints.Checkpoint(step, parts, state),
            config_digest=made.info["digest"], seed=1,
        )
    return directory
