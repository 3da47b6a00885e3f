import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import data
from harness.base.errors import DataError, UsageError
from harness.data import identity
from harness.data.preparation import annotations, extract, images
from harness.digits import dataset
from models.pretrained import autoencoder, text_encoder
from tests import command, file_schemas

VAE, TEXT = dataset.ASSETS / "vae", dataset.ASSETS / "text_encoder"
TOKENIZER = dataset.ASSETS / "tokenizer"
SHAPES = {"moments_shape": (8, 8, 8), "context_shape": (12, 64)}
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg",
               "motorcycle_left.png", "china.jpg", "flower.jpg")


def photographs():
    """Paths of real photographs that scikit-image and scikit-learn ship."""
    import skimage
    import sklearn.datasets

    folders = (
        Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images"
    )
    return [next(f / name for f in folders if (f / name).is_file()) for name in PHOTOGRAPHS]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """64 photographs of many shapes and COCO's file of 2 or 3 captions each; do not change.

    Ids are not in the order of names, annotations not in the order of ids.
    """
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(5)
    listed, said = [], []
    for number in range(64):
        with Image.open(photographs()[number % 8]) as photograph:
            rgb = photograph.convert("RGB")
        width, height = (int(draw.integers(70, 300)) for _ in range(2))
        left = int(draw.integers(rgb.width - min(width, rgb.width) + 1))
        top = int(draw.integers(rgb.height - min(height, rgb.height) + 1))
        crop = rgb.crop((left, top, min(left + width, rgb.width), min(top + height, rgb.height)))
        if number % 7 == 0:
            crop = crop.convert("L")  # COCO has grey images, too
        crop.save(folder / f"{number:03d}.jpg", quality=92)
        listed.append({"id": (number * 37) % 101 + 1, "file_name": f"{number:03d}.jpg"})
    for turn in range(3):
        for image in reversed(listed):
            if turn < 2 or image["id"] % 2:
                said.append({"id": len(said), "image_id": image["id"],
                             "caption": f"caption {turn} of {image['file_name']}"})
    whole = {"info": {}, "images": listed, "annotations": said, "licenses": []}
    (folder / "captions_train2014.json").write_text(json.dumps(whole))
    return folder


def job(photos, output, **changes):
    made = extract.Job(photos, photos / "captions_train2014.json", VAE, TEXT, TOKENIZER,
                       output, "train", size=64)
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The photographs' features, made in one go."""
    output = tmp_path_factory.mktemp("whole") / "data"
    extract.extract(job(photos, output), prompts=None, processes=1, arguments=())
    return output


def contents(directory):
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and ".extract" not in str(p) and p.name != identity.RECORD
    }


def test_moments_are_the_vaes_and_numbering_is_by_id(photos, whole):
    """Equal to direct calls, one image at a time, with the official preparation done plainly."""
    vae = autoencoder.load(VAE)
    listed = json.loads((photos / "captions_train2014.json").read_text())["images"]
    for number, image in enumerate(sorted(listed, key=lambda i: i["id"])):
        with Image.open(photos / image["file_name"]) as opened:
            pixels = np.array(opened.convert("RGB"))
        edge = min(pixels.shape[:2])
        top, left = (pixels.shape[0] - edge) // 2, (pixels.shape[1] - edge) // 2
        square = Image.fromarray(pixels[top : top + edge, left : left + edge])
        small = np.asarray(square.resize((64, 64), Image.LANCZOS), np.float32)
        expected = vae.encode_moments((small / 127.5 - 1).transpose(2, 0, 1)[None])[0]
        found = np.load(whole / "train" / f"{number}.npy")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_contexts_are_the_text_encoders_in_the_files_order(photos, whole):
    encoder = text_encoder.load(TEXT, TOKENIZER)
    whole_file = json.loads((photos / "captions_train2014.json").read_text())
    for number, image in enumerate(sorted(whole_file["images"], key=lambda i: i["id"])):
        captions = [
            a["caption"] for a in whole_file["annotations"] if a["image_id"] == image["id"]
        ]
        for k, expected in enumerate(encoder.encode(captions)):
            found = np.load(whole / "train" / f"{number}_{k}.npy")
            np.testing.assert_allclose(found, expected, atol=1e-5)
        assert not (whole / "train" / f"{number}_{len(captions)}.npy").exists()


def test_what_comes_out_is_a_data_set(photos, whole):
    split = data.open_split(whole, "train", **SHAPES)
    assert len(split) == 64 and set(split.captions) == {2, 3}
    prompts, contexts = data.run_vis(whole, (12, 64))
    assert len(prompts) == 8 and np.array_equal(contexts[3], split.context(3, 0))
    file_schemas.check(whole / "train" / "captions.jsonl")
    lines = (whole / "train" / "captions.jsonl").read_text().splitlines()
    assert len(lines) == sum(split.captions)
    assert json.loads(lines[0])["text"] == prompts[0]
    empty = text_encoder.load(TEXT, TOKENIZER).encode([""])[0]
    np.testing.assert_allclose(data.empty_context(whole, (12, 64)), empty, atol=1e-5)
    from harness.data.preparation import check

    assert not check.check(whole, full=True, latent_scale=1.0, empty_caption=empty).faults


_KILLED = """
import os, signal, sys
from pathlib import Path
from harness.base import paddle_env
paddle_env.prepare(threads=1)
from harness.data.preparation import extract
count, real = 0, os.replace
def replace(source, target):
    global count
    if str(target).endswith(".npy"):
        count += 1
        if count == 50:
            os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)
os.replace = replace
a = [Path(p) for p in sys.argv[1:]]
extract.extract(extract.Job(a[0], a[1], a[2], a[3], a[4], a[5], "train", size=64),
                prompts=None, processes=1, arguments=())
"""


def test_killed_and_resumed_it_is_byte_identical(photos, whole, tmp_path):
    resumed = job(photos, tmp_path / "data")
    paths = (photos, resumed.captions, VAE, TEXT, TOKENIZER, resumed.output)
    done = subprocess.run([sys.executable, "-c", _KILLED, *map(str, paths)], timeout=120,
                          env=command.environment(), capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    half = len(list(resumed.folder.glob("[0-9]*.npy")))
    assert half == 49
    extract.extract(resumed, prompts=None, processes=1, arguments=())
    assert contents(tmp_path / "data") == contents(whole)


def test_a_file_that_lost_its_content_is_made_again(photos, whole, tmp_path):
    extract.extract(job(photos, tmp_path / "data"), prompts=None, processes=1, arguments=())
    os.truncate(tmp_path / "data" / "train" / "9_1.npy", 0)
    (tmp_path / "data" / "train" / "30.npy").unlink()
    extract.extract(job(photos, tmp_path / "data"), prompts=None, processes=1, arguments=())
    assert contents(tmp_path / "data") == contents(whole)


def test_two_processes_make_the_same_bytes(photos, whole, tmp_path):
    done = command.harness(
        "data", "extract", "--images", photos, "--captions", photos / "captions_train2014.json",
        "--vae", VAE, "--text-encoder", TEXT, "--tokenizer", TOKENIZER, "-o", tmp_path / "data",
        "--size", 64, "--processes", 2,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "data" / "train")
    assert contents(tmp_path / "data") == contents(whole)


def test_another_job_in_the_same_place_is_refused(photos, whole, tmp_path):
    with pytest.raises(UsageError, match="another batch_size"):
        extract.begin(job(photos, whole, batch_size=4))
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "0.npy", np.zeros(3))
    with pytest.raises(UsageError, match="no extraction began"):
        extract.begin(job(photos, tmp_path))


def test_images_that_cannot_be_read_are_all_named(photos, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    lines = []
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes((photos / f"{number:03d}.jpg").read_bytes())
        lines.append(json.dumps({"image": f"{number}.jpg", "caption": "a"}))
    (folder / "3.jpg").write_bytes(b"not an image")
    (folder / "4.jpg").write_bytes((folder / "5.jpg").read_bytes()[:900])
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    mine = job(photos, tmp_path / "data", images=folder, captions=tmp_path / "mine.jsonl",
               batch_size=2)
    with pytest.raises(DataError) as error:
        extract.extract(mine, prompts=None, processes=1, arguments=())
    assert "2 images" in str(error.value)
    assert "3.jpg" in str(error.value) and "4.jpg" in str(error.value)
    assert len(list(mine.folder.glob("[0-9]*.npy"))) == 16  # the other blocks are done
    (folder / "11.jpg").unlink()
    with pytest.raises(DataError, match="1 of 12 images are not in"):
        extract.begin(mine)


def test_prompts_may_be_given(photos, tmp_path):
    (tmp_path / "one.jsonl").write_text('{"file_name": "000.jpg", "text": "x"}\n')
    (tmp_path / "prompts.txt").write_text("a red bus\n\nzwei Vögel\n")
    mine = job(photos, tmp_path / "data", captions=tmp_path / "one.jsonl", split="val")
    extract.extract(mine, prompts=tmp_path / "prompts.txt", processes=1, arguments=())
    assert data.run_vis(tmp_path / "data", (12, 64))[0] == ["a red bus", "zwei Vögel"]
    assert (tmp_path / "data" / "val" / "0_0.npy").is_file()
    with pytest.raises(UsageError, match="multiple of the VAE's factor"):
        extract.load_models(dataclasses.replace(mine, size=60))


def test_preparation_is_the_official_one(tmp_path):
    """Odd remainders of the crop go to the right and below; rounding is Pillow's."""
    draw = np.random.default_rng(0)
    for shape in ((90, 131, 3), (131, 90, 3), (65, 64, 3), (64, 64, 3), (40, 33, 3)):
        pixels = draw.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        edge = min(shape[:2])
        top, left = (shape[0] - edge) // 2, (shape[1] - edge) // 2
        crop = pixels[top : (shape[0] + edge) // 2, left : (shape[1] + edge) // 2]
        expected = np.asarray(Image.fromarray(crop).resize((64, 64), Image.LANCZOS))
        found = images.prepare(tmp_path / "a.png", 64)
        assert found.shape == (3, 64, 64) and found.dtype == np.float32
        assert np.array_equal(np.rint((found + 1) * 127.5), expected.transpose(2, 0, 1))
        assert found.min() >= -1 and found.max() <= 1


def test_captions_files(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text('{"image": "b.jpg", "captions": ["x", "y"]}\n\n{"image": "a.jpg", '
                    '"caption": "z"}\n{"image": "b.jpg", "caption": "w"}\n')
    assert annotations.read(path) == [
        annotations.Item("b.jpg", ("x", "y", "w")), annotations.Item("a.jpg", ("z",))
    ]
    for text, said in (
        ("", "names no images"), ("[]", "line 1"), ("nonsense", "line 1"),
        ('{"image": "a.jpg"}', "line 1"), ('{"image": 3, "caption": "x"}', "line 1"),
        ('{"image": "a.jpg", "captions": []}', "without a caption"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "x"}]}', "not a captions"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": []}', "without a caption"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            annotations.read(path)
    with pytest.raises(DataError, match="missing"):
        annotations.read(tmp_path / "none.json")
