"""Checkpoints: what is saved comes back, and only that (kills and damage: tests/faults)."""

import hashlib
import shutil

import numpy as np
import pytest

from harness import files
from harness.base.errors import DataError
from harness.runs import checkpoints
from tests.faults import saving


def test_what_is_saved_comes_back(tmp_path):
    saving.save(tmp_path, 5)
    found = checkpoints.load(tmp_path / "00000005", config_digest=saving.DIGEST, seed=saving.SEED)
    assert saving.same(found, saving.checkpoint(5))
    only = checkpoints.load(tmp_path / "00000005", parts=("ema",))
    assert list(only.parts) == ["ema"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        saving.save(tmp_path / name, 5)
    for path in (tmp_path / "a" / "00000005").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "00000005" / path.name).read_bytes()


def test_the_manifest_digests_weights_and_ema(tmp_path):
    manifest = checkpoints.save(
        tmp_path / "00000005", saving.checkpoint(5), config_digest="d", seed=1, config={"a": 1})
    assert manifest == checkpoints.check(tmp_path / "00000005")
    parts = saving.checkpoint(5).parts
    assert manifest["weights_digest"] == checkpoints.tensors_digest(parts["model"])
    assert manifest["ema_digest"] == checkpoints.tensors_digest(parts["ema"])
    file = (tmp_path / "00000005" / "ema.safetensors").read_bytes()
    assert manifest["ema_digest"] == hashlib.sha256(file).hexdigest()
    assert manifest["config"] == {"a": 1}


def test_what_is_loaded_was_read_once_and_hashed(tmp_path, monkeypatch):
    """Bytes that a second reading might find changed are not what was checked."""
    saving.save(tmp_path, 5)
    opened, reading = [], files.reading

    def counted(path, **named):
        opened.append(path.name)
        return reading(path, **named)

    monkeypatch.setattr(files, "reading", counted)
    checkpoints.load(tmp_path / "00000005")
    assert sorted(opened) == ["ema.safetensors", "manifest.json", "model.safetensors",
                              "optimizer.safetensors", "state.json"]


def test_large_files_are_written_whole(tmp_path, monkeypatch):
    """In pieces, the disk being told to begin meanwhile."""
    monkeypatch.setattr(checkpoints, "_WINDOW", 64)
    saving.save(tmp_path, 5)
    found = saving.newest(tmp_path)
    assert saving.same(found, saving.checkpoint(5))


def test_the_digest_sees_names_shapes_types_and_bits():
    base = {"a": np.zeros(4, np.float64)}
    others = [{"b": base["a"]}, {"a": base["a"].reshape(2, 2)}, {"a": base["a"].view(np.int64)},
              {"a": -base["a"]}, {}]
    digests = {checkpoints.tensors_digest(one) for one in [base, *others]}
    assert len(digests) == 6


@pytest.mark.parametrize("change, said", [
    (lambda p: shutil.move(p / "00000005", p / "00000006"), "holds the checkpoint of step 5"),
    (lambda p: None, "belongs to config"),
    (lambda p: None, "belongs to seed 1234, not 7"),
], ids=["renamed", "another config", "another seed"])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, change, said):
    saving.save(tmp_path, 5)
    change(tmp_path)
    step = saving.steps(tmp_path)[0]
    warnings = []
    digest = "e" * 64 if "config" in said else saving.DIGEST
    seed = 7 if "seed" in said else saving.SEED
    assert checkpoints.newest_valid(
        tmp_path, [step], config_digest=digest, seed=seed, warn=warnings.append) is None
    assert len(warnings) == 1 and said in warnings[0]


def test_a_broken_checkpoint_is_written_again(tmp_path):
    saving.save(tmp_path, 5)
    (tmp_path / "00000005" / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="model.safetensors does not match"):
        checkpoints.check(tmp_path / "00000005")
    saving.save(tmp_path, 5)
    assert saving.same(saving.newest(tmp_path), saving.checkpoint(5))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("steps, options, left", [
    ([1, 2, 3, 4], {"keep": 2}, [3, 4]),
    ([5, 10, 13], {"keep": 2, "every": 5}, [5, 10, 13]),  # the newest stays whatever it is
    ([5, 10, 13, 15], {"keep": 2, "every": 5}, [10, 15]),  # an interruption's goes
    ([5, 10, 12], {"keep": 1, "every": 5, "last": 12}, [12]),
    ([5], {"keep": 3, "every": 5}, [5]),
    ([4, 5, 10, 15], {"keep": 2, "every": 5, "first": 4}, [4, 10, 15]),  # imported weights
    ([5, 10, 15], {"keep": 1, "every": 5, "first": 5}, [5, 15]),
    ([0, 2], {"keep": 1, "every": 2, "first": 0}, [0, 2]),
])
def test_prune(tmp_path, steps, options, left):
    for step in steps:
        (tmp_path / f"{step:08d}").mkdir()
    checkpoints.prune(tmp_path, steps, **options)
    assert saving.steps(tmp_path) == left and not list(tmp_path.glob(".*"))
