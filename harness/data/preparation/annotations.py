"""Which image has which captions: COCO's annotation files, or JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import files
from harness.base.errors import DataError
from harness.base.wording import counted

_REMEDY = (
    'give COCO\'s captions_*.json, or JSON lines such as {"image": "a.jpg", "captions": ["..."]}'
)


@dataclass(frozen=True)
class Item:
    """One image, by its file's name under the images' directory, and its captions in order."""

    file: str
    captions: tuple[str, ...]


def read(path: Path) -> list[Item]:
    """The images of a captions file, numbered by their place in the list.

    COCO's JSON: images by ascending id, captions in the file's order (as the
    official U-ViT extraction has them). JSON lines: images in the order in which
    they first appear; a line has `image` (or `file_name`) and `captions`, or one
    `caption` (or `text`). DataError if it is neither, or an image has no caption.
    """
    data = files.read_bytes(path, limit=1 << 30)
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        whole = None  # many lines are not one document
    is_coco = isinstance(whole, dict) and "annotations" in whole
    items = _coco(whole, path) if is_coco else _lines(data, path)
    without = [item.file for item in items if not item.captions]
    if without:
        raise DataError(f"{path}: {counted(len(without), 'image')} without a caption, "
                        f"{without[0]} for one",
                        remedy="leave them out, or give them captions")
    if not items:
        raise DataError(f"{path} names no images", remedy=_REMEDY)
    return items


def _coco(whole: dict[str, Any], path: Path) -> list[Item]:
    try:
        names = {int(image["id"]): str(image["file_name"]) for image in whole["images"]}
        captions: dict[int, list[str]] = {key: [] for key in names}
        for annotation in whole["annotations"]:
            captions[int(annotation["image_id"])].append(_text(annotation["caption"]))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{path} is not a captions file of COCO: {error!r}",
                        remedy=_REMEDY) from error
    return [Item(names[key], tuple(captions[key])) for key in sorted(names)]


def _lines(data: bytes, path: Path) -> list[Item]:
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            file = entry["image"] if "image" in entry else entry["file_name"]
            captions.setdefault(_text(file), []).extend(_said(entry))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not an image with captions: {error!r}",
                            remedy=_REMEDY) from error
    return [Item(file, tuple(texts)) for file, texts in captions.items()]


def _said(entry: dict[str, Any]) -> list[str]:
    if "captions" in entry:
        return [_text(text) for text in entry["captions"]]
    return [_text(entry["caption"] if "caption" in entry else entry["text"])]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
