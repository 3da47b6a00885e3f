"""Opening image files that may be hostile: few formats, bounded pixels, errors in one line."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import DataError
from harness.files.safe_reading import read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow looks at the content, not at the name, and knows forty more: for PostScript it starts
# Ghostscript. These are what folders of images hold (pytorch-fid's list, and GIF).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_LIMIT = 256 << 20  # bytes of a file


@contextlib.contextmanager
def opened_image(path: Path | str) -> Iterator[Image]:
    """The image in `path`, to be decoded inside; DataError, there or inside, if it cannot be.

    Pillow refuses images of more than 179 million pixels. It gets the file's bytes: given a file,
    it has libtiff map it, and one that is cut short meanwhile would kill the process (SIGBUS).
    """
    from PIL import Image

    data = io.BytesIO(read_bytes(path, limit=_LIMIT))
    with warnings.catch_warnings():
        # It warns of half as many.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(data, formats=FORMATS) as image:
                yield image
        except Exception as error:  # decoders raise what they like
            raise DataError(f"{path} is not a readable image: {error!r:.200}") from error
