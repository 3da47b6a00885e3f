"""What fuzzing found, by name: each once ended a command with a traceback, or never."""

import json

import pytest

from tests.fuzz import bundles, door, doors


def edited(**changes):
    """The door's first sound document with other values at its top."""
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


def lacking(*keys):
    """Without what is at this place."""
    def change(data):
        inside = document = json.loads(data)
        for key in keys[:-1]:
            inside = inside[key]
        del inside[keys[-1]]
        return json.dumps(document).encode()

    return change


def ended_by(line):
    """The log with one more line."""
    return lambda data: data + json.dumps(line).encode() + b"\n"


def by(commit):
    def change(data):
        parts = bundles.parts(data)
        index = {**json.loads(parts["bundle.json"]), "commit": commit}
        return bundles.tar({**parts, "bundle.json": json.dumps(index).encode()})

    return change


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


FOUND = {
    "data that is no object": ("run", edited(data=[1]), "data is not as it was written"),
    "a place that is no text": ("run", edited(data={"directory": 7}), "data is not as"),
    "a digest that is no text": ("run", edited(data={"digest": {"a": 1}}), "data is not as"),
    "imported from no object": ("run", edited(imported="x"), "imported is not as"),
    "a config without log_steps": ("run", lacking("config", "train", "log_steps"), "config"),
    "a night's config without train": ("night_run", lacking("config", "train"), "no train."),
    "a loss beyond all numbers": (
        "log", ended_by({"step": 6, "loss_hex": "0x1p99999"}), "no loss_hex"),
    "a step beyond all training": ("log", ended_by({"step": 10**15}), None),
    "a value deeper than is walked": ("log", ended_by({"step": 9, "x": nested(400)}), "line"),
    "steps timed that are no number": (
        "timing", ended_by({"step": 6, "step_ms": 1.5, "steps_timed": "x"}), "not as it was"),
    "a protocol deeper than is walked": (
        "result", edited(protocol={"name": "x", "reference": nested(900)}), "is nested more"),
    "a commit that moves the cursor": ("bundle", by("\x1b[2J\n"), None),
    "a report's name that is too long": ("night", edited(report="9" * 5000), None),
    "figures without a report": ("night_figures", lacking("report"), None),
    "figures without an outcome": ("night_figures", lacking("cells", 0, "outcome"), None),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_is_read_or_refused(what, tmp_path):
    name, change, said = FOUND[what]
    one = doors.DOORS[name]
    door.enter(one, tmp_path)
    found = door.knock(one, tmp_path, one.repair(change(one.seeds()[0])))
    assert (found is None) if said is None else (said in found)
