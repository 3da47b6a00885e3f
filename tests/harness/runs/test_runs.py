"""A run's directory: begun, continued, locked, found, removed (logs: test_lines)."""

import fcntl
import json
import os

import pytest

from harness import configs, runs
from harness.base.errors import DataError, EnvironmentFault, UsageError
from tests.fixtures import tiny_config

STACK = {
    "device": "abacus", "env.OMP_NUM_THREADS": "3", "kernels": "fused", "execution": "eager",
}
DATA = {"directory": "/data", "digest": None, "sampled_digest": "5" * 64}


def begin(directory, *overrides, seed=1234, stack=STACK, data=DATA):
    config = tiny_config(*overrides)
    return runs.create(directory, config, seed, fingerprint=stack, data=data, commit="c")


def test_a_name_is_a_function_of_config_and_seed():
    name = runs.name(tiny_config(), 7)
    assert name == runs.name(tiny_config(), 7) and name.startswith("tiny-s7-")
    assert name != runs.name(tiny_config("optim.lr=1e-3"), 7)


def test_begin_load_continue(tmp_path):
    run = begin(tmp_path / "run")
    loaded = runs.load(tmp_path / "run")
    assert loaded.info == run.info and loaded.config == tiny_config() and loaded.seed == 1234
    assert begin(tmp_path / "run").info == run.info
    assert loaded.first_step == 0 and loaded.stack_changes() == []
    assert runs.recorded_threads(tmp_path / "run") == 3
    assert runs.recorded_threads(tmp_path) is None
    assert runs.recorded_computation(tmp_path / "run") == {"kernels": "fused", "execution": "eager"}
    assert runs.recorded_computation(tmp_path) == {}


@pytest.mark.parametrize("options, said", [
    ({"seed": 5}, r"seed \(1234 there, 5 here\)"),
    ({"data": {**DATA, "sampled_digest": "6" * 64}}, "begun with other data"),
])
def test_another_seed_or_other_data_are_refused(tmp_path, options, said):
    begin(tmp_path / "run")
    with pytest.raises(UsageError, match=said):
        begin(tmp_path / "run", **options)


def test_another_config_is_refused_by_key(tmp_path):
    begin(tmp_path / "run")
    with pytest.raises(UsageError, match=r"optim.lr \(0.0002 there, 0.001 here\)"):
        begin(tmp_path / "run", "optim.lr=1e-3")


def test_continuing_clears_what_a_killed_process_left(tmp_path):
    begin(tmp_path / "run")
    (tmp_path / "run" / ".run.json.abc.tmp").write_text("half")
    (tmp_path / "run" / "mine.txt").write_text("kept")
    begin(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == ["mine.txt", "run.json"]


def test_a_changed_stack_is_recorded_once_and_by_step(tmp_path):
    run = begin(tmp_path / "run")
    other = {**STACK, "env.OMP_NUM_THREADS": "4", "new": "unknown before"}
    assert runs.note_stack(run, 10, other) == {"env.OMP_NUM_THREADS": ("3", "4")}
    runs.note_stack(runs.load(run.directory), 20, other)
    runs.note_stack(runs.load(run.directory), 30, STACK)
    assert runs.load(run.directory).stack_changes() == [
        {"step": 10, "differs": {"env.OMP_NUM_THREADS": ["3", "4"]}}, {"step": 30, "differs": {}}]
    runs.note_stack(runs.load(run.directory), 20, STACK)  # fell back to before step 30
    assert [c["step"] for c in runs.load(run.directory).stack_changes()] == [10, 20]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "config": 3}',
                                  '{"schema": NaN}', "\0"])
def test_a_run_json_that_is_not_one(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match="run.json"):
        runs.load(tmp_path)


def test_a_config_that_was_changed_by_hand(tmp_path):
    run = begin(tmp_path / "run")
    info = json.loads((run.directory / "run.json").read_text())
    info["config"]["optim"]["lr"] = 1.0
    (run.directory / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="does not match its digest"):
        _ = runs.load(run.directory).config


def test_foreign_names_are_no_checkpoints(tmp_path):
    run = begin(tmp_path / "run")
    for name in ("00000005", "00000010", "notes", "0000005x", "5", "9" * 30):
        (run.checkpoints / name).mkdir(parents=True)
    (run.checkpoints / "00000015").write_text("a file")
    assert run.checkpoint_steps() == [5, 10]


def test_the_lock_names_its_holder_and_goes_with_it(tmp_path):
    with runs.locked(tmp_path / "run"):
        with pytest.raises(EnvironmentFault, match=f"worked on by process {os.getpid()} on "):
            with runs.locked(tmp_path / "run"):
                pass
    with runs.locked(tmp_path / "run"):
        pass


def test_a_former_holders_name_is_not_given_for_the_present_one(tmp_path):
    """Between taking the lock and writing the name into it, the old name still stands there."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)  # a process that certainly is no more
    import socket

    (tmp_path / "lock").write_text(f"process {child} on {socket.gethostname()}\n")
    holder = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    reader = os.fork()
    if not reader:
        try:
            with runs.locked(tmp_path):
                os._exit(1)
        except EnvironmentFault as error:
            os._exit(0 if "process 1 on elsewhere" in str(error) else 2)
    os.ftruncate(holder, 0)
    os.pwrite(holder, b"process 1 on elsewhere\n", 0)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0
    os.close(holder)


def test_the_lock_of_a_directory_that_was_taken_away_is_not_held(tmp_path, monkeypatch):
    """--overwrite renames the directory under the lock: whoever had opened it must look again."""
    real, taken = fcntl.flock, []

    def flock(descriptor, operation):
        if not taken:
            taken.append(os.rename(tmp_path / "run", tmp_path / "old"))
            (tmp_path / "run").mkdir()
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with runs.locked(tmp_path / "run"):
        assert f"process {os.getpid()}" in (tmp_path / "run" / "lock").read_text()
        monkeypatch.setattr(fcntl, "flock", real)
        with pytest.raises(EnvironmentFault), runs.locked(tmp_path / "run"):
            pass


def test_a_broken_run_among_all_is_named_with_a_remedy(tmp_path):
    begin(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("{}")
    with pytest.raises(DataError, match="b/run.json is not a run.*; name the runs"):
        runs.find(root=tmp_path)


def test_find_newest_remove(tmp_path):
    with pytest.raises(UsageError, match="there is no run under"):
        runs.find(root=tmp_path)
    for number, name in enumerate(("b", "a")):
        run = begin(tmp_path / name)
        os.utime(run.directory / "run.json", (number, number))
    assert [run.name for run in runs.find(root=tmp_path)] == ["b", "a"]
    named = runs.find((str(tmp_path / "a"), str(tmp_path / "b"), f"{tmp_path}/b/../a/"))
    assert sorted(run.directory.resolve().name for run in named) == ["a", "b"]
    assert runs.newest(root=tmp_path).name == "a"
    runs.remove(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds thesis.tex"):
        runs.remove(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert configs.digest(runs.load(tmp_path / "b").config) == runs.load(tmp_path / "b").info[
        "digest"]
