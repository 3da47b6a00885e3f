"""A study of two sizes and three seeds, killed again and again, has the bits of one by one."""

import random
import signal
import time

import psutil
import pytest

from harness.base import container_limits
from harness.studies import one_cell, study_directory, study_file
from tests.command import harness, start
from tests.harness.studies.made import bits, evaluations

STUDY = """
name = "killed"
question = "Do kills change bits?"
configs = ["digits_tiny", "digits_tiny_deep"]
seeds = [1, 2, 3]
steps = 20
evaluate = [10]

[variants]
often = ["train.log_steps=1", "train.save_steps=5"]

[protocols.quick]
protocol = "digits-ddim20-200"
n_samples = 50
num_inference_steps = 2
"""
KILLS = 5


def end(process, how):
    """Stop a study: by Ctrl-C, by killing its command, or all of its processes at once."""
    if how == "all":
        tree = [process, *psutil.Process(process.pid).children(recursive=True)]
        for one in tree:
            one.send_signal(signal.SIGSTOP)
        for one in tree:
            one.kill()
    else:
        process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    process.communicate(timeout=200)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(container_limits.usable() < 2, reason="two cells need two processors")
def test_killed_five_times_at_random_a_study_has_the_bits_of_one_by_one(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    assert harness("data", "digits", tmp_path / "data").returncode == 0
    (tmp_path / "study.toml").write_text(STUDY)
    study = study_file.load(tmp_path / "study.toml")

    alone = tmp_path / "alone"
    study_directory.begin(alone, study)
    began = time.monotonic()
    for one in study.cells():
        assert one_cell.work(study, alone, one, data=tmp_path / "data").code == 0
    seconds = (time.monotonic() - began) / 2  # for as many processes as there are at once

    out = tmp_path / "out"
    command = ("study", "run", tmp_path / "study.toml", "-o", out, "--data", tmp_path / "data",
               "--jobs", 2)
    for kill in range(KILLS):
        process = start(*command)
        time.sleep(draw.uniform(0.02, 0.3) * seconds)
        if process.poll() is not None:
            break
        end(process, ("interrupt", "command", "all")[kill % 3])
        while any(study_directory.state(out, one.id).alive() for one in study.cells()):
            time.sleep(0.1)  # those whose command was killed save first
    ended = harness(*command, timeout=900)
    assert ended.returncode == 0, f"seed {seed}: {ended.stderr}"
    for one in study.cells():
        first, second = (study_directory.run_directory(at, one.id) for at in (alone, out))
        assert bits(first) == bits(second), f"seed {seed}: {one.id}"
        assert evaluations(first) == evaluations(second), f"seed {seed}: {one.id}"
        assert len(list(first.glob("eval/*/samples.png"))) == 1
