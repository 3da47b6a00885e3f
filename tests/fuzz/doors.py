"""Every door through which files of others come in: its reader, and sound files to begin from.

The contract of a door: the reader returns, or raises a `HarnessError` of one printable line, within
`SECONDS` of the processor's time and `BYTES` of memory. Whatever else happens is a finding.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import baselines.published
import baselines.record
import reports
from eval import captions
from eval.features import image_files
from eval.metrics import feature_statistics, reference_statistics
from harness import configs, files, runs
from harness.base.errors import HarnessError
from harness.configs.shipped_names import FOLDER
from harness.data import features, packed_reading
from harness.data.preparation import annotations, check, fetch, images, unpack
from harness.files import tensor_files
from harness.files.foreign_weights import pdparams, pth
from harness.runs import checkpoints
from models.pretrained import model_folder
from reports.output import sample_grids
from tests.fixtures import TINY

SECONDS, BYTES = 2.0, 500 << 20  # as tests/faults/test_hostile.py
_WRITTEN = Path(__file__).parents[1] / "corpus" / "c03ee96"
_CHECKPOINT = Path("run") / "checkpoints" / "00000003"


@dataclass(frozen=True)
class Door:
    """`read(path)` of a file called `name`; `seeds`: sound files; `form`: how they are changed."""

    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    form: str = "bytes"  # one of tests.fuzz.mutations.FORMS
    name: str = "file"  # where the file lies below the place that `prepare` fills
    prepare: Callable[[Path], object] = lambda place: None
    repair: Callable[[bytes], bytes] = bytes  # digests that a changed file has to fit


def enter(door: Door, place: Path) -> None:
    """Put into the empty directory `place` what has to lie around the door's file."""
    door.prepare(place)
    (place / door.name).parent.mkdir(parents=True, exist_ok=True)


def knock(door: Door, place: Path, data: bytes) -> str | None:
    """What the door says of a file of these bytes: a refusal, or None; AssertionError otherwise."""
    (place / door.name).write_bytes(data)
    return read(door, place / door.name)


def read(door: Door, path: Path) -> str | None:
    """`knock` of whatever is at `path`."""
    began, said = time.process_time(), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door.read(path)
    except HarnessError as error:
        said = str(error)
        assert said.isprintable() and len(said) < 3100, f"an odd message: {said!r}"
    seconds = time.process_time() - began
    assert seconds < SECONDS, f"it took {seconds:.1f} s"
    return said


def made(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _arrays() -> list[bytes]:
    shown = [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3, dtype=np.float32)),
             np.zeros((), np.int64), np.zeros((0, 4), np.uint8)]
    return [made(lambda file, a=a: np.save(file, a)) for a in shown]


def _prompts() -> list[bytes]:
    entry = np.empty(2, dtype=object)
    entry[:] = ["a cat", np.ones((2, 3), np.float32)]
    return [made(lambda file: np.save(file, entry, allow_pickle=True)), _arrays()[0]]


def _statistics() -> list[bytes]:
    both = {"mu": np.zeros(3), "sigma": np.eye(3)}
    return [
        made(lambda file: np.savez(file, **both)),
        made(lambda file: np.savez_compressed(file, features=np.ones((4, 3), np.float32), **both)),
    ]


def _read_statistics(path: Path) -> None:
    feature_statistics.load(path)
    reference_statistics._stored_features(path, 3)


def _safetensors() -> list[bytes]:
    arrays = {"a.weight": np.ones((2, 3), np.float32), "b": np.zeros(0, np.int64)}
    text = b'{"__metadata__":{"format":"pd"},"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    return [b"".join(map(bytes, tensor_files.chunks(arrays))),
            len(text).to_bytes(8, "little") + text + bytes(4)]


def _pdparams() -> list[bytes]:
    state = {"a.weight": np.ones((2, 3), np.float32), "b": ("b_0", np.zeros(2, np.uint16)),
             "StructuredToParameterName@@": {"a.weight": "linear_0.w_0"}}
    return [pickle.dumps(state, protocol=protocol) for protocol in (2, 4)]


def _pth() -> list[bytes]:
    """As torch.save writes {"w": a Parameter [2, 2] float32, "b": a view of bfloat16}."""
    def tensor(kind: bytes, key: bytes, count: int, size: bytes, stride: bytes) -> bytes:
        storage = (b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX\x01\0\0\0" + key
                   + b"X\x03\0\0\0cpuK" + bytes([count]) + b"tQ")
        return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + size + stride
                + b"\x89ccollections\nOrderedDict\n)RtR")

    parameter = (b"ctorch._utils\n_rebuild_parameter\n"
                 + tensor(b"FloatStorage", b"0", 4, b"K\x02K\x02\x86", b"K\x02K\x01\x86")
                 + b"\x88ccollections\nOrderedDict\n)R\x87R")
    state = (b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0w" + parameter + b"X\x01\0\0\0b"
             + tensor(b"BFloat16Storage", b"1", 2, b"K\x02\x85", b"K\x01\x85") + b"u.")
    parts = {"m/data.pkl": state, "m/byteorder": b"little", "m/data/0": bytes(16),
             "m/data/1": bytes(4), "m/version": b"3\n"}
    return [made(lambda file: zipped(file, parts, zipfile.ZIP_STORED))]


def zipped(file: io.BytesIO, parts: dict[str, bytes], compression: int) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)


def _tars() -> list[bytes]:
    array = made(lambda file: np.save(file, np.ones((2, 2, 2), np.float32)))
    found = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        def fill(file: io.BytesIO, form: int = form) -> None:
            with tarfile.open(fileobj=file, mode="w", format=form) as tar:
                for name in ("train/0.npy", "train/" + "x" * 110 + "é.txt"):
                    member = tarfile.TarInfo(name)
                    member.size = len(array)
                    tar.addfile(member, io.BytesIO(array))

        found.append(made(fill))
    return found


def _unpack(path: Path) -> None:
    target = path.parent / "train"
    shutil.rmtree(target, ignore_errors=True)
    work = unpack.staging(target)
    shutil.rmtree(work, ignore_errors=True)
    # As `unpack.unpack`, which has the whole disk synced besides.
    unpack._unpack(path, work, (2, 2, 2), (2, 3), lambda count: None)


def _pictures() -> list[bytes]:
    from PIL import Image

    picture = Image.fromarray(np.arange(12 * 8 * 3, dtype=np.uint8).reshape(12, 8, 3))
    forms = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
    return [made(lambda file, form=form: picture.save(file, form)) for form in forms]


def _grids() -> list[bytes]:
    from PIL import Image, PngImagePlugin

    told = PngImagePlugin.PngInfo()
    for key, value in (("prompts", '["a cat", "a dog"]'), ("columns", "2"), ("gap", "1")):
        told.add_text(key, value)
    picture = Image.new("RGB", (9, 6))
    return [made(lambda file: picture.save(file, "PNG", pnginfo=told))]


def _picture(path: Path) -> None:
    image_files.load(path, "coco256")
    images.prepare(path, 8)


def _lines() -> list[bytes]:
    metrics = (_WRITTEN / "run" / "metrics.jsonl").read_bytes()
    nested = b'{"step": 1, "loss": 0.5, "why": [{}]}\n{"step": 2, "loss": null, "a": "x"}\n'
    return [metrics, nested]


def _annotations() -> list[bytes]:
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 7, "image_id": 1, "caption": "a cat"}]}
    return [json.dumps(coco).encode(),
            b'{"image": "a.jpg", "captions": ["a cat", "b"]}\n{"file_name": "b", "text": "c"}\n']


def _place_run(place: Path) -> None:
    for name in ("run.json", "metrics.jsonl"):
        (place / "run" / "eval" / "00000006-e").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_WRITTEN / "run" / name, place / "run" / name)
    (place / _CHECKPOINT).mkdir(parents=True)
    for path in (_WRITTEN / _CHECKPOINT).iterdir():
        shutil.copyfile(path, place / _CHECKPOINT / path.name)


def _with_digest(data: bytes) -> bytes:
    """run.json whose digest is that of its config; a manifest with its own."""
    try:
        value = json.loads(data)
        if "config" in value:
            value["digest"] = hashlib.sha256(files.canonical_json(value["config"])).hexdigest()
        else:
            value["self"] = checkpoints._self_digest(value)
        return json.dumps(value).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data


def _report(path: Path) -> None:
    """The run that the file is of, as a report and a notebook read it."""
    run = next(p for p in path.parents if p.name == "run")
    reports.load(run)
    runs.load(run).stack_changes()


def _results() -> list[bytes]:
    found = sorted(_WRITTEN.glob("run/eval/*/result.json"))
    own = {"schema": 1, "step": 6, "n_samples": 8, "metrics": {"fid": 3.5},
           "protocol": {"name": "digits", "sampler": "ddim", "reference": {"path": "x"}},
           "uncertainty": {"fid": {"low": 1.0, "high": 4.0}, "kid": {"standard_error": 0.1}},
           "validation": {"standard_error": 0.01}, "timing": {"seconds": 2.0}}
    return [json.dumps(own).encode(), *(path.read_bytes() for path in found)]


def _place_packed(place: Path) -> None:
    shutil.copytree(_WRITTEN / "packed", place / "packed")


def _packed(path: Path) -> None:
    """The data set that the file is of, as `data check` and training open it."""
    directory = next(p for p in path.parents if p.name == "packed")
    check.check(directory)
    found = packed_reading.manifest(directory)
    for split in ("train", "val"):
        packed_reading.open_split(directory, split, moments_shape=tuple(found["moments_shape"]),
                                  context_shape=tuple(found["context_shape"]))


def _captions(path: Path) -> None:
    captions._said(path, np.array([[0, 1], [2, 0]]))


def _json(value: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value).encode()]


def _file(*parts: str) -> Callable[[], list[bytes]]:
    return lambda: [_WRITTEN.joinpath(*parts).read_bytes()]


_SOURCES = {"name": "t", "moments_shape": [8, 8, 8], "context_shape": [4, 16], "files": [
    {"name": "train.tar", "url": "http://127.0.0.1/", "bytes": 5, "about_bytes": 6,
     "sha256": "0" * 64, "images": 3, "captions": 9}]}

DOORS = {
    "npy": Door(files.load_npy, _arrays),
    "moments": Door(lambda path: features.read_into(path, np.empty((2, 2), np.float32)), lambda: [
        made(lambda file: np.save(file, np.ones((2, 2), np.float32)))]),
    "npz": Door(lambda path: files.load_npz(path, ("mu", "sigma")), _statistics, "zip"),
    "statistics": Door(_read_statistics, _statistics, "zip"),
    "run_vis": Door(lambda path: features.read_prompt(path, (2, 3)), _prompts),
    "safetensors": Door(tensor_files.read_all, _safetensors),
    "model_folder": Door(lambda path: model_folder.read_weights(path.parent), _safetensors,
                         name="model.safetensors"),
    "pdparams": Door(pdparams.read, _pdparams),
    "pth": Door(pth.read, _pth, "zip"),
    "config": Door(
        lambda path: configs.load(str(path)),
        lambda: [TINY, *(path.read_bytes() for path in sorted(FOLDER.glob("digits*.toml")))],
        "lines", "config.toml"),
    "log": Door(_report, _lines, "lines", "run/metrics.jsonl", _place_run),
    "log_continued": Door(lambda path: runs.Lines(path, keep_through=2).close(), _lines, "lines"),
    "run": Door(_report, _file("run", "run.json"), "json", "run/run.json", _place_run,
                _with_digest),
    "result": Door(_report, _results, "json", "run/eval/00000006-e/result.json", _place_run),
    "manifest": Door(lambda path: checkpoints.load(path.parent),
                     _file(*_CHECKPOINT.parts, "manifest.json"), "json",
                     str(_CHECKPOINT / "manifest.json"), _place_run, _with_digest),
    "checkpoint": Door(lambda path: checkpoints.load(path.parent),
                       _file(*_CHECKPOINT.parts, "model.safetensors"), "bytes",
                       str(_CHECKPOINT / "model.safetensors"), _place_run),
    "baseline": Door(lambda path: baselines.record.load(str(path)), _file("baseline.json"), "json",
                     "b.json"),
    "published": Door(baselines.published.load,
                      lambda: [baselines.published.FILE.read_bytes()], "json"),
    "packed": Door(_packed, _file("packed", "packed.json"), "json", "packed/packed.json",
                   _place_packed),
    "shard": Door(_packed, _file("packed", "train", "moments-00000.npy"), "bytes",
                  "packed/train/moments-00000.npy", _place_packed),
    "sources": Door(fetch.read_sources, _json(_SOURCES), "json"),
    "annotations": Door(annotations.read, _annotations, "json"),
    "captions": Door(_captions, lambda: [
        b'{"image": 0, "caption": 1, "text": "a", "label": 3}\n'
        b'{"image": 2, "caption": 0, "text": "b", "label": 4}\n'], "lines"),
    "archive": Door(_unpack, _tars, "tar", "train.tar"),
    "image": Door(_picture, _pictures, name="a.png"),
    "grid": Door(lambda path: sample_grids.read(path).tiles(), _grids, name="a.png"),
}
