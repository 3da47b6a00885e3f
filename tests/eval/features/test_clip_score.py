"""CLIP score with a tiny random CLIP: the definition, the preparation, and what is refused."""

import shutil

import numpy as np
import pytest

from eval.features import clip_score
from harness.base.errors import DataError, EnvironmentFault


def images(n):
    return np.random.default_rng(0).integers(0, 256, (n, 48, 40, 3)).astype(np.uint8)


TEXTS = [f"the digit {i}" for i in range(7)]


@pytest.fixture(scope="module")
def scorer(clip_folder):
    return clip_score.load(clip_folder)


def test_it_is_the_cosine_of_the_model_s_own_features(scorer):
    import paddle

    found = scorer.score(images(7), TEXTS)
    pixels = np.stack([clip_score.prepare(image, 32) for image in images(7)])
    with paddle.no_grad():
        out = scorer._model(
            input_ids=paddle.to_tensor(scorer._words.tokens(TEXTS)),
            pixel_values=paddle.to_tensor(pixels), return_dict=True,
        )
    # CLIP's own logits are the scaled cosines of every image with every text.
    scale = float(scorer._model.logit_scale.exp())
    cosines = np.diagonal(out.logits_per_image.numpy()) / scale
    np.testing.assert_allclose(found, 100 * np.maximum(cosines, 0), rtol=1e-4, atol=1e-4)
    assert found.std() > 0


def test_batches_do_not_show(scorer):
    whole = scorer.score(images(7), TEXTS)
    scorer._batch_size = 3
    np.testing.assert_allclose(scorer.score(images(7), TEXTS), whole, rtol=1e-4)
    scorer._batch_size = 10


def test_preparation():
    flat = np.full((64, 96, 3), 255, np.uint8)
    found = clip_score.prepare(flat, 32)
    assert found.shape == (3, 32, 32) and found.dtype == np.float32
    np.testing.assert_allclose(found[:, 5, 7], (1 - clip_score.MEAN) / clip_score.STD, rtol=1e-6)
    # A square in the middle of a wide image is what is left of it.
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    assert clip_score.prepare(wide, 32)[:, :, 4:-4].min() > 1.5


def test_what_is_no_clip_is_refused(clip_folder, tmp_path):
    with pytest.raises(EnvironmentFault, match="no CLIP model"):
        clip_score.load(tmp_path / "none")
    shutil.copytree(clip_folder, tmp_path / "clip")
    shutil.copytree(clip_folder.parent / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "clip" / "config.json").write_text("[]")
    with pytest.raises(DataError):
        clip_score.load(tmp_path / "clip")
