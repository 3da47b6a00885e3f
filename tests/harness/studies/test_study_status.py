"""Each cell's state, from what it left: its state's file, the process, the ends of its logs."""

import json
import os

import pytest
from click.testing import CliRunner

from harness.commands import study as command
from harness.studies import study_directory as on_disk
from harness.studies import study_file, study_status
from harness.studies.study_directory import State
from tests.harness.studies.made import write_study


@pytest.fixture
def places(tmp_path):
    """A study of eight cells in eight states."""
    study = study_file.load(write_study(tmp_path, seeds=str(list(range(8)))))
    out = tmp_path / "out"
    on_disk.begin(out, study)
    mine = on_disk.this_process()
    here = mine.partition(" on ")[2]
    states = {
        1: State(1, process=mine), 2: State(1, process=f"process 99999999 on {here}"),
        3: State(2, 75, "stopped"), 4: State(3, 5, "out of memory"), 5: State(1, 0),
        **{number: State(1, process="process 1 on elsewhere") for number in (6, 7)},
    }
    for number, state in states.items():
        on_disk.note(out, f"tiny-s{number}", state)
    for number in (1, 6, 7):
        run = on_disk.run_directory(out, f"tiny-s{number}")
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3')
        (run / "timing.jsonl").write_text('{"step": 2, "images_per_second": 16.0}\n')
    os.utime(run / "metrics.jsonl", (0, 0))  # nobody has heard of it for long
    return study, out


def test_every_cell_is_in_the_state_that_its_files_tell(places):
    study, out = places
    queue = {"tiny-s0": False, "tiny-s3": False, "tiny-s5": True}
    found = study_status.look(study, out, queue)
    assert [one.state for one in found] == [
        "queued", "running", "stopped", "queued", "failed", "done", "running", "stopped"]
    assert [one.step for one in found] == [0, 2, 0, 0, 0, 6, 2, 2]
    assert found[1].seconds_left == 4 * 8 / 16
    assert (found[4].note, found[4].attempts) == ("out of memory", 3)
    assert study_status.counts(found) == {
        "queued": 2, "running": 2, "stopped": 2, "failed": 1, "done": 1}


def test_the_command_shows_them_as_lines_and_as_json(places):
    _, out = places
    text = CliRunner().invoke(command.command, ["status", str(out)]).output
    assert text.startswith(
        "small-table: 1 waiting, 2 running, 3 stopped, 1 failed, 1 done\n")
    cells = [line.split()[:2] for line in text.splitlines()[3:]]
    assert cells[:3] == [["tiny-s1", "running"], ["tiny-s6", "running"], ["tiny-s4", "failed"]]
    assert "out of memory" in text and "0:00:02" in text
    shown = json.loads(CliRunner().invoke(command.command, ["status", str(out), "--json"]).output)
    assert [one["id"] for one in shown["cells"]] == [f"tiny-s{n}" for n in range(8)]
    assert shown["states"]["done"] == 1


def test_watching_ends_when_there_is_nothing_left_to_wait_for(tmp_path):
    """Elsewhere than on a terminal: a line whenever the counts change."""
    study = study_file.load(write_study(tmp_path))
    out = tmp_path / "out"
    on_disk.begin(out, study)
    for number, code in ((1, 0), (2, 5)):
        on_disk.note(out, f"tiny-s{number}", State(1, code))
    ended = CliRunner().invoke(command.command, ["status", str(out), "--watch"])
    assert (ended.exit_code, ended.output) == (0, "small-table: 1 failed, 1 done\n")


def test_what_a_scheduler_runs_is_running_whatever_machine_it_is_on(places):
    study, out = places
    found = study_status.look(study, out, queue={"tiny-s7": True, "tiny-s4": True, "tiny-s0": True})
    assert [found[n].state for n in (0, 4, 7)] == ["running", "failed", "running"]
