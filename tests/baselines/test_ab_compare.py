"""A/B: its order, its statistics by simulation, its page, and a planted sleep the whole way."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from baselines import ab_compare, ab_page, significance
from harness import runs
from harness.base.errors import UsageError
from harness.cells.run_cells import Cell
from tests.baselines import made
from tests.command import assert_one_line_error, harness
from tests.fixtures import write_tiny_config

MINIMUM = math.log(1.03)
ROUNDS = 8  # as `harness ab` has it by itself
# Planted by way of PYTHONPATH: every step takes NAP seconds longer.
NAP = """
import os
import time

from harness.training.measure import Chrono

_done = Chrono.step_done


def step_done(self):
    time.sleep(float(os.environ["NAP"]))
    _done(self)


Chrono.step_done = step_done
"""


def test_sides_take_turns():
    assert ab_compare.in_turns({"a": [1, 2, 3], "b": [-1, -2, -3]}) == [1, -1, -2, 2, 3, -3]


def verdicts(count, *, noise, slower=0.0, drift=0.0, walk=0.0, rounds=ROUNDS):
    """Of `count` A/Bs on a machine that drifts, steadily and at random: (verdict, comparison)."""
    random, turns = np.random.default_rng(1), np.arange(2 * rounds)
    for _ in range(count):
        machine = drift * turns / (2 * rounds) + walk * random.standard_normal(2 * rounds).cumsum()
        times = iter(machine + noise * random.standard_normal(2 * rounds))
        sides = {"a": [[0.0] for _ in range(rounds)], "b": [[1.0] for _ in range(rounds)]}
        for one in ab_compare.in_turns(sides):
            one[0] = next(times) + one[0] * math.log1p(slower)
        a, b = ([one[0] for one in sides[side]] for side in ("a", "b"))
        found = significance.compare(a, b, minimum=MINIMUM, turns=True)
        yield significance.verdicts([found])[0], found


def share(verdict, found):
    found = [one for one, _ in found]
    return found.count(verdict) / len(found)


MACHINES = {
    "quiet": {"noise": 0.005}, "usual": {"noise": 0.02}, "noisy": {"noise": 0.05},
    "slower by a fifth": {"noise": 0.02, "drift": 0.2}, "wandering": {"noise": 0.01, "walk": 0.02},
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_two_equal_sides_raise_no_alarm(machine):
    assert share("worse", verdicts(1000, **machine)) <= 0.01


@pytest.mark.parametrize(
    "machine", [m for name, m in MACHINES.items() if name != "noisy"],
    ids=[name for name in MACHINES if name != "noisy"],
)
def test_a_side_that_is_7_percent_slower_is_worse(machine):
    assert share("worse", verdicts(1000, slower=0.07, **machine)) >= 0.95


def test_taking_turns_is_what_finds_it_on_a_machine_that_drifts():
    compared = []
    for _, found in verdicts(200, noise=0.01, slower=0.07, drift=0.4):
        compared.append(found.too_noisy)
    assert sum(compared) <= 10
    sides = ([0.0, 0.1, 0.2, 0.3, 0.4], [0.07, 0.17, 0.27, 0.37, 0.47])
    assert significance.compare(*sides, minimum=MINIMUM).too_noisy
    assert not significance.compare(*sides, minimum=MINIMUM, turns=True).too_noisy
    with pytest.raises(ValueError, match="5 against 4"):
        significance.compare(sides[0], sides[1][:4], minimum=MINIMUM, turns=True)


def test_the_rounds_that_are_said_to_be_needed_do_answer():
    """Of A/Bs that could not say, with as many rounds as the median of them asks for."""
    machine = {"noise": 0.03, "slower": 0.07}
    asked = [found.needed for verdict, found in verdicts(300, rounds=5, **machine)
             if verdict == "inconclusive"]
    assert len(asked) > 50
    middle = int(np.median(asked))
    assert 6 <= middle <= 20
    assert share("worse", verdicts(300, rounds=middle, **machine)) >= significance.POWER - 0.05
    hopeless = significance.compare([0.0] * 5, [0.0, 9.0, -9.0, 5.0, -5.0], minimum=MINIMUM)
    assert hopeless.needed is None


def test_the_page_says_what_was_found(tmp_path):
    sides = {"a": made.several(tmp_path, "a-"), "b": made.several(
        tmp_path, "b-", speeds=tuple(0.9 * speed for speed in made.SPEEDS), fid=20.2
    )}
    line = json.loads(sides["b"][0].metrics_file.read_text().splitlines()[2])
    parted = line["step"]
    made.edit_lines(sides["b"][0].metrics_file, lambda one: one if one["step"] < parted else {
        **one, "loss_hex": (float.fromhex(one["loss_hex"]) * 1.01).hex()})
    made.edit_json(sides["b"][0].directory / "run.json", fingerprint={
        **sides["b"][0].info["fingerprint"], "env.OMP_NUM_THREADS": "64"})
    for run in sides["b"][1:]:
        made.edit_json(run.directory / "run.json", fingerprint=runs.load(
            sides["b"][0].directory).info["fingerprint"])
    result = ab_compare.judge({side: [runs.load(run.directory) for run in some]
                       for side, some in sides.items()})
    document = ab_page.document(result)
    json.dumps(document, allow_nan=False)
    found = {one["metric"].partition("/")[0]: one["verdict"] for one in document["verdicts"]}
    # Other threads are another setting, and no reason not to compare.
    assert found["throughput"] == "worse" and found["fid"] == found["host_memory"] == "same"
    assert document["outcome"] == result.outcome == "worse"
    assert document["drift"]["first_difference"] == parted
    assert document["drift"]["largest"]["relative"] == pytest.approx(0.01)
    assert document["differs"]["env.OMP_NUM_THREADS"][1] == "64"
    assert [document["sides"][side]["repeats"] for side in ("a", "b")] == [True, False]
    page = ab_page.write(result, tmp_path / "report")
    assert page.name == "ab.html" and ab_page.write(result, tmp_path / "report") == page
    for text in (page.read_text(), (tmp_path / "report/ab.md").read_text().replace("\\", "")):
        for said in ("throughput", "worse", f"differ first at step {parted}", "env.OMP_NUM_THREADS",
                     "The rounds of B do not repeat each other"):
            assert said in text, said
    assert "data:image/png" in page.read_text() and "http:" not in page.read_text()
    assert (tmp_path / "report/loss-drift.png").read_bytes().startswith(b"\x89PNG")
    assert "-10.0 %" in ab_page.text(result)


def test_what_cannot_be_said_names_the_rounds_that_could(tmp_path):
    noisy = {"speeds": (90.0, 100.0, 108.0, 99.0, 104.0)}
    result = ab_compare.judge({"a": made.several(tmp_path, "a-"),
                       "b": made.several(tmp_path, "b-", **noisy)})
    found = {one["metric"]: one for one in ab_page.document(result)["verdicts"]}["throughput"]
    assert (found["verdict"], result.outcome) == ("cannot say", "inconclusive")
    assert found["needed"] > 5
    assert f"about {found['needed']} rounds" in ab_page.text(result)
    assert "same bits" in ab_page.losses(result)


def test_another_comparison_s_folder_is_refused(tmp_path):
    cell = Cell("small", tmp_path, tmp_path, until=3)
    sides, how = {"a": cell, "b": cell}, {"evaluation": None, "turns": "steps"}
    ab_compare._keep_plan(sides, tmp_path, how)
    ab_compare._keep_plan(sides, tmp_path, how)
    for other, now in (({**sides, "b": replace(cell, seed=1)}, how), (sides, how | {"turns": "x"})):
        with pytest.raises(UsageError, match=r"holds another comparison: (b.seed|turns) \("):
            ab_compare._keep_plan(other, tmp_path, now)


def test_turns_are_steps_where_both_sides_fit_beside_each_other(tmp_path, monkeypatch):
    cell = Cell("small", tmp_path, tmp_path)
    several = replace(cell, arguments=("--nproc", "2"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ab_compare._turns({"a": cell, "b": cell}) == "steps"
    assert ab_compare._turns({"a": cell, "b": several}) == "runs"
    (tmp_path / "nvidia-smi").write_text("")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert ab_compare._turns({"a": cell, "b": cell}) == "runs"


@pytest.mark.timeout(600)
def test_a_planted_sleep_is_found_and_the_same_command_goes_on(features, tmp_path):
    write_tiny_config(tmp_path / "tiny.toml")
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant/sitecustomize.py").write_text(NAP)

    def compare(*more):
        planted = [word for side in "ab" for word in (
            f"--{side}-env", f"PYTHONPATH={tmp_path / 'plant'}")]
        return harness(
            "ab", "tiny.toml", *planted, "--a-env", "NAP=0.1", "--b-env", "NAP=0.2", "-o", "out",
            "--data", features, "--rounds", 6, "--until", 6, "--no-eval", "--json", *more,
            cwd=tmp_path, timeout=500,
        )

    process = compare()
    assert process.returncode == 3, process.stderr
    assert "A/B: 12/12 runs" in process.stderr
    document = json.loads(process.stdout)
    found = {one["metric"]: one["verdict"] for one in document["verdicts"]}
    assert (found["throughput"], document["outcome"]) == ("worse", "worse")
    assert found["train_loss"] == "same" and document["drift"]["first_difference"] is None
    assert document["differs"] == {}
    assert [one["repeats"] for one in document["sides"].values()] == [True, True]
    begun = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/runs/*/run.json")}
    assert len(begun) == 12
    shutil.rmtree(tmp_path / "out/runs/b-5")
    again = json.loads(compare().stdout)
    assert again["drift"] == document["drift"] and again["rounds"] == 6
    kept = [path for path, when in begun.items() if path.stat().st_mtime_ns == when]
    assert len(kept) == 11
    assert_one_line_error(compare("--b-set", "optim.lr=1"), 2, "out holds another comparison")


@pytest.mark.parametrize(("options", "code", "said"), [
    (("--a", "nowhere/python"), 2, "nowhere/python is no Python"),
    (("--a-env", "NAP"), 2, "--a-env 'NAP' is not of the form NAME=VALUE"),
    (("--b-set", "optim.lrr=1"), 2, "optim.lr"),
    (("--b-arg", "--no-such-option"), 2, "`harness train` ended with 2"),
])  # fmt: skip
def test_what_is_wrong_is_one_line(features, tmp_path, options, code, said):
    write_tiny_config(tmp_path / "tiny.toml")
    process = harness("ab", "tiny.toml", "-o", "out", "--data", features, "--until", 3, *options,
                      cwd=tmp_path)
    assert_one_line_error(process, code, said)
