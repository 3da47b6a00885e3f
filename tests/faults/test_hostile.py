"""Hostile files, each read in a process of its own: refused, in time, in bounds, nothing run."""

import multiprocessing
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from baselines import published
from eval.features import image_files
from harness import files, runs
from harness.base.errors import DataError
from harness.data import packed_reading
from harness.data.preparation import unpack
from harness.files import tensor_files
from harness.files.foreign_weights import pdparams, pth
from tests.command import assert_one_line_error
from tests.faults import hostile

SECONDS, BYTES = 2.0, 500 << 20


def read_statistics(path):
    from eval.metrics import feature_statistics

    return feature_statistics.load(path)


def read_packed(path):
    path.rename(path.with_name("packed.json"))
    found = packed_reading.manifest(path.parent)
    faults = packed_reading.shard_faults(path, found)
    assert len(faults) == 100
    raise DataError(faults[0])


def read_archive(path):
    unpack.unpack(path, path.with_name("train"), moments_shape=(2,), context_shape=(2, 3),
                  progress=lambda count: None, whole=lambda folder: None)


READERS = {
    "npy": files.load_npy,
    "object_npy": files.load_object_npy,
    "npz": lambda path: files.load_npz(path, ("mu", "sigma")),
    "pdparams": pdparams.read,
    "pth": pth.read,
    "json": files.read_json,
    "statistics": read_statistics,
    "safetensors": tensor_files.read,
    "log": runs.read_lines,
    "published": published.load,
    "packed": read_packed,
    "image": image_files.load,
    "archive": read_archive,
}


def resident(field):
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def read(kind, path, answer):
    # A forked child begins with all that its parent holds; what counts is what reading adds.
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    began, cpu = time.monotonic(), time.process_time()
    try:
        READERS[kind](path)
        said = None
    except DataError as error:
        said = (error.exit_code, str(error))
    answer.send((said, time.monotonic() - began, time.process_time() - cpu,
                 resident("VmHWM") - before))


@pytest.fixture(scope="module", autouse=True)
def warm_imports(tmp_path_factory):
    """What readers import lazily is imported once, before processes are forked."""
    path = tmp_path_factory.mktemp("sound") / "x"
    np.savez(f"{path}.npz", mu=np.zeros(2), sigma=np.eye(2))
    read_statistics(Path(f"{path}.npz"))
    path.write_bytes(pickle.dumps({"w": np.zeros(2, np.float32)}, protocol=4))
    assert pdparams.read(path).arrays["w"].shape == (2,)
    with pytest.raises(DataError):
        tensor_files.read(path)


def test_there_are_thirty():
    assert len(hostile.CASES) >= 30


@pytest.mark.parametrize("name", hostile.CASES)
def test_a_hostile_file_is_refused(name, tmp_path):
    kind, make = hostile.CASES[name]
    path, canary = tmp_path / "file", tmp_path / "canary"
    make(path, str(canary))
    if not path.exists():
        path = tmp_path / "file.npz" if kind in ("npz", "statistics") else tmp_path / "file.npy"
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=read, args=(kind, path, send))
    process.start()
    send.close()
    assert receive.poll(60), "it did not come back"
    try:
        said, seconds, cpu, peak = receive.recv()
    except EOFError:
        process.join()
        raise AssertionError(f"the reader died with {process.exitcode}") from None
    process.join()
    assert not canary.exists()
    assert said is not None, "it was accepted"
    assert said[0] == 4 and "\n" not in said[1] and len(said[1]) < 1000, said
    assert said[1].isprintable() and path.name in said[1]
    # The processor's time: other work on a shared machine is not the reader's.
    assert min(seconds, cpu) < SECONDS and peak < BYTES


def test_a_hostile_prompt_is_exit_4_on_the_command_line(warm, tiny, features, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "val", "empty_context.npy"):
        (data / name).symlink_to(features / name)
    (data / "train").unlink()
    (data / "train").mkdir()
    for path in (features / "train").iterdir():
        (data / "train" / path.name).symlink_to(path)
    canary = tmp_path / "canary"
    target = data / "train" / "0.npy"
    target.unlink()
    hostile.object_array_where_numbers_are_meant(target, str(canary))
    ended = warm.run("train", tiny, "--data", data, "--output-dir", tmp_path / "run")
    assert_one_line_error(ended, 4, "0.npy", "pickled")
    assert not canary.exists() and not os.path.exists(tmp_path / "run" / "run.json")
