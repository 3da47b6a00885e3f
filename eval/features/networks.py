"""Feature networks by name, with one face: size, metric, describe(), extract(images)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.features.digits import DigitsFeatures
from eval.features.torch_process import TorchFeatures


def in_torch(name: str, weights: Path | None = None) -> TorchFeatures:
    """"inception", "dinov2" or "clip", a context manager; `weights`: its file, or its folder.

    EnvironmentFault if they are missing, DataError if they are broken.
    """
    if name == "inception":
        from eval.features.inception import InceptionFeatures

        return InceptionFeatures(weights)
    from eval.features.vision_transformers import TransformerFeatures

    return TransformerFeatures(name, weights)


@contextlib.contextmanager
def open_also(names: Sequence[str], folders: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """The further networks `names` ("dinov2", "clip") by name, closed at the end.

    `folders`: where their weights lie, of those that are not where `harness fetch` puts them.
    Errors as in `open_network`.
    """
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(in_torch(name, folders.get(name))) for name in names}


@contextlib.contextmanager
def open_network(name: str, *, data: Path, weights: Path | None = None) -> Iterator[Any]:
    """The feature network `name` ("inception" or "digits"), closed at the end.

    EnvironmentFault if its weights are missing, DataError if they are broken.
    """
    if name == "digits":
        yield DigitsFeatures.load(data)
        return
    with in_torch(name, weights) as network:
        yield network
