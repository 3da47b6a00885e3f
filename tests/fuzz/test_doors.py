"""Every door, knocked at with kept inputs and with files changed at random; longer by atheris."""

import importlib.util
import random
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.fuzz import __main__ as fuzzer  # which also says where atheris may be
from tests.fuzz import door as one_door
from tests.fuzz import doors, kept, mutations

CHANGED = 40  # inputs a door, in the suite


def resident(field):
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def changed(door, number):
    """Input `number` of a door: the same whenever and wherever it is made."""
    draw = random.Random(number)
    data = draw.choice(door.seeds())
    for _ in range(draw.choice((1, 1, 2))):
        data = mutations.FORMS[door.form](data, draw)
    return door.repair(data)


@pytest.mark.parametrize("name", doors.DOORS)
def test_a_door_reads_or_refuses_in_one_line(name, tmp_path):
    door = doors.DOORS[name]
    one_door.enter(door, tmp_path)
    for data in door.seeds()[:1]:
        assert one_door.knock(door, tmp_path, data) is None
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    for number, data in enumerate(kept.inputs(name, door)):
        _knock(door, tmp_path, data, f"kept input {number} of {name}")
    refused = 0
    for number in range(CHANGED):
        data = changed(door, number)
        refused += _knock(door, tmp_path, data, f"input {number} of {name}") is not None
    assert refused  # and the sound one above was read: both kinds were seen
    assert resident("VmHWM") - before < one_door.BYTES


def _knock(door, place, data, said):
    try:
        return one_door.knock(door, place, data)
    except Exception as error:
        raise AssertionError(f"{said}, {data[:200]!r}, gave {error!r}") from error


@pytest.mark.faults
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="needs `make fuzzer`")
@pytest.mark.parametrize("name", doors.DOORS)
def test_two_minutes_of_fuzzing_find_nothing(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "corpus").mkdir()
    for number, data in enumerate(kept.inputs(name, doors.DOORS[name])):
        (tmp_path / "corpus" / f"{number:03d}").write_bytes(data)
    found = fuzzer.run(name, 120, tmp_path / "corpus")
    with capsys.disabled():
        print(f"\n{name}: {found['inputs']} inputs, {found['edges']} edges covered")
    assert found["finding"] is None, found["finding"]
    assert found["inputs"] > 100
