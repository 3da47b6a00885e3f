"""Notes on nights: written whole, none lost, and only of what there is."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from baselines.nights import night_notes
from baselines.nights.night_notes import Note
from harness.base.errors import DataError, NewerFile, UsageError
from tests import file_schemas
from tests.baselines.nights import made_nights
from tests.command import assert_one_line_error, harness

NIGHT = made_nights.date(1)


@pytest.fixture
def history(tmp_path):
    return made_nights.history(tmp_path / "history", nights=3, configs=("small",))


def test_what_is_noted_is_read(history):
    assert night_notes.read(history) == []
    said = [Note(NIGHT, "known, accepted"), Note(NIGHT, "ä\n", "cpu", "small", "throughput")]
    for one in said:
        night_notes.add(history, one)
    found = night_notes.read(history)
    assert [Note(**{**vars(one), "time": ""}) for one in found] == said
    assert all(one.time.endswith("+00:00") for one in found)
    file_schemas.check(history / night_notes.FILE)


def test_a_newer_harness_s_note_is_neither_read_nor_added_to(history):
    night_notes.add(history, Note(NIGHT, "first"))
    path = history / night_notes.FILE
    path.write_bytes(path.read_bytes() + path.read_bytes().replace(b"{", b'{"schema": 2, ', 1))
    before = path.read_bytes()
    for call in (night_notes.read, lambda folder: night_notes.add(folder, Note(NIGHT, "more"))):
        with pytest.raises(NewerFile, match=r"notes\.jsonl line 2 was .*; update the harness"):
            call(history)
    assert path.read_bytes() == before


def test_of_many_writers_none_is_lost(history):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: night_notes.add(history, Note(NIGHT, str(n))), range(24)))
    assert sorted(int(note.text) for note in night_notes.read(history)) == list(range(24))


def test_a_last_line_without_its_end_is_not_run_into(history):
    night_notes.add(history, Note(NIGHT, "first"))
    path = history / night_notes.FILE
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # an editor's
    night_notes.add(history, Note(NIGHT, "second"))
    assert [note.text for note in night_notes.read(history)] == ["first", "second"]


@pytest.mark.parametrize("line", [
    "{", "7", "{}", '{"night": "x", "text": 7, "time": ""}',
    '{"night": "x", "text": "", "time": "", "config": 7}',
])
def test_a_line_that_is_no_note_is_named(history, line):
    night_notes.add(history, Note(NIGHT, "first"))
    with open(history / night_notes.FILE, "a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"notes\.jsonl line 2 is not"):
        night_notes.read(history)


@pytest.mark.parametrize("note, said", [
    (Note("2031-01-01", ""), "has no night"), (Note("..", ""), "has no night"),
    (Note(NIGHT, "", runner="x"), "no runner 'x'"), (Note(NIGHT, "", config="x"), "no config 'x'"),
    (Note(NIGHT, "", metric="speed"), "no metric 'speed'"),
])
def test_what_the_history_has_not_cannot_be_noted(history, note, said):
    with pytest.raises(UsageError, match=said) as raised:
        night_notes.add(history, note)
    assert raised.value.remedy
    assert not (history / night_notes.FILE).exists()


def test_by_the_command_line(history, tmp_path):
    done = harness("history", "note", history, NIGHT, "--config", "small", "--metric", "throughput")
    assert (done.returncode, done.stdout) == (0, f"{history / 'notes.jsonl'}\n")
    (line,) = (history / "notes.jsonl").read_text().splitlines()
    assert json.loads(line) | {"time": ""} == {
        "night": NIGHT, "text": "known, accepted", "runner": None, "config": "small",
        "metric": "throughput", "time": ""}
    done = harness("history", "build", history, "-o", tmp_path / "site")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'site' / 'index.html'}\n")
    assert "known, accepted" in (tmp_path / "site/small.js").read_text()
    assert_one_line_error(harness("history", "build", tmp_path / "none"), 2, "holds no nights")
