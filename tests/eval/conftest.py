"""Fixtures of the evaluation's tests: random Inception weights, small pictures, a small VAE."""

import json
import shutil

import numpy as np
import pytest

from eval import networks, statistics
from eval.digits import DigitsFeatures
from eval.inception import FILE_NAME
from harness import checkpoints, digits, digits_source, seeds
from tests import fixtures
from tests.eval import peer


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory):
    """A TORCH_HOME with random Inception weights where torch.hub looks for the published ones."""
    home = tmp_path_factory.mktemp("torch")
    peer.write_weights(home / "hub" / "checkpoints" / FILE_NAME)
    return home


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three folders of small PNGs: smooth noise of different colours and coarseness."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    for name, count, cells, tint in (("a", 12, 4, 0), ("b", 10, 12, 60), ("c", 11, 6, -40)):
        (root / name).mkdir()
        for i in range(count):
            draw = seeds.generator(5, name, i)
            small = draw.integers(0, 256, (cells, cells, 3)) + np.array([tint, 0, -tint])
            image = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))
            image.resize((72, 64), Image.BICUBIC).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def digits_features():
    """Features of the scanned digits, (train [n, 33], val [m, 33])."""
    images, labels = digits_source.load()
    found = DigitsFeatures.load(digits.ASSETS).features(digits_source.rgb(images))
    parts = digits_source.split(labels)
    return found[parts["train"]], found[parts["val"]]


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory):
    """Data that fit `fixtures.tiny_config()` with what evaluates digits: VAE, features, labels."""
    data = fixtures.write_features(tmp_path_factory.mktemp("digits"))
    shutil.copytree(digits.ASSETS / "vae", data / "vae")
    shutil.copyfile(digits.ASSETS / "features.safetensors", data / "features.safetensors")
    images, _ = digits_source.load()
    real = digits_source.rgb(images[:120])
    np.save(data / "val_images.npy", real)
    network = networks.DigitsNetwork(data)
    statistics.save(data / "reference.npz", statistics.of_features(network.extract(real)))
    with open(data / "val" / "captions.jsonl", "w") as file:
        for image in range(20):
            for caption in range(2):
                line = {"image": image, "caption": caption, "text": "a digit", "label": image % 10}
                file.write(json.dumps(line) + "\n")
    return data


@pytest.fixture(scope="session")
def ema():
    """EMA weights of an untrained tiny model, and their digest."""
    from models.ema import EMA
    from models.uvit import UViT

    model = UViT(**fixtures.tiny_config().model.model_dump())
    model.init_weights(seeds.generator(1, "weights"))
    state = EMA(model, 0.9).state()
    return state, checkpoints.tensors_digest(state)
