"""Which worker of an evaluation makes which of its samples."""

from __future__ import annotations


def of_worker(blocks: int, rank: int, workers: int) -> range:
    """Numbers of the `blocks` that worker `rank` of `workers` makes: every so many-th one.

    In turns and not in runs, so that what a kill leaves undone is shared evenly as well.
    """
    return range(blocks)[rank::workers]
