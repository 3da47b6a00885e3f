"""Work done ahead of whoever asks for it, on threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def ahead(
    function: Callable[[_Item], _Made], items: Iterable[_Item], *, most: int = 4
) -> Iterator[_Made]:
    """function(item) of each item, in order, at most so many computed ahead, each on a thread."""
    waiting: deque[Future[_Made]] = deque()
    with ThreadPoolExecutor(most, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
