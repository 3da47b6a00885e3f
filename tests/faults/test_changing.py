"""Files that change while they are read: removed, cut short, replaced.

What read them says so in one line, in a process that lives: a mapped file that is cut short
would kill it (SIGBUS).
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eval.metrics import reference_statistics
from harness import files
from harness.base.errors import DataError
from harness.files.image_reading import opened_image
from tests.command import assert_one_line_error
from tests.faults import striking
from tests.fuzz import door as one_door
from tests.fuzz import doors

WRITTEN = Path(__file__).parents[1] / "corpus" / "c03ee96"
MOMENTS = 16  # of one reader, at most
# Functions of C that ask a file for something, of os, of files, of numpy and of safetensors.
ASKING = {"open", "stat", "lstat", "fstat", "scandir", "listdir", "read", "readinto", "readv",
          "pread", "preadv", "seek", "tell", "fromfile", "get_tensor"}


def removed(path, sound):
    path.unlink()


def emptied(path, sound):
    os.truncate(path, 0)


def replaced(path, sound):
    other = path.with_name("other")
    other.write_bytes(sound[::-1])
    os.replace(other, path)


CHANGES = (removed, emptied, replaced)


def asked(work, at=0, act=None):
    """How often `work` asks a file for something; `act` happens just before number `at`."""
    count = 0

    def profile(frame, event, function):
        nonlocal count
        if event == "c_call" and function.__name__ in ASKING:
            count += 1
            if count == at:
                sys.setprofile(None)
                act()
                sys.setprofile(profile)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count


def change_everywhere(work, path, answer):
    """Every change to the file at `path` at every moment of `work`; answers how many there were."""
    sound, happened = path.read_bytes(), 0
    work()  # what it imports is imported
    moments = asked(work)
    for made in CHANGES:
        for at in sorted({1 + k * moments // MOMENTS for k in range(MOMENTS)}):
            path.write_bytes(sound)

            def act(made=made):
                nonlocal happened
                happened += 1
                made(path, sound)

            answer.send(f"{made.__name__} at {at} of {moments}")
            try:
                asked(work, at, act)
            except BaseException as error:
                answer.send(f"{made.__name__} at {at} of {moments}: {error!r}")
                return
    answer.send(happened)


def in_child(work, path):
    """What `change_everywhere` answered last, and how its process ended."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=change_everywhere, args=(work, path, send))
    process.start()
    send.close()
    said = ["nothing"]
    with contextlib.suppress(EOFError):
        while True:
            said.append(receive.recv())
    process.join()
    return said[-1], process.exitcode


@pytest.mark.parametrize("name", doors.DOORS)
def test_a_door_outlives_a_change(name, tmp_path):
    door = doors.DOORS[name]
    one_door.enter(door, tmp_path)
    path = tmp_path / door.name
    path.write_bytes(door.seeds()[0])
    happened, code = in_child(lambda: one_door.read(door, path), path)
    assert code == 0 and isinstance(happened, int), (code, happened)
    assert happened >= len(CHANGES)


def decode(path):
    with opened_image(path) as image:
        image.load()


def test_an_image_that_is_cut_short_while_it_is_decoded(tmp_path):
    """libtiff maps a file that it is given: the change comes once it has, or nothing does."""
    from PIL import Image

    path = tmp_path / "large.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    Image.fromarray(pixels).save(path, compression="tiff_lzw")
    process = multiprocessing.get_context("fork").Process(target=decode, args=(path,))
    process.start()
    maps = Path(f"/proc/{process.pid}/maps")
    with contextlib.suppress(OSError):  # it has ended
        while process.is_alive() and path.name not in maps.read_text():
            time.sleep(0.001)
        if process.is_alive():
            os.truncate(path, 0)
    process.join()
    assert process.exitcode == 0


def at(moment, arguments, change, tmp_path):
    """How `harness ARGUMENTS` ends, where `change` happens at `moment` (as strike/ has it)."""
    return striking.struck(
        ["harness", *arguments], moment, 0, lambda process, number: change(), cwd=tmp_path)


@pytest.mark.parametrize(("command", "moment", "victim"), [
    ("train", "harness.data.identity:sampled_digest:1", "packed/train/moments-00000.npy"),
    ("eval", "eval.evaluation.validation:_draw:1", "packed/val/moments-00000.npy"),
    ("eval", "eval.captions:CaptionList.contexts:1", "packed/val/contexts-00000.npy"),
    ("eval", "harness.runs.checkpoints:load:1", "run/checkpoints/00000006/ema.safetensors"),
])
def test_a_command_whose_file_is_cut_short_ends_with_4(command, moment, victim, tmp_path):
    for name in ("packed", "run"):
        shutil.copytree(WRITTEN / name, tmp_path / name)
    arguments = {
        "train": ("train", WRITTEN / "corpus.toml", "--output-dir", tmp_path / "new"),
        "eval": ("eval", tmp_path / "run"),
    }[command]
    ended = at(moment, (*arguments, "--data", tmp_path / "packed"),
               lambda: os.truncate(tmp_path / victim, 0), tmp_path)
    assert_one_line_error(ended, 4, str(tmp_path / victim))
    assert os.path.getsize(tmp_path / victim) == 0


def test_a_folder_that_goes_while_it_is_checked_is_one_line(tmp_path):
    shutil.copytree(WRITTEN / "data", tmp_path / "data")
    train = tmp_path / "data" / "train"
    ended = at("harness.data.preparation.check_files:check_split:1",
               ("data", "check", tmp_path / "data"), lambda: train.rename(tmp_path / "x"), tmp_path)
    assert_one_line_error(ended, 5, str(train))
    assert (tmp_path / "x").is_dir()


def test_a_run_that_goes_while_runs_are_listed_stops_nothing(tmp_path):
    for name in ("a", "b"):
        shutil.copytree(WRITTEN / "run", tmp_path / "runs" / name)
    ended = at("harness.runs.run_directory:Run.checkpoint_steps:1",
               ("runs", "list", tmp_path / "runs", "--json"),
               lambda: (tmp_path / "runs" / "a").rename(tmp_path / "x"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    listed = {Path(one["directory"]).name: one for one in json.loads(ended.stdout)}
    assert (tmp_path / "x").is_dir()
    assert listed["b"]["step"] == 6 and listed["a"]["touched"] == 0


def test_statistics_that_change_while_they_are_read(tmp_path, monkeypatch):
    """The digest that a figure carries is of what it was measured with."""
    path = tmp_path / "reference.npz"
    shutil.copyfile(WRITTEN / "reference.npz", path)
    with np.load(path) as file:
        network = SimpleNamespace(size=len(file["mu"]), metric="fid")
    hashed = files.sha256_file
    assert reference_statistics.load(network, tmp_path).sha256 == hashed(path)

    def replacing(given):
        other = tmp_path / "other.npz"
        other.write_bytes(path.read_bytes() + b" ")
        os.replace(other, path)
        return hashed(given)

    monkeypatch.setattr(files, "sha256_file", replacing)
    with pytest.raises(DataError, match="reference.npz changed while it was read"):
        reference_statistics.load(network, tmp_path)
