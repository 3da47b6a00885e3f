"""Quantisation as the official code's, and sheets of images."""

import numpy as np
import pytest
from PIL import Image

from eval.sampling import image_grid


def test_quantisation_is_the_official_code_s():
    values = np.array([-3.0, -1.0, -0.999, 0.0, 0.5, 0.9999, 1.0, 2.0], np.float32)
    images = np.broadcast_to(values.reshape(1, 1, 1, -1), (1, 3, 2, 8)).copy()
    found = image_grid.to_uint8(images)
    # unpreprocess (clamp((x + 1) / 2, 0, 1)), then save_image (mul 255, add 0.5, truncate)
    unit = np.clip(0.5 * (values + 1.0), 0.0, 1.0)
    expected = np.clip(unit * 255 + 0.5, 0, 255).astype(np.uint8)
    assert found.shape == (1, 2, 8, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[0, 1, :, 2], expected)


def test_every_grey_level_survives():
    levels = np.arange(256, dtype=np.uint8)
    decoded = (levels.astype(np.float32) / 127.5 - 1.0).reshape(1, 1, 16, 16).repeat(3, axis=1)
    np.testing.assert_array_equal(image_grid.to_uint8(decoded)[0, :, :, 0].ravel(), levels)


def test_a_sheet_has_every_image_in_reading_order():
    images = np.zeros((5, 4, 6, 3), np.uint8) + np.arange(5, dtype=np.uint8).reshape(-1, 1, 1, 1)
    sheet = image_grid.arrange(images, columns=3, gap=1)
    assert sheet.shape == (1 + 2 * 5, 1 + 3 * 7, 3)
    assert [sheet[1, 1 + 7 * x, 0] for x in range(3)] == [0, 1, 2]
    assert [sheet[6, 1 + 7 * x, 0] for x in range(3)] == [3, 4, 255]


def test_the_png_holds_the_sheet(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    image_grid.save_grid(images, tmp_path / "deep" / "g.png")
    with Image.open(tmp_path / "deep" / "g.png") as found:
        np.testing.assert_array_equal(np.asarray(found), image_grid.arrange(images))


def test_no_images_make_no_sheet():
    with pytest.raises(ValueError, match="no images"):
        image_grid.arrange(np.zeros((0, 4, 4, 3), np.uint8))
