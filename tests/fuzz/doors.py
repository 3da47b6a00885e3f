"""Every door through which files of others come in: its reader, and sound files to begin from.

What a door is: tests.fuzz.door. Those of runs, studies and nights: tests.fuzz.run_doors.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import baselines.published
import baselines.record
from eval import captions
from eval.features import image_files, vision_transformers
from eval.metrics import feature_statistics, reference_statistics
from eval.sampling import finished_blocks
from harness import configs, files
from harness.configs.shipped_names import FOLDER
from harness.conversion import weight_namings
from harness.data import features, packed_reading
from harness.data.preparation import annotations, check, fetch, images, unpack
from harness.files import tensor_files
from harness.files.foreign_weights import pdparams, pth
from models.pretrained import autoencoder, model_folder
from reports.output import sample_grids
from tests.fixtures import TINY
from tests.fuzz import run_doors
from tests.fuzz.door import WRITTEN, Door, made, written, zipped


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


def _annotations() -> list[bytes]:
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"id": 7, "image_id": 1, "caption": "a cat"}]}
    return [json.dumps(coco).encode(),
            b'{"image": "a.jpg", "captions": ["a cat", "b"]}\n{"file_name": "b", "text": "c"}\n']


def _place_packed(place: Path) -> None:
    shutil.copytree(WRITTEN / "packed", place / "packed")


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


def _weights(path: Path) -> None:
    """As `harness import`, whatever the file is."""
    source = weight_namings.read(path, ["context_embed.bias", "in_blocks.0.norm1.weight"])
    weight_namings.refuse_other_sizes(source, {"num_layers": 3})


def _place_model(place: Path) -> None:
    (place / "vae").mkdir()
    (place / "vae" / "model.safetensors").write_bytes(_safetensors()[0])


def _place_unet(place: Path) -> None:
    (place / "vae").mkdir()
    (place / "vae" / "diffusion_paddle_model.safetensors").write_bytes(_safetensors()[0])


_OWNER = {"protocol": {"n_samples": 3, "name": "x"}, "rows": 3}


def _blocks() -> list[bytes]:
    arrays = {key: np.zeros((3, 2), np.float32) for key in finished_blocks._KEYS}
    return [made(lambda file: np.savez(file, **arrays))]


def _place_blocks(place: Path) -> None:
    (place / "blocks").mkdir()
    (place / "blocks" / "00000.npz").write_bytes(_blocks()[0])
    (place / "blocks" / "owner.json").write_text(json.dumps(_OWNER))


def _block(path: Path) -> None:
    """The samples of an evaluation, as going on with it and showing them read them."""
    finished_blocks.kept(path.parent, {"protocol": {}}, n_samples=3, rows=3)
    finished_blocks.Blocks(path.parent.parent / "b", {}, n_samples=3, rows=3).take_over(path.parent)
    finished_blocks.shown(path.parent, 2)


_VAE = {"block_out_channels": [32, 64], "in_channels": 3, "latent_channels": 4,
        "layers_per_block": 1, "norm_num_groups": 32, "sample_size": 64, "scaling_factor": 0.2,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
_CLIP = {"projection_dim": 8, "vision_config": {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
    "image_size": 8, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}}
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
    "baseline": Door(lambda path: baselines.record.load(str(path)), written("baseline.json"),
                     "json", "b.json"),
    "published": Door(baselines.published.load,
                      lambda: [baselines.published.FILE.read_bytes()], "json"),
    "packed": Door(_packed, written("packed", "packed.json"), "json", "packed/packed.json",
                   _place_packed),
    "shard": Door(_packed, written("packed", "train", "moments-00000.npy"), "bytes",
                  "packed/train/moments-00000.npy", _place_packed),
    "sources": Door(fetch.read_sources, _json(_SOURCES), "json"),
    "annotations": Door(annotations.read, _annotations, "json"),
    "captions": Door(_captions, lambda: [
        b'{"image": 0, "caption": 1, "text": "a", "label": 3}\n'
        b'{"image": 2, "caption": 0, "text": "b", "label": 4}\n'], "lines"),
    "archive": Door(_unpack, _tars, "tar", "train.tar"),
    "image": Door(_picture, _pictures, name="a.png"),
    "grid": Door(lambda path: sample_grids.read(path).tiles(), _grids, name="a.png"),
    "weights": Door(_weights, lambda: [*_pth(), *_pdparams(), *_safetensors()], name="a.bin"),
    "unet_config": Door(
        lambda path: weight_namings.refuse_other_sizes(
            weight_namings.read(path.parent, []), {"num_layers": 3}),
        _json({"num_layers": 3}), "json", "vae/config.json", _place_unet),
    "vae_config": Door(lambda path: autoencoder.check(path.parent), _json(_VAE), "json",
                       "vae/config.json", _place_model),
    "clip_config": Door(
        lambda path: [vision_transformers.settings(n, path.parent) for n in ("clip", "dinov2")],
        _json(_CLIP), "json", "config.json"),
    "block": Door(_block, _blocks, "zip", "blocks/00000.npz", _place_blocks),
    "owner": Door(_block, _json(_OWNER), "json", "blocks/owner.json", _place_blocks),
    **run_doors.DOORS,
}
