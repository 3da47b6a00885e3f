"""The published DINOv2 and CLIP: which files they are, where they are put, fetching them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.features import inception_weights, published_files
from eval.features.published_files import File
from harness.base.errors import EnvironmentFault

# By preference. The second is a pickle, which torch's restricted unpickler reads.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Published:
    """A published network. `settings`: what `vision_transformers.settings` reads of its config."""

    folder: str
    url: str
    config: File
    weights: File
    settings: dict[str, Any]


_LARGE = {"width": 1024, "layers": 24, "heads": 16, "patch": 14}
PUBLISHED = {
    "dinov2": Published(
        "dinov2-large",
        "https://huggingface.co/facebook/dinov2-large/resolve/"
        "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        File("config.json", 549,
             "12df51c069a2dc1305e34ba71ef58bc2407ea553b75f4722a1715c1bce3bbed0"),
        File("model.safetensors", 1_217_522_888,
             "399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23"),
        {**_LARGE, "image": 224, "size": 1024, "activation": "gelu", "eps": 1e-6},
    ),
    "clip": Published(
        "clip-vit-large-patch14-336",
        "https://huggingface.co/openai/clip-vit-large-patch14-336/resolve/"
        "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        File("config.json", 4757,
             "51b1c14aabcdf639c4a0370eeda1010b773bbe1df78319c7d0f5882c22ac0ac0"),
        File("pytorch_model.bin", 1_711_974_081,
             "c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801"),
        {**_LARGE, "image": 336, "size": 768, "activation": "quick_gelu", "eps": 1e-5},
    ),
}


def folder_of(name: str) -> Path:
    """Where the network `name` is looked for: beside the Inception weights."""
    return inception_weights.weights_path().parent / PUBLISHED[name].folder


def find_weights(name: str, folder: Path | str | None = None) -> Path:
    """The weights file in `folder`, or where `fetch` puts it; EnvironmentFault if missing."""
    place = Path(folder) if folder else folder_of(name)
    for file in WEIGHTS:
        if (place / file).is_file():
            return place / file
    raise EnvironmentFault(
        f"the {name} weights are missing: {place} holds no {' or '.join(WEIGHTS)}",
        remedy=f"`harness fetch {name}` downloads them to {folder_of(name)}; without a network, "
        f"`harness fetch {name} --from FOLDER` with the files of {PUBLISHED[name].url}",
    )


def fetch(name: str, source: Path | None = None) -> Path:
    """Put the network's files in place, from the folder `source` or by download; their folder.

    What is there already and right is left alone, a broken download is continued. DataError if a
    file is not the published one, EnvironmentFault without a network or on a full disk.
    """
    published, target = PUBLISHED[name], folder_of(name)
    for file in (published.config, published.weights):
        published_files.put(
            file, target / file.name, url=f"{published.url}/{file.name}",
            source=source and source / file.name,
            remedy="fetch the files elsewhere and give their folder with --from FOLDER",
        )
    return target
