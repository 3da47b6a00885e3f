import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from harness import data, files
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.data import packed_reading
from harness.data.preparation import pack
from tests import command
from tests.fixtures import tiny_config, write_features

SHAPES = {"moments_shape": (8, 8, 8), "context_shape": (4, 16)}


@pytest.fixture(scope="module")
def packed_features(features, tmp_path_factory):
    """`features`, packed into several shards; do not change."""
    target = tmp_path_factory.mktemp("packed") / "data"
    pack.pack(features, target, shard_bytes=5 * 8 * 8 * 8 * 4)
    return target


def test_every_array_is_the_same_in_both_forms(features, packed_features):
    for name in ("train", "val"):
        plain = data.open_split(features, name, **SHAPES)
        other = data.open_split(packed_features, name, **SHAPES)
        assert (plain.form, other.form) == ("plain", "packed")
        assert other.captions == plain.captions
        for image in range(len(plain)):
            assert other.moments(image).tobytes() == plain.moments(image).tobytes()
            for caption in range(plain.captions[image]):
                expected = plain.context(image, caption).tobytes()
                assert other.context(image, caption).tobytes() == expected
    assert np.array_equal(
        data.empty_context(packed_features, (4, 16)), data.empty_context(features, (4, 16))
    )
    assert data.run_vis(packed_features, (4, 16))[0] == data.run_vis(features, (4, 16))[0]


def test_images_may_have_different_numbers_of_captions(tmp_path):
    directory = write_features(tmp_path / "plain", images=12)
    for image in (0, 5, 11):
        np.save(directory / "train" / f"{image}_2.npy", np.full((4, 16), image, np.float32))
    pack.pack(directory, tmp_path / "packed")
    split = data.open_split(tmp_path / "packed", "train", **SHAPES)
    assert split.captions == (3, 2, 2, 2, 2, 3, 2, 2, 2, 2, 2, 3)
    assert split.context(5, 2)[0, 0] == 5 and split.context(11, 2)[0, 0] == 11
    for caption in (-1, 2):
        with pytest.raises(IndexError):
            split.context(1, caption)


def test_shards_are_ordinary_npy_files(features, packed_features):
    shards = sorted((packed_features / "train").glob("moments-0*.npy"))
    assert len(shards) == 4
    rows = np.concatenate([np.load(path, mmap_mode="r") for path in shards])
    assert np.array_equal(rows[7], np.load(features / "train" / "7.npy"))


def test_training_samples_are_the_same_bits(features, packed_features):
    a = data.open_source(tiny_config(), 3, features)
    b = data.open_source(tiny_config(), 3, packed_features)
    for step in range(5):
        numbers = range(step * 8, step * 8 + 8)
        for x, y in zip(
            vars(a.batch(step, numbers)).values(), vars(b.batch(step, numbers)).values(),
            strict=True,
        ):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_training_losses_from_plain_and_packed_are_the_same_bits(
    features, packed_features, tmp_path
):
    """The command line, which tells the forms apart by itself; float16 is said in run.json."""
    config = tmp_path / "tiny.toml"
    from tests.fixtures import write_tiny_config

    write_tiny_config(config)
    half = tmp_path / "half"
    pack.pack(features, half, context_dtype="float16")
    runs = {}
    for name, directory in (("a", features), ("b", packed_features), ("c", half)):
        done = command.harness(
            "train", config, "--data", directory, "--output-dir", tmp_path / name
        )
        assert done.returncode == 0, done.stderr
        runs[name] = (tmp_path / name / "metrics.jsonl").read_bytes()
    assert runs["a"] == runs["b"] != runs["c"]
    info = {name: files.read_json(tmp_path / name / "run.json") for name in runs}
    assert [info[n]["data"]["form"] for n in "abc"] == ["plain", "packed", "packed"]
    assert info["a"]["data"]["sampled_digest"] == info["b"]["data"]["sampled_digest"]
    assert info["c"]["data"]["context_dtype"] == "float16"
    assert info["c"]["fingerprint"]["data.context_dtype"] == "float16"
    other = command.harness("train", config, "--data", half, "--output-dir", tmp_path / "a")
    command.assert_one_line_error(other, 2, "begun with other data")


def test_float16_rounds_the_contexts_alone_and_is_other_data(features, tmp_path):
    said = pack.pack(features, tmp_path / "half", context_dtype="float16")
    plain = data.open_split(features, "train", **SHAPES)
    half = data.open_split(tmp_path / "half", "train", **SHAPES)
    assert half.moments(3).tobytes() == plain.moments(3).tobytes()
    expected = plain.context(3, 1).astype(np.float16).astype(np.float32)
    assert half.context(3, 1).tobytes() == expected.tobytes()
    assert said["digest"] != said["source_digest"]
    whole = pack.pack(features, tmp_path / "whole")
    assert whole["digest"] == whole["source_digest"] == said["source_digest"]


def test_values_beyond_float16_are_refused(tmp_path):
    directory = write_features(tmp_path / "plain")
    np.save(directory / "train" / "4_1.npy", np.full((4, 16), 1e5, np.float32))
    with pytest.raises(DataError, match="float16"):
        pack.pack(directory, tmp_path / "packed", context_dtype="float16")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "header", "table", "counts", "gone"])
def test_damage_is_found_before_it_is_trained_on(features, tmp_path, damage):
    target = tmp_path / "packed"
    pack.pack(features, target)
    shard = target / "train" / "contexts-00000.npy"
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
        shard.write_bytes(content)
    elif damage == "cut":
        shard.write_bytes(content[:-8])
    elif damage == "longer":
        shard.write_bytes(content + b"\0")
    elif damage == "header":
        shard.write_bytes(content.replace(b"<f4", b"<i4", 1))
    elif damage == "gone":
        shard.unlink()
    else:
        name = "contexts-xxh3.npy" if damage == "table" else "captions.npy"
        table = np.load(target / "train" / name)
        table.flat[-1] ^= 1
        np.save(target / "train" / name, table)
    with pytest.raises(DataError):
        split = data.open_split(target, "train", **SHAPES)
        for image in range(len(split)):
            split.moments(image)
            for caption in range(2):
                split.context(image, caption)


def test_a_row_is_checked_once_a_process(features, tmp_path):
    target = tmp_path / "packed"
    pack.pack(features, target)
    split = data.open_split(target, "train", **SHAPES)
    first = split.context(19, 1).copy()
    shard = target / "train" / "contexts-00000.npy"
    with open(shard, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    assert not np.array_equal(split.context(19, 1), first)  # what is known good is not read twice
    with pytest.raises(DataError, match="checksum"):
        data.open_split(target, "train", **SHAPES).context(19, 1)


def test_other_shapes_are_refused(packed_features):
    with pytest.raises(DataError, match="expected"):
        data.open_split(packed_features, "train", moments_shape=(8, 8, 8), context_shape=(5, 16))


def test_nothing_is_overwritten(features, packed_features, tmp_path):
    with pytest.raises(UsageError, match="exists"):
        pack.pack(features, packed_features)
    with pytest.raises(UsageError, match="packed already"):
        pack.pack(packed_features, tmp_path / "again")
    with pytest.raises(UsageError, match="inside"):
        pack.pack(features, features / "packed")
    with pytest.raises(EnvironmentFault, match="neither"):
        pack.pack(tmp_path / "nothing", tmp_path / "out")
    assert not list(tmp_path.glob(".out*"))


def test_unsound_data_is_not_packed(tmp_path):
    directory = write_features(tmp_path / "plain")
    path = directory / "val" / "9_1.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="9_1.npy"):
        pack.pack(directory, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_what_lies_beside_the_features_comes_along(tmp_path):
    directory = write_features(tmp_path / "plain")
    (directory / "vae").mkdir()
    (directory / "vae" / "config.json").write_text("{}")
    (directory / "val" / "captions.jsonl").write_text("{}\n")
    (directory / ".fetch").mkdir()
    pack.pack(directory, tmp_path / "packed")
    assert (tmp_path / "packed" / "vae" / "config.json").read_text() == "{}"
    assert (tmp_path / "packed" / "val" / "captions.jsonl").read_text() == "{}\n"
    assert {p.name for p in (tmp_path / "packed").iterdir()} == {
        "train", "val", "run_vis", "empty_context.npy", "vae", packed_reading.MANIFEST
    }


_KILLED = """
import os, signal, sys
from pathlib import Path
from harness.data import digests
from harness.data.preparation import pack
count, real = 0, digests.row_checksum
def row_checksum(values):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(values)
digests.row_checksum = row_checksum
pack.pack(Path(sys.argv[1]), Path(sys.argv[2]), shard_bytes=10_240)
"""


@pytest.mark.parametrize("at", [1, 30, 130])
def test_a_killed_packing_goes_on_to_the_same_bytes(features, tmp_path, at):
    script = _KILLED.format(at=at)
    done = subprocess.run(
        [sys.executable, "-c", script, str(features), str(tmp_path / "packed")],
        env=command.environment(), capture_output=True, timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "packed").exists()
    pack.pack(features, tmp_path / "packed", shard_bytes=10_240)
    pack.pack(features, tmp_path / "whole", shard_bytes=10_240)
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole")


def contents(directory):
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()
    }
