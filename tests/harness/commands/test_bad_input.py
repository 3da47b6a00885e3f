"""Bad input through the command line: one clear line, the right exit code, nothing lost.

Every command is pointed at a run that is under way, and has to leave it, and the data, as they
were to the byte.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.command import assert_one_line_error, harness
from tests.fixtures import write_features, write_tiny_config


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with data/, tiny.toml, and run/, which has done three of its six steps."""
    folder = tmp_path_factory.mktemp("begun")
    write_features(folder / "data")
    write_tiny_config(folder / "tiny.toml")
    process = harness("train", "tiny.toml", "--data", "data", "--output-dir", "run", "--until", 3,
                      cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture
def place(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "place")


def snapshot(folder):
    """Every file's bytes by relative path; the lock's content is its last holder's name."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*") if path.name != "lock"
    }


def assert_refused(place, code, *said, command):
    before = snapshot(place)
    assert_one_line_error(harness(*command, cwd=place), code, *said)
    assert snapshot(place) == before


def training(*more, config="tiny.toml", out="run"):
    return ("train", config, "--data", "data", "--output-dir", out, *more)


@pytest.mark.parametrize(("command", "said"), [
    (training(config="smal_deep"), "did you mean 'small_deep'"),
    (training(config="none.toml"), "none.toml does not exist"),
    (training("--set", "train.max_step=9"), "did you mean 'train.max_steps'"),
    (training("--set", "train.max_steps=many"), "train.max_steps"),
    (training("--set", "optim.lr=true"), "optim.lr"),
    (training("--set", "model.patch_size=3"), "multiple of patch_size"),
    (training("--set", "train.global_batch_size=6"), "possible"),
    (("eval", "data"), "no run.json"),
    (("eval", "run", "--step", 2), "no checkpoint of step 2"),
    (("report", "run", "-o", "data", "--reference", "other"), "--reference other"),
    (("stats", "data", "-o", "tiny.toml"), "exists"),
])  # fmt: skip
def test_what_was_asked_for_is_wrong(place, command, said):
    assert_refused(place, 2, said, command=command)


def _save(name, array):
    return lambda data: np.save(data / name, array)


def _cut(name):
    return lambda data: (data / name).write_bytes((data / name).read_bytes()[:-100])


DAMAGE = {
    "no moments": (lambda data: (data / "train/3.npy").unlink(), "train/3.npy is missing"),
    "no context": (lambda data: (data / "train/3_0.npy").unlink(), "train/3_0.npy is missing"),
    "no empty context": (lambda data: (data / "empty_context.npy").unlink(), "empty_context.npy"),
    "truncated": (_cut("train/0.npy"), "train/0.npy is truncated: 100 bytes"),
    "truncated context": (_cut("train/0_1.npy"), "train/0_1.npy is truncated: 100 bytes"),
    "empty file": (lambda data: (data / "train/0.npy").write_bytes(b""), "train/0.npy"),
    "moments of another shape": (
        _save("train/0.npy", np.zeros((4, 8, 8), "f4")), "shape [4, 8, 8], expected [8, 8, 8]"
    ),
    "context of another shape": (
        _save("train/0_0.npy", np.zeros((5, 16), "f4")), "shape [5, 16], expected [4, 16]"
    ),
    "NaN": (_save("train/0.npy", np.full((8, 8, 8), np.nan, "f4")), "train/0.npy holds NaN"),
    "NaN further on": (_save("train/17.npy", np.full((8, 8, 8), np.nan, "f4")), "train/17.npy"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
def test_features_are_damaged(place, damage, said):
    damage(place / "data")
    assert_refused(place, 4, said, command=training())


def test_the_data_are_fewer_than_a_batch(place):
    sizes = ("--set", "train.global_batch_size=64", "--set", "train.micro_batch_size=64")
    assert_refused(place, 4, "lower train.global_batch_size", command=training(*sizes))


def test_statistics_are_of_another_dimension(place):
    for name, size in (("small", 5), ("large", 7)):
        np.savez(place / f"{name}.npz", mu=np.zeros(size), sigma=np.eye(size))
    assert_refused(place, 4, "7", "5", command=("fid", "small.npz", "large.npz"))


@pytest.mark.parametrize("command", [
    training(out="tiny.toml/run"),
    ("report", "run", "-o", "tiny.toml/report"),
    ("data", "digits", "tiny.toml/digits"),
])
def test_the_output_cannot_be_written(place, command):
    assert_refused(place, 5, "tiny.toml", command=command)
