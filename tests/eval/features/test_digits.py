"""The digits' features see quality, and the plain classifier reads digits."""

import shutil

import numpy as np
import pytest
import scipy.linalg
from safetensors.numpy import load_file, save_file

from eval.features import digits
from harness.base.errors import DataError
from harness.digits import dataset as built
from harness.digits import pictures
from models.pretrained import autoencoder


@pytest.fixture(scope="module")
def judge():
    return digits.DigitsFeatures.load(built.ASSETS)


@pytest.fixture(scope="module")
def split():
    images, labels = pictures.load()
    return {
        name: (pictures.rgb(images[members]), labels[members])
        for name, members in pictures.split(labels).items()
    }


@pytest.fixture(scope="module")
def vae():
    return autoencoder.load(built.ASSETS / "vae")


def distance(a, b):
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    spread = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + spread


def decode(vae, latents):
    parts = [vae.decode(latents[k : k + 50]) for k in range(0, len(latents), 50)]
    pixels = np.clip(np.round((np.concatenate(parts) + 1) * 127.5), 0, 255)
    return pixels.astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def val_moments(vae, split):
    images = (split["val"][0].astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    return np.concatenate([vae.encode_moments(images[k : k + 50]) for k in range(0, 400, 50)])


def test_classifier_reads_val_and_what_the_vae_makes_of_it(judge, split, vae, val_moments):
    images, labels = split["val"]
    assert (judge.classify(images) == labels).mean() >= 0.98
    rebuilt = decode(vae, val_moments[:, :1])
    assert (judge.classify(rebuilt) == labels).mean() >= 0.97


def test_distance_tells_digits_from_the_samples_of_an_untrained_model(judge, split, vae):
    noise = np.random.default_rng(0).standard_normal((200, 1, 8, 8)).astype(np.float32)
    untrained = judge.extract(decode(vae, noise / vae.scaling_factor))
    val = judge.extract(split["val"][0])
    near = distance(judge.extract(split["train"][0]), val)
    assert 0 < near < 0.05 * distance(untrained, val)


@pytest.mark.parametrize("spoil", ["blur", "noise", "colour", "one digit"])
def test_distance_grows_with_what_is_wrong(judge, split, spoil):
    images, labels = split["val"]
    val = judge.extract(images)
    near = distance(judge.extract(split["train"][0]), val)
    if spoil == "blur":
        small = images.reshape(-1, 4, 16, 4, 16, 3).mean((2, 4)).astype(np.uint8)
        bad = np.repeat(np.repeat(small, 16, 1), 16, 2)
    elif spoil == "noise":
        grain = np.random.default_rng(0).normal(0, 40, images.shape)
        bad = np.clip(images + grain, 0, 255).astype(np.uint8)
    elif spoil == "colour":
        bad = images.copy()
        bad[..., 0] //= 2
    else:
        bad = images[labels == 7]
    assert distance(judge.extract(bad), val) > 2 * near


def test_features_are_the_same_alone_and_in_company(judge, split):
    images = split["val"][0][:120]
    features = judge.extract(images)
    assert features.shape == (120, 33) and features.dtype == np.float64
    np.testing.assert_allclose(judge.extract(images[110:112]), features[110:112], atol=1e-9)
    assert judge.extract(images[:0]).shape == (0, 33)
    assert judge.classify(images).dtype == np.int64
    np.testing.assert_array_equal(features, judge.extract(images))


def test_shipped_weights_are_what_fitting_gives(judge, split):
    arrays = digits.fit(*split["train"])
    shipped = load_file(built.ASSETS / digits.FILE)
    np.testing.assert_allclose(arrays["basis"], shipped["basis"], atol=1e-4)
    assert arrays["scale"] == pytest.approx(shipped["scale"], rel=1e-5)


def test_other_images_and_broken_weights_are_refused(judge, tmp_path):
    for bad in (np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 64, 64, 3), np.float32)):
        with pytest.raises(DataError, match="digits features want"):
            judge.extract(bad)
    with pytest.raises(DataError, match="is missing.*harness data digits"):
        digits.DigitsFeatures.load(tmp_path)
    path = shutil.copy(built.ASSETS / digits.FILE, tmp_path)
    arrays = load_file(path)
    for name, value in (("mean", np.zeros(3)), ("anchors", np.zeros(())), ("scale", np.nan)):
        save_file(arrays | {name: np.asarray(value, np.float32)}, path)
        with pytest.raises(DataError, match="does not hold"):
            digits.DigitsFeatures.load(tmp_path)
    (tmp_path / digits.FILE).write_bytes(b"\x00" * 100)
    with pytest.raises(DataError, match="safetensors"):
        digits.DigitsFeatures.load(tmp_path)
