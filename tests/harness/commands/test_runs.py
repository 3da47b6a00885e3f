"""`harness runs`: states as they are, and room made without harm."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from harness import runs
from harness.commands.runs import command
from harness.runs import inventory, lock
from tests import fixtures
from tests.baselines import made
from tests.command import assert_one_line_error, environment, harness


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory):
    """A folder with runs: done (three checkpoints), interrupted, broken."""
    folder = tmp_path_factory.mktemp("runs")
    config = fixtures.write_tiny_config(folder.parent / "tiny.toml")
    for name, until in (("a/done", 3), ("a/stopped", 2)):
        ended = harness("train", config, "--data", features, "--output-dir", folder / name,
                        "--set", "train.max_steps=3", "--set", "train.save_steps=1",
                        "--set", "train.keep_checkpoints=3", "--until", until)
        assert ended.returncode == 0, ended.stderr
    (folder / "broken").mkdir()
    (folder / "broken/run.json").write_text("{")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "runs")


def states(folder):
    return {os.path.relpath(one.directory, folder): one.state for one in inventory.listed(folder)}


def test_every_run_at_any_depth_is_listed(folder):
    assert states(folder) == {"a/done": "done", "a/stopped": "interrupted", "broken": "broken"}
    ended = harness("runs", "list", folder)
    head, *lines = ended.stdout.splitlines()
    assert head.split() == ["run", "state", "step", "images/s", "loss", "figures", "size"]
    assert "3/3" in lines[0] and "2/3" in lines[1] and "not JSON" in lines[2]
    found = json.loads(harness("runs", "list", folder, "--json").stdout)
    assert [one["step"] for one in found] == [3, 2, 0]
    assert found[0]["bytes"] == inventory.size(folder / "a/done") > 10_000
    assert_one_line_error(harness("runs", "list", folder / "nowhere"), 2, "is no folder")


def test_who_works_on_a_run_is_told_without_disturbing_it(folder):
    with lock.locked(folder / "a/stopped"):
        (one,) = (x for x in inventory.listed(folder) if x.state == "running")
        assert f"process {os.getpid()} on" in one.note
        assert lock.holder(folder / "a/done") == ""
    assert states(folder)["a/stopped"] == "interrupted"
    # Another machine's process: believed as long as the run's files are fresh.
    (folder / "a/stopped/lock").write_text("process 1 on elsewhere\n")
    assert states(folder)["a/stopped"] == "running"
    for name in ("run.json", "metrics.jsonl"):
        os.utime(folder / "a/stopped" / name, (1, 1))
    assert states(folder)["a/stopped"] == "interrupted"


def test_room_is_made_of_what_nothing_needs(folder):
    assert_one_line_error(harness("runs", "prune", folder), 2, "--yes")
    call = CliRunner(mix_stderr=False).invoke
    assert call(command, ["prune", str(folder)], input="n\n").exit_code == 0
    run = runs.load(folder / "a/done")
    assert len(run.checkpoint_steps()) == 3
    ended = call(command, ["prune", str(folder)], input="y\n")
    assert ended.exit_code == 0 and "a/done" in ended.stdout and "stopped" not in ended.stdout
    assert run.checkpoint_steps() == [3] and states(folder)["a/done"] == "done"
    assert len(runs.load(folder / "a/stopped").checkpoint_steps()) == 2
    assert "nothing to remove" in harness("runs", "prune", folder, "--yes").stdout


def test_a_baseline_s_runs_are_left_whole(folder):
    found = inventory.listed(folder)
    assert list(inventory.spare(found)) == [str(folder / "a/done")]
    assert inventory.spare(found, kept={"done"}) == {}


def test_on_a_terminal_it_looks_again_until_it_is_stopped(folder):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "runs", "list", folder, "--watch"], stdout=follower,
        stderr=follower, env=environment(TERM="xterm", COLUMNS="200"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # as on a terminal
    os.close(follower)
    shown, end = b"", time.monotonic() + 30
    while b"interrupted" not in shown and time.monotonic() < end:
        if select.select([leader], [], [], 0.2)[0]:
            shown += os.read(leader, 65536)
    assert b"done" in shown and b"interrupted" in shown
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 75


def test_figures_are_shown(tmp_path):
    made.run(tmp_path / "one", speed=123.0)
    (one,) = inventory.listed(tmp_path)
    assert one.speed and one.figures["fid"] > 0
