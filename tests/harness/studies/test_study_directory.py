"""What a study leaves on disk, and what is refused to be taken for one."""

import json

import pytest

from harness import configs
from harness.base.errors import DataError, NewerFile, UsageError
from harness.studies import study_directory as on_disk
from harness.studies import study_file
from harness.studies.study_directory import State
from tests.harness.studies.made import write_study


@pytest.fixture
def study(tmp_path):
    return study_file.load(write_study(tmp_path))


def test_a_study_is_complete_in_its_directory(study, tmp_path):
    directory = tmp_path / "out"
    on_disk.begin(directory, study)
    on_disk.begin(directory, study)  # again
    (tmp_path / "study.toml").unlink()
    (tmp_path / "tiny.toml").unlink()
    found = on_disk.load(directory)
    assert found == study and found.digest == study.digest
    config = configs.load(str(on_disk.config_file(directory, "tiny")))
    assert config == study.configs["tiny"]
    on_disk.config_file(directory, "tiny").unlink()  # as where a kill left it out
    on_disk.begin(directory, study)
    assert on_disk.config_file(directory, "tiny").exists()


def test_another_study_and_what_is_none_are_refused(study, tmp_path):
    on_disk.begin(tmp_path / "out", study)
    other = study_file.load(write_study(tmp_path, seeds="[1, 2, 3]"))
    with pytest.raises(UsageError, match=r"another study .* --adopt .*out/cells"):
        on_disk.begin(tmp_path / "out", other)
    (tmp_path / "else").mkdir()
    (tmp_path / "else/mine").write_text("mine")
    with pytest.raises(UsageError, match="not a study.*nothing there was touched"):
        on_disk.begin(tmp_path / "else", study)
    assert [one.name for one in (tmp_path / "else").iterdir()] == ["mine"]
    with pytest.raises(UsageError, match="no study.json"):
        on_disk.load(tmp_path / "else")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("schema", 2, "newer"), ("schema", "1", "schema"), ("digest", "0", "changed"),
     ("study", {}, "is missing"), ("study", None, "recorded in")],
)
def test_a_changed_record_is_refused(study, tmp_path, key, value, said):
    on_disk.begin(tmp_path / "out", study)
    path = tmp_path / "out/study.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DataError, match=said):
        on_disk.load(tmp_path / "out")


def test_states_are_kept_and_tell_who_is_at_work(tmp_path):
    assert on_disk.state(tmp_path, "one") == State()
    mine = State(2, process=on_disk.this_process())
    on_disk.note(tmp_path, "one", mine)
    assert on_disk.state(tmp_path, "one") == mine
    assert mine.alive() is True and not mine.done
    here = mine.process.partition(" on ")[2]
    assert State(1, process=f"process 99999999 on {here}").alive() is False
    assert State(1, process="process 1 on elsewhere").alive() is None
    assert State(1, 75).alive() is False and State(1, 0).done
    for broken in ("{", "[1]", '{"who": 1}', '{"attempts": "1"}', '{"code": true}'):
        (tmp_path / "state/one.json").write_text(broken)
        with pytest.raises(DataError, match=r"one\.json"):
            on_disk.state(tmp_path, "one")


def test_a_state_with_more_keys_is_read_and_one_of_a_newer_form_is_not_thrown_away(tmp_path):
    on_disk.note(tmp_path, "one", State(2, 75, "stopped"))
    path = tmp_path / "state/one.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "machine": "of a later version"}))
    assert on_disk.state(tmp_path, "one") == State(2, 75, "stopped")
    path.write_text(json.dumps({**said, "schema": 2}))
    with pytest.raises(NewerFile, match=r"one\.json was made by a newer .*; update the harness"):
        on_disk.state(tmp_path, "one")
