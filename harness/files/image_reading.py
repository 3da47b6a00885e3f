"""Opening image files that may be hostile: few formats, bounded pixels, errors in one line."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import DataError
from harness.files.safe_reading import reading

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow looks at the content, not at the name, and knows forty more: for PostScript it starts
# Ghostscript. These are what folders of images hold (pytorch-fid's list, and GIF).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


@contextlib.contextmanager
def opened_image(path: Path | str) -> Iterator[Image]:
    """The image in `path`, to be decoded inside; DataError, there or inside, if it cannot be.

    Pillow refuses images of more than 179 million pixels.
    """
    from PIL import Image

    with warnings.catch_warnings(), reading(path) as file:
        # It warns of half as many.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                yield image
        except Exception as error:  # decoders raise what they like
            raise DataError(f"{path} is not a readable image: {error!r:.200}") from error
