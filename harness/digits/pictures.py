"""What the embedded `digits` data are made of: images, labels, captions and the split.

scikit-learn's 1,797 scanned digits (Alpaydin and Kaynak 1998, UCI; they ship
inside the package) enlarged to 64x64. All of it is integer arithmetic or keyed
by SHA-256: the same bytes on every machine.
"""

from __future__ import annotations

import numpy as np

from harness.base import seeds

COUNT = 1797
SIZE = 64
VAL_PER_DIGIT = 40
CAPTIONS_PER_IMAGE = 5
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDINGS = (
    "a handwritten {word}",
    "the digit {numeral}",
    "a picture of the number {word}",
    "handwritten digit {numeral}",
    "the number {word} written by hand",
    "a scan of the digit {word}",
    "somebody wrote the number {numeral}",
    "a photo of a handwritten {word}",
    "{word}",
    "a drawing of the digit {numeral}",
)


def captions_of(label: int) -> list[str]:
    """Every wording for one digit."""
    return [text.format(word=WORDS[label], numeral=label) for text in WORDINGS]


def captions(index: int, label: int) -> list[str]:
    """The five captions of image `index` of the source, all different."""
    order = seeds.generator(0, "digits captions", index).permutation(len(WORDINGS))
    texts = captions_of(label)
    return [texts[k] for k in order[:CAPTIONS_PER_IMAGE]]


def load() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797,64,64], dark ink on white paper, and int64 [1797] labels."""
    from PIL import Image
    from sklearn.datasets import load_digits

    source = load_digits()
    # 17 grey levels, 0 is paper; PIL's bicubic works in fixed point on 8-bit images
    paper = 255 - np.rint(source.images * (255 / 16)).astype(np.uint8)
    size = (SIZE, SIZE)
    bicubic = Image.Resampling.BICUBIC
    large = [np.asarray(Image.fromarray(image).resize(size, bicubic)) for image in paper]
    return np.stack(large), source.target.astype(np.int64)


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of the images of `train` (1,397) and `val` (400: 40 of each digit), ascending."""
    held = np.zeros(len(labels), bool)
    for digit in range(len(WORDS)):
        members = np.flatnonzero(labels == digit)
        order = seeds.generator(0, "digits split", digit).permutation(len(members))
        held[members[order[:VAL_PER_DIGIT]]] = True
    return {"train": np.flatnonzero(~held), "val": np.flatnonzero(held)}


def rgb(images: np.ndarray) -> np.ndarray:
    """uint8 [N,64,64] -> [N,64,64,3]."""
    return np.repeat(images[..., None], 3, axis=-1)
