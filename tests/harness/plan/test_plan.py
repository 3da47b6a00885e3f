"""`harness plan`: what fits, what it takes, and by what that is known."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness import configs
from harness.base.errors import HarnessError, UsageError
from harness.commands.plan import command
from harness.plan import devices, memory, plan, speed
from reports.tables import flops, gpu_peaks
from tests import command as processes
from tests.baselines import made as made_runs

A100 = devices.find("a100-80g")


def planned(*words):
    done = CliRunner().invoke(command, [*map(str, words), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_the_published_training_is_within_its_plan():
    """U-ViT-H/2 as the authors' README has it: 0.87 steps/s and 18.9 GB on an A100."""
    sets = ("train.global_batch_size=128", "train.micro_batch_size=128", "train.precision=fp16",
            "train.recompute=true", "train.attention=memory_efficient")
    config = configs.load("huge", sets)
    section = config.model.model_copy(update={"num_text_tokens": 1, "clip_dim": 1152})
    config = config.model_copy(update={"model": section})
    # 133 GFLOPs as the paper counts them: multiply-adds.
    assert flops.forward_flops(config.model.model_dump()) / 2 == pytest.approx(133.25e9, rel=0.03)
    assert speed.published_share() == pytest.approx(0.38, abs=0.01)
    rate = speed.assumed(A100, "fp16")
    least, most = speed.step_seconds(config, rate, A100)
    assert least < 1 / 0.87 < most
    assert memory.total(memory.parts(config, 128)) == pytest.approx(18.9e9, rel=0.15)


def test_every_device_has_its_peaks():
    for key in devices.KEYS[:-1]:
        device = devices.find(key)
        half, single = (gpu_peaks.peak(device.name, kind) for kind in ("fp16", "fp32"))
        assert half.flops >= single.flops
        assert 0 < device.link < device.bandwidth and device.memory >= 16e9
    with pytest.raises(UsageError, match="one of v100, t4"):
        devices.find("a100")


def test_what_does_not_fit_is_made_to_or_said_not_to():
    small = planned("small", "--device", "a100-80g")
    assert small["as_pinned"] and small["choice"]["fits"]
    changed = planned("huge", "--device", "a10", "--devices", 8)
    assert changed["choice"]["fits"] and not changed["as_pinned"]
    assert changed["choice"]["bytes"] <= 24e9 and changed["choice"]["micro_batch"] < 32
    none = planned("paddlemix_giant2", "--device", "t4")
    assert not none["choice"]["fits"] and none["choice"]["recompute"]
    assert none["choice"]["micro_batch"] == 1


def test_a_target_is_met_by_the_fewest_devices_and_a_price_is_paid_by_the_hour():
    found = planned("mid", "--device", "h100", "--target", "3d", "--price", 2)
    assert found["choice"]["days"][1] <= 3 and found["nodes"] == -(-found["devices"] // 8)
    fewer = planned("mid", "--device", "h100", "--devices", found["devices"] // 2)
    assert fewer["choice"]["days"][1] > 3
    assert found["cost"] == [2 * hours for hours in found["device_hours"]]
    days = found["days"]
    assert found["device_hours"] == pytest.approx([24 * found["devices"] * one for one in days])


@pytest.mark.parametrize("words, said", [
    (["small", "--device", "a100"], "no device 'a100' is known"),
    (["small", "--device", "h100", "--devices", "3"], "cannot be divided among 3 devices"),
    (["small", "--device", "v100", "--set", "train.precision=bf16"], "does not compute in bf16"),
    (["huge", "--device", "t4", "--target", "1h"], "are not enough"),
    (["small", "--device", "cpu", "--devices", "2"], "share it"),
    (["small", "--device", "a10", "--from", "nowhere"], "nowhere"),
])
def test_what_cannot_be_planned_is_said_in_a_line(words, said):
    with pytest.raises(HarnessError, match=said):
        planned(*words)


def test_a_run_s_own_speed_takes_the_place_of_what_is_assumed(tmp_path):
    run = made_runs.run(tmp_path / "run", speed=100.0)
    config = configs.Config.model_validate(run.info["config"])
    cpu = devices.find("cpu")
    rate = speed.measured(run.directory, cpu, "fp32")
    least, most = speed.step_seconds(config, rate, cpu)
    took = config.train.global_batch_size / 100.0
    assert least < took < most < 1.5 * least
    with pytest.raises(UsageError, match="says nothing of NVIDIA A10"):
        speed.measured(run.directory, devices.find("a10"), "fp32")


@given(st.sampled_from([1, 2, 4, 8, 16]), st.booleans(), st.booleans())
def test_less_at_a_time_and_less_kept_is_less_memory(micro, recompute, shard):
    base = configs.load("small")
    train = base.train.model_copy(update={"recompute": recompute, "shard_optimizer": shard})
    config = base.model_copy(update={"train": train})
    whole = memory.total(memory.parts(config, 2 * micro, devices=4))
    assert memory.total(memory.parts(config, micro, devices=4)) < whole
    saving = base.model_copy(update={"train": train.model_copy(
        update={"recompute": True, "shard_optimizer": True})})
    assert memory.total(memory.parts(saving, 2 * micro, devices=4)) <= whole


def test_more_devices_are_never_slower_within_a_machine():
    config, rate = configs.load("mid"), speed.assumed(A100, "fp32")
    for fewer, more in ((1, 2), (2, 4), (4, 8)):
        a, b = (plan.choice(config, A100, rate, devices=n, nodes=1, micro_batch=1)
                for n in (fewer, more))
        assert b.step_seconds[0] < a.step_seconds[0] and b.step_seconds[1] < a.step_seconds[1]


def test_it_answers_without_paddle():
    code = "import sys; from harness.plan import plan; from harness.commands import plan as c; " \
           "sys.exit(bool({'paddle', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env=processes.environment()).returncode == 0
