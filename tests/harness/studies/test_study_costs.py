"""What cells take is what `harness plan` says of their configs, and adds up."""

import json

import pytest
from click.testing import CliRunner

from harness.commands import study as command
from harness.plan import devices, plan, speed
from harness.studies import study_costs, study_file
from tests.harness.studies.test_study_file import write

COCO = """
name = "sizes"
question = "Which size?"
configs = ["small", "small_deep"]
seeds = [1, 2, 3]
evaluate = [500000, 1000000]
nproc = 8
"""


def test_a_cell_takes_what_the_plan_of_its_config_says(tmp_path):
    study = study_file.load(write(tmp_path, COCO))
    found = study_costs.costs(study, devices.find("a100-80g"))
    config, device = study.configs["small"], devices.find("a100-80g")
    made = plan.make(config, device, devices=8)
    evaluations = made["evaluations"] * made["evaluation_hours"][0]
    cost = found["small", "base"]
    assert cost.training[0] == pytest.approx(made["device_hours"][0] - 8 * evaluations)
    assert cost.evaluating[0] == pytest.approx(2 * 8 * made["final_evaluation_hours"][0])
    assert cost.disk == made["checkpoints_bytes"] and cost.fits
    assert found["small_deep", "base"].hours[0] > cost.hours[0]


def test_a_cpus_cell_has_its_threads_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(study_costs.container_limits, "usable", lambda: 4.0)
    monkeypatch.setattr(speed, "assumed", lambda *_: speed.Rate(4e9, 8e9, "said"))
    text = 'name="a"\nquestion="b"\nconfigs=["digits_tiny"]\nseeds=[1]\n'
    took = [
        study_costs.costs(study_file.load(write(tmp_path, text + more)), devices.find("cpu"))[
            "digits_tiny", "base"].evaluating[0]
        for more in ("threads = 1\n", "threads = 4\n")
    ]
    assert took[0] == pytest.approx(4 * took[1])


def test_show_prints_every_cell_and_the_sum(tmp_path):
    path = str(write(tmp_path, COCO))
    options = ["show", path, "--device", "h100", "--price", "2"]
    text = CliRunner().invoke(command.command, options).output
    shown = json.loads(CliRunner().invoke(command.command, [*options, "--json"]).output)
    assert len(shown["cells"]) == 6
    for cell in shown["cells"]:
        assert f"\n{cell['id']} " in text
    total = sum(cell["hours"][0] for cell in shown["cells"])
    assert shown["device_hours"][0] == pytest.approx(total)
    assert shown["cost"][0] == pytest.approx(2 * total)
    assert f"digest {shown['digest']}" in text and "6 cells on NVIDIA H100" in text
