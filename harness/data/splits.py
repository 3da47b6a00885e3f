"""Opening a split, in whichever form its data are."""

from __future__ import annotations

from pathlib import Path

from harness.data import packed_reading
from harness.data.features import Split, count_captions, list_features


def open_split(
    directory: Path, split: str, *, moments_shape: tuple[int, ...],
    context_shape: tuple[int, ...],
) -> Split:
    """Open a split in either form; its numbering has no gap.

    Plain: its files are listed once. Packed (`harness data pack`): its tables are
    read. EnvironmentFault if the directory is missing, DataError if it is in
    neither form or of other shapes.
    """
    directory = Path(directory)
    if packed_reading.is_packed(directory):
        return packed_reading.open_split(
            directory, split, moments_shape=moments_shape, context_shape=context_shape
        )
    folder = directory / split
    return Split(folder, count_captions(list_features(folder)), moments_shape, context_shape)
