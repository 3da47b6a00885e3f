"""The embedded data: format, determinism, and what a killed or hostile build leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness import files
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.digits import dataset, pictures
from tests import file_schemas


@pytest.fixture(scope="module")
def source():
    return pictures.load()


@pytest.fixture
def small(monkeypatch, source):
    """The same build on 1 image in 30, so that a test takes a second."""
    images, labels = source[0][::30], source[1][::30]
    monkeypatch.setattr(pictures, "load", lambda: (images, labels))
    monkeypatch.setattr(pictures, "VAL_PER_DIGIT", 2)
    return labels


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }


def test_images_are_the_scanned_digits_enlarged(source):
    images, labels = source
    assert images.shape == (1797, 64, 64) and images.dtype == np.uint8
    assert len(labels) == pictures.COUNT
    from sklearn.datasets import load_digits

    small = images.reshape(-1, 8, 8, 8, 8).mean((2, 4))
    ink = load_digits().images
    assert np.corrcoef(255 - small.ravel(), ink.ravel())[0, 1] > 0.98


def test_split_is_stratified_disjoint_and_pinned(source):
    split = pictures.split(source[1])
    assert len(split["train"]) == 1397 and len(split["val"]) == 400
    assert sorted([*split["train"], *split["val"]]) == list(range(1797))
    assert np.bincount(source[1][split["val"]]).tolist() == [40] * 10
    pinned = hashlib.sha256(split["val"].astype("<i8").tobytes()).hexdigest()[:16]
    assert pinned == "9658f2c0ceea12ed"


def test_captions_differ_and_say_the_digit():
    for index in range(50):
        texts = pictures.captions(index, 7)
        assert len(set(texts)) == 5
        assert all("seven" in text or "7" in text for text in texts)
    assert pictures.captions(3, 7) == pictures.captions(3, 7)
    assert len({tuple(pictures.captions(i, 7)) for i in range(50)}) > 40


def test_build_writes_coco_features_format(tmp_path, small, monkeypatch):
    seen = []
    monkeypatch.setattr(dataset.Progress, "advance", lambda self: seen.append(self))
    out = dataset.build(tmp_path / "d")
    assert len(seen) == len(small)
    counts = {name: len(m) for name, m in pictures.split(small).items()}
    for split, count in counts.items():
        names = {path.name for path in (out / split).iterdir()}
        expected = {f"{i}.npy" for i in range(count)} | {"captions.jsonl"}
        assert names == expected | {f"{i}_{k}.npy" for i in range(count) for k in range(5)}
        files.load_npy(out / split / "0.npy", dtype="float32", shape=(2, 8, 8))
        files.load_npy(out / split / "0_4.npy", dtype="float32", shape=(12, 64))
        files.load_npy(out / f"{split}_images.npy", dtype="uint8", shape=(count, 64, 64, 3))
        lines = [json.loads(s) for s in (out / split / "captions.jsonl").read_text().splitlines()]
        assert [(e["image"], e["caption"]) for e in lines] == [
            (i, k) for i in range(count) for k in range(5)
        ]
    empty = files.load_npy(out / "empty_context.npy", dtype="float32", shape=(12, 64))
    for digit in range(10):
        prompt, context = files.load_object_npy(out / "run_vis" / f"{digit}.npy")
        assert pictures.WORDS[digit] in prompt
        assert context.shape == empty.shape and not np.array_equal(context, empty)
    reference = files.load_npz(out / "reference.npz", ("mu", "sigma"))
    assert reference["sigma"].shape == (len(reference["mu"]),) * 2
    assert file_schemas.check_all(out) == {"digits", "captions"}
    assert not list(tmp_path.glob(".d*"))


def test_contexts_and_moments_belong_to_their_captions_and_images(tmp_path, small):
    from models.pretrained import autoencoder, text_encoder

    out = dataset.build(tmp_path / "d")
    encoder = text_encoder.load(out / "text_encoder")
    lines = [json.loads(s) for s in (out / "val" / "captions.jsonl").read_text().splitlines()]
    for entry in lines[:7]:
        stored = np.load(out / "val" / f"{entry['image']}_{entry['caption']}.npy")
        np.testing.assert_allclose(encoder.encode([entry["text"]])[0], stored, atol=1e-5)
    images = np.load(out / "val_images.npy")[:2]
    pixels = (images.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    moments = autoencoder.load(out / "vae").encode_moments(pixels)
    for k in range(2):
        np.testing.assert_allclose(np.load(out / "val" / f"{k}.npy"), moments[k], atol=1e-5)


def test_building_twice_gives_the_same_bytes_and_a_third_time_does_nothing(tmp_path, small):
    first, second = dataset.build(tmp_path / "a"), dataset.build(tmp_path / "b")
    assert tree(first) == tree(second)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    dataset.build(first)
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}


def test_what_is_there_is_never_overwritten(tmp_path, small):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match="something else"):
        dataset.build(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    (tmp_path / "file").write_text("keep")
    with pytest.raises(UsageError):
        dataset.build(tmp_path / "file")
    old = dataset.build(tmp_path / "old")
    described = files.read_json(old / "dataset.json")
    files.atomic_write_json(old / "dataset.json", described | {"assets": "0" * 64})
    with pytest.raises(DataError, match="another version"):
        dataset.build(old)


def test_an_empty_directory_is_filled_and_a_bad_place_is_refused(tmp_path, small):
    (tmp_path / "empty").mkdir()
    assert (dataset.build(tmp_path / "empty") / "dataset.json").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        dataset.build(tmp_path / "file" / "below")


def test_a_failing_build_leaves_nothing(tmp_path, small, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "_write_prompts", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        dataset.build(tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_a_killed_build_is_absent_and_the_next_call_finishes_it(tmp_path, small):
    script = (
        "from harness.base import paddle_env; paddle_env.prepare(threads=1)\n"
        "from harness.digits import dataset\n"
        f"dataset.build({str(tmp_path / 'd')!r})\n"
    )
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(root)}, cwd=root,
        stderr=subprocess.DEVNULL,
    )
    try:
        part = tmp_path / ".d.building" / "data" / "train" / "0.npy"
        while not part.exists():
            assert child.poll() is None, "it ended before it wrote anything"
            time.sleep(0.05)
        with pytest.raises(EnvironmentFault, match=f"being worked on by process {child.pid} "):
            dataset.build(tmp_path / "d")
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "d").exists()
    dataset.build(tmp_path / "d")
    assert tree(tmp_path / "d") == tree(dataset.build(tmp_path / "e"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "e"]
