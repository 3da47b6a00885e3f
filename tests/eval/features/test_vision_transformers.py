"""DINOv2 and CLIP in torch's process against numpy, their preprocessing, and bad folders."""

import json
import shutil

import numpy as np
import pytest

from eval.features import vision_transformers
from eval.features.vision_transformers import KINDS, TransformerFeatures
from eval.metrics import cmmd, feature_statistics, frechet
from harness.base import seeds
from harness.base.errors import DataError, EnvironmentFault
from tests import weights_files
from tests.eval import transformers

NAMES = ("dinov2", "clip")


def images(count, seed=1, shape=(40, 56)):
    return seeds.generator(seed, "pictures").integers(0, 256, (count, *shape, 3), np.uint8)


@pytest.fixture(scope="module", params=NAMES)
def network(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    folder = transformers.write(root / request.param, request.param)
    if request.param == "clip":  # as it is published: by torch.save
        (folder / "model.safetensors").unlink()
        weights_files.torch_saves(root, transformers.weights("clip"))
        shutil.move(root / "nnet_ema.pth", folder / "pytorch_model.bin")
    with TransformerFeatures(request.param, folder) as found:
        yield found


def by_numpy(network, pixels):
    kind, side = KINDS[network.name], network.settings["image"]
    prepared = np.stack([kind.prepare(image, side) for image in pixels])
    return transformers.forward(network.name, prepared)


def test_features_and_figures_are_those_of_another_computation(network):
    made, real = images(9), images(8, 2) // 4
    found = [network.extract(some) for some in (made, real)]
    wanted = [by_numpy(network, some) for some in (made, real)]
    assert found[0].shape == (9, network.size) and found[0].dtype == np.float32
    for a, b in zip(found, wanted, strict=True):
        assert b.std(axis=0).mean() > 1e-3 * np.abs(b).max()  # images are told apart
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * np.abs(b).max())
    ours, theirs = (
        frechet.distance(*map(feature_statistics.of_features, some)) for some in (found, wanted)
    )
    assert ours == pytest.approx(theirs, rel=1e-6)
    if network.name == "clip":
        np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), 1.0, rtol=1e-6)
        assert cmmd.cmmd(*found) == pytest.approx(cmmd.cmmd(*wanted), rel=1e-6)


def test_a_protocol_says_all_that_the_features_depend_on(network):
    said = network.describe()
    side = network.settings["image"]
    assert said["sha256"] == network.sha256 and len(network.sha256) == 64
    assert f"PIL bicubic (antialiased) to {side}x{side}" in said["preprocessing"]
    assert ("centred square" in said["preprocessing"]) == (network.name == "clip")
    assert not said["official"] and network.metric.endswith("_unofficial_weights")
    json.dumps(said)


def test_weights_that_do_not_fit_are_exit_4(tmp_path):
    folder = transformers.write(tmp_path / "dinov2", "dinov2")
    config = transformers.config("dinov2") | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with (
        TransformerFeatures("dinov2", folder) as other,
        pytest.raises(DataError, match="does not fit its config"),
    ):
        other.extract(images(1))


def test_images_are_prepared_as_the_published_code_does():
    from PIL import Image

    image = images(1, shape=(300, 500))[0]
    squashed = np.asarray(Image.fromarray(image).resize((224, 224), Image.BICUBIC), np.float64)
    wanted = (squashed / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = KINDS["dinov2"].prepare(image, 224)
    np.testing.assert_allclose(found, wanted.transpose(2, 0, 1), atol=1e-6)
    square = Image.fromarray(image[:, 100:400]).resize((336, 336), Image.BICUBIC)
    mean, std = vision_transformers.CLIP_MEAN, vision_transformers.CLIP_STD
    wanted = (np.asarray(square, np.float64) / 255 - mean) / std
    found = KINDS["clip"].prepare(image, 336)
    np.testing.assert_allclose(found, wanted.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_are_exit_5_with_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault) as error:
        TransformerFeatures(name)
    assert error.value.exit_code == 5
    assert f"harness fetch {name}" in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("change", [
    {"hidden_size": 31}, {"patch_size": 0}, {"use_swiglu_ffn": True}, {"hidden_act": "tanh"},
    {"num_hidden_layers": 10**9}, {"num_attention_heads": "2"},
])
def test_a_config_that_cannot_be_is_exit_4(change, tmp_path):
    folder = transformers.write(tmp_path / "dinov2", "dinov2")
    config = transformers.config("dinov2") | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="config.json"):
        TransformerFeatures("dinov2", folder)
