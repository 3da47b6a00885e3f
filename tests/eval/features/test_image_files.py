"""Reading images for the feature network, and COCO's preparation."""

import numpy as np
import pytest
from PIL import Image

from eval.features import image_files
from harness.base.errors import DataError


def official_center_crop(size, img):
    """As published in U-ViT's datasets.py: slices, then PIL's Lanczos."""
    crop = min(img.shape[:2])
    img = img[(img.shape[0] - crop) // 2 : (img.shape[0] + crop) // 2,
              (img.shape[1] - crop) // 2 : (img.shape[1] + crop) // 2]
    return np.array(Image.fromarray(img).resize((size, size), Image.LANCZOS)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 401), (401, 300), (256, 256), (97, 60)])
def test_preparation_equals_the_official_code(shape):
    img = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    np.testing.assert_array_equal(image_files.coco256(img), official_center_crop(256, img))


def test_grey_and_transparent_images_become_rgb(tmp_path):
    Image.new("L", (5, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGBA", (5, 4), (1, 2, 3, 0)).save(tmp_path / "alpha.png")
    assert (image_files.load(tmp_path / "grey.png") == 7).all()
    assert image_files.load(tmp_path / "alpha.png").shape == (4, 5, 3)


def test_only_images_are_listed_sorted(tmp_path):
    for name in ("b.png", "a.jpg", "c.txt", "d.webp"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in image_files.listing(tmp_path)] == ["a.jpg", "b.png", "d.webp"]


def test_a_folder_without_images_and_a_broken_image_are_refused(tmp_path):
    with pytest.raises(DataError, match="no images"):
        image_files.listing(tmp_path)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"x\.png"):
        image_files.load(tmp_path / "x.png")
