"""Fixtures of the evaluation's tests: random Inception weights, small pictures, a small VAE."""

import json
import shutil

import numpy as np
import pytest

from eval.features.digits import DigitsFeatures
from eval.features.inception_weights import FILE_NAME
from harness.base import seeds
from harness.digits import dataset
from harness.digits import pictures as digits_pictures
from harness.runs import checkpoints
from tests import fixtures, judged_data
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
    images, labels = digits_pictures.load()
    found = DigitsFeatures.load(dataset.ASSETS).extract(digits_pictures.rgb(images))
    parts = digits_pictures.split(labels)
    return found[parts["train"]], found[parts["val"]]


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory):
    """Data that fit `fixtures.tiny_config()` with what evaluates digits: VAE, features, labels."""
    return judged_data.write(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def ema():
    """EMA weights of an untrained tiny model, and their digest."""
    from models.ema import EMA
    from models.uvit import UViT

    model = UViT(**fixtures.tiny_config().model.model_dump())
    model.init_weights(seeds.generator(1, "weights"))
    state = EMA(model, 0.9).state()
    return state, checkpoints.tensors_digest(state)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A tiny CLIPModel folder as paddlenlp writes it, with the digits' tokenizer beside it."""
    import paddle
    from paddlenlp.transformers import CLIPConfig, CLIPModel

    from eval.features import clip_score

    root = tmp_path_factory.mktemp("clip")
    shutil.copytree(dataset.ASSETS / "tokenizer", root / "tokenizer")
    words = len(json.loads((root / "tokenizer" / "vocab.json").read_text()))
    tower = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    text = tower | {"vocab_size": words, "max_position_embeddings": 12, "eos_token_id": 2}
    vision = tower | {"image_size": 32, "patch_size": 8}
    paddle.seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(str(root / "clip"))
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    if clip_score.load(root / "clip").score(white, ["a digit"])[0] == 0.0:
        # Untrained towers disagree or agree on everything by chance: make them agree.
        model.text_projection.set_value(-model.text_projection)
        model.save_pretrained(str(root / "clip"))
    return root / "clip"


@pytest.fixture(scope="session")
def two_checkpoints(digits_data, tmp_path_factory):
    """A run with checkpoints of steps 3 and 6, without having trained for them; copy it."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    return judged_data.untrained(directory, digits_data, {3: 3, 6: 6}, batch_size=8)
