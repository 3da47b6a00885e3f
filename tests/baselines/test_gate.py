"""The gate's verdicts over runs on disk: what is worse, what is no pass, and what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from baselines import gate, record
from harness import runs
from harness.runs import checkpoints
from tests.baselines import made


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    return record.record(made.several(tmp_path_factory.mktemp("baseline"), "b"), "small-cpu")


def verdicts(report):
    return {one.metric: one for one in report.verdicts}


def only_worse(report, *keys):
    """The report failed because of these metrics and nothing else."""
    found = verdicts(report)
    assert {key for key, one in found.items() if not one.passes} == set(keys)
    assert all(found[key].verdict == "worse" for key in keys)
    assert report.outcome == "failed"
    return found


def test_undisturbed_repeats_pass(baseline, tmp_path):
    speeds = [speed * 1.002 for speed in made.SPEEDS]
    report = gate.check(made.several(tmp_path, "c", speeds=speeds), baseline)
    assert report.outcome == "passed"
    assert set(verdicts(report)) == {
        "loss_bits", "weights_bits", "ema_bits", "throughput", "host_memory", "train_loss",
        "fid/coco-ddim50", "val_loss/coco-ddim50",
    }
    assert {one.verdict for one in report.verdicts} == {"same"}


def test_a_single_repeat_passes_on_a_quiet_machine(baseline, tmp_path):
    assert gate.check([made.run(tmp_path / "c")], baseline).outcome == "passed"


def test_a_slowdown_is_worse_and_says_by_how_much(baseline, tmp_path):
    slow = made.several(tmp_path, "c", speeds=[speed / 1.2 for speed in made.SPEEDS])
    found = only_worse(gate.check(slow, baseline), "throughput")
    assert found["throughput"].change == pytest.approx(1 / 1.2 - 1, abs=0.02)


def test_a_speedup_is_better_and_passes(baseline, tmp_path):
    fast = made.several(tmp_path, "c", speeds=[speed * 1.2 for speed in made.SPEEDS])
    report = gate.check(fast, baseline)
    assert report.outcome == "passed"
    assert [one.metric for one in report.improved] == ["throughput"]


def test_scattered_speeds_are_inconclusive(baseline, tmp_path):
    report = gate.check(made.several(tmp_path, "c", speeds=(70, 120, 95, 60, 110)), baseline)
    found = verdicts(report)["throughput"]
    assert (found.verdict, report.outcome) == ("inconclusive", "inconclusive")
    assert "run again" in found.reason


def test_twice_the_memory_is_worse(baseline, tmp_path):
    found = only_worse(gate.check([made.run(tmp_path / "c", memory=2)], baseline), "host_memory")
    assert found["host_memory"].change == pytest.approx(1.0)


def quality(report, key):
    return verdicts(report)[key].verdict


def test_a_worse_fid_is_worse_and_a_little_noise_is_not(baseline, tmp_path):
    """Of other weights, that is: of training that has changed."""
    key = "fid/coco-ddim50"
    for name, fid, expected in (("a", 20.7, "worse"), ("b", 20.5, "same"), ("c", 19.0, "better")):
        one = made.run(tmp_path / name, fid=fid, weights=2.0)
        assert quality(gate.check([one], baseline), key) == expected


@pytest.mark.parametrize("fid", [20.1, 19.0, 40.0])
def test_the_same_weights_judged_otherwise_are_worse(baseline, tmp_path, fid):
    report = gate.check([made.run(tmp_path / "c", fid=fid)], baseline)
    found = only_worse(report, "fid/coco-ddim50")
    assert "the evaluation has changed" in found["fid/coco-ddim50"].reason


def test_validation_loss_is_held_to_three_standard_errors(baseline, tmp_path):
    key = "val_loss/coco-ddim50"
    for name, loss, expected in (("a", 0.2529, "same"), ("b", 0.2532, "worse")):
        one = made.run(tmp_path / name, validation=(loss, 0.001), weights=2.0)
        assert quality(gate.check([one], baseline), key) == expected


def test_one_changed_weight_bit_is_worse(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    folder = one.checkpoint(made.STEPS)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    found = only_worse(gate.check([one], baseline), "weights_bits")
    assert "model.safetensors" in found["weights_bits"].reason


def test_one_changed_weight_bit_with_an_honest_manifest_is_worse(baseline, tmp_path):
    weights = float(np.nextafter(np.float32(1), np.float32(2)))
    report = gate.check([made.run(tmp_path / "c", weights=weights)], baseline)
    only_worse(report, "weights_bits", "ema_bits")


def test_one_changed_loss_bit_is_worse_and_placed(baseline, tmp_path):
    one = made.run(tmp_path / "c")

    def flip(line):
        if line["step"] != 150:
            return line
        value = float(np.nextafter(line["loss"], 1))
        return {**line, "loss": value, "loss_hex": value.hex()}

    made.edit_lines(one.metrics_file, flip)
    found = only_worse(gate.check([one], baseline), "loss_bits")
    assert "part after step 100, by step 150" in found["loss_bits"].reason


def test_a_run_that_is_shorter_lacks_everything(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    made.edit_lines(one.metrics_file, lambda line: line)
    kept = list(one.metrics_file.read_text().splitlines(True))[:5]
    one.metrics_file.write_text("".join(kept))
    one.checkpoint(made.STEPS).rename(one.checkpoint(100))
    report = gate.check([runs.load(one.directory)], baseline)
    assert report.outcome == "failed"
    assert verdicts(report)["weights_bits"].verdict == "missing"
    for metric in ("loss_bits", "train_loss"):
        assert verdicts(report)[metric].verdict == "missing"


@pytest.mark.parametrize("text, verdict", [
    ("1e999", "not comparable"),  # no JSON that is read here
    *((text, "missing") for text in ('"bad"', "0", "-3", "true", "[]")),
])
def test_what_is_not_a_positive_number_passes_nothing(baseline, tmp_path, text, verdict):
    one = made.run(tmp_path / "c", fid=12345)
    path = one.evaluation(made.STEPS, "coco-ddim50") / "result.json"
    path.write_text(path.read_text().replace("12345", text))
    report = gate.check([one], baseline)
    assert verdicts(report)["fid/coco-ddim50"].verdict == verdict
    assert report.outcome == "failed"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_no_pass(baseline, tmp_path, value):
    refused(gate.check([made.run(tmp_path / "c", fid=value)], baseline), "is not a JSON number")


def test_a_metric_that_is_not_there_is_missing(baseline, tmp_path):
    one = made.run(tmp_path / "c", fid=None, validation=None)
    report = gate.check([one], baseline)
    missing = {one.metric for one in report.verdicts if one.verdict == "missing"}
    assert missing == {"fid/coco-ddim50", "val_loss/coco-ddim50"}
    assert report.outcome == "failed"


def test_timing_that_is_not_there_is_missing(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    one.timing_file.unlink()
    found = verdicts(gate.check([one], baseline))
    assert found["throughput"].verdict == found["host_memory"].verdict == "missing"


def refused(report, *said):
    assert report.outcome == "failed"
    assert {one.verdict for one in report.verdicts} == {"not comparable"}
    for text in said:
        assert all(text in one.reason for one in report.verdicts)


def test_an_unpinned_run_is_refused(baseline, tmp_path):
    one = made.run(tmp_path / "c", sets=("optim.lr=1e-3",))
    refused(gate.check([one], baseline), "not a run of a pinned")


def test_another_config_is_refused(baseline, tmp_path):
    refused(gate.check([made.run(tmp_path / "c", config="mid")], baseline), "digest", "mid")


def test_other_data_is_refused(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    made.edit_json(one.directory / "run.json", data={"digest": "f" * 64})
    refused(gate.check([runs.load(one.directory)], baseline), "other data")


@pytest.mark.parametrize("sampled", ["a" * 64, "b" * 64])
def test_a_digest_that_only_one_knows_makes_no_other_data(baseline, tmp_path, sampled):
    """The data were checked in full after the baseline was recorded."""
    one = made.run(tmp_path / "c")
    known = {"digest": "f" * 64, "sampled_digest": sampled, "directory": "/there"}
    made.edit_json(one.directory / "run.json", data=known)
    before = {"digest": None, "sampled_digest": "a" * 64}
    earlier = record.Baseline({**baseline.content, "data": before})
    report = gate.check([runs.load(one.directory)], earlier)
    if sampled == before["sampled_digest"]:
        assert not any("other data" in verdict.reason for verdict in report.verdicts)
    else:
        refused(report, "other data")


def test_a_config_changed_by_hand_is_refused(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    one.info["config"]["optim"]["lr"] = 1e-3
    made.edit_json(one.directory / "run.json", config=one.info["config"])
    refused(gate.check([runs.load(one.directory)], baseline), "does not match its digest")


def test_another_protocol_is_not_comparable(baseline, tmp_path):
    one = made.run(tmp_path / "c", fid=None)
    made.evaluate(one.directory, fid=20.0, n_samples=99, guidance_scale=3.0)
    found = verdicts(gate.check([one], baseline))["fid/coco-ddim50"]
    assert found.verdict == "not comparable"
    assert "guidance_scale (3.0, 2.0)" in found.reason


def test_another_protocol_s_name_is_not_comparable(baseline, tmp_path):
    one = made.run(tmp_path / "c", fid=None)
    made.evaluate(one.directory, fid=20.0, name="coco-dpm50")
    found = verdicts(gate.check([one], baseline))["fid/coco-ddim50"]
    assert found.verdict == "not comparable"
    assert "coco-dpm50" in found.reason


def test_another_machine_s_times_are_not_comparable(baseline, tmp_path):
    report = gate.check([made.run(tmp_path / "c", device="NVIDIA H100")], baseline)
    found = verdicts(report)
    assert found["throughput"].verdict == found["host_memory"].verdict == "not comparable"
    assert "device" in found["throughput"].reason
    assert report.outcome == "failed"


@pytest.mark.parametrize(("how", "asked", "said"), [
    ({"kernels": "paddle"}, None, "has kernels paddle, the baseline fused"),
    ({"execution": "static"}, None, "has execution static, the baseline eager"),
    ({}, "paddle", "recorded with kernels fused, --kernels says paddle"),
])
def test_other_kernels_are_refused(baseline, tmp_path, how, asked, said):
    report = gate.check([made.run(tmp_path / "c", **how)], baseline, kernels=asked)
    assert {one.verdict for one in report.verdicts} == {"not comparable"}
    assert all(said in one.reason for one in report.verdicts)


def test_kernels_are_read_into_a_baseline_of_before(baseline, tmp_path):
    known = {k: v for k, v in baseline.content["fingerprint"].items()
             if k not in ("kernels", "execution")}
    old = record.Baseline({**baseline.content, "fingerprint": known})
    path = record.save(old, folder=tmp_path)
    report = gate.check(
        [made.run(tmp_path / "c")], record.load(str(path), folder=tmp_path), kernels="fused")
    assert report.outcome == "passed"


def test_other_software_is_compared_by_tolerance_and_says_so(baseline, tmp_path):
    one = made.run(tmp_path / "c", **{"package.numpy": "2.0"})
    report = gate.check([one], baseline)
    found = verdicts(report)
    assert report.outcome == "passed"
    assert found["loss_bits"].verdict == "not comparable" and not found["loss_bits"].gates
    assert "package.numpy" in found["loss_bits"].reason
    assert found["train_loss"].verdict == "same"
    assert gate.check([one], baseline, require_bits=True).outcome == "failed"


def test_a_seed_that_the_baseline_lacks_is_not_comparable_in_quality(baseline, tmp_path):
    found = verdicts(gate.check([made.run(tmp_path / "c", seed=7)], baseline))
    assert found["fid/coco-ddim50"].verdict == "not comparable"
    assert "seed 7" in found["fid/coco-ddim50"].reason
    assert found["throughput"].verdict == "same"


def test_several_seeds_give_the_spread_between_them(tmp_path):
    seeds = [made.run(tmp_path / f"b{s}", seed=s, fid=20 + 0.1 * s) for s in range(5)]
    baseline = record.record(seeds, "seeds")
    other = [made.run(tmp_path / f"c{s}", seed=s, fid=20.1 + 0.1 * (s - 9)) for s in range(9, 12)]
    assert verdicts(gate.check(other, baseline))["fid/coco-ddim50"].verdict == "same"
    worse = [made.run(tmp_path / f"d{s}", seed=s, fid=22 + 0.1 * (s - 9)) for s in range(9, 12)]
    assert verdicts(gate.check(worse, baseline))["fid/coco-ddim50"].verdict == "worse"


def test_a_run_gone_on_with_elsewhere_is_not_comparable(baseline, tmp_path):
    one = made.run(tmp_path / "c")
    made.edit_json(
        one.directory / "run.json",
        stack_changes=[{"step": 90, "differs": {"device": ["a", "b"]}}],
    )
    found = verdicts(gate.check([runs.load(one.directory)], baseline))
    assert found["loss_bits"].verdict == found["throughput"].verdict == "not comparable"
    assert "after step 90" in found["loss_bits"].reason


def test_nothing_to_compare_is_no_pass(baseline, tmp_path):
    report = gate.check([made.run(tmp_path / "c")], baseline, only=("device_memory",))
    assert report.verdicts == [] and report.outcome == "failed"


def test_checkpoints_are_read_not_believed(baseline, tmp_path):
    """A manifest that tells of the baseline's weights over other ones is found out."""
    honest, other = made.run(tmp_path / "a"), made.run(tmp_path / "b", weights=3.0)
    a, b = (one.checkpoint(made.STEPS) for one in (honest, other))
    manifest = json.loads((a / "manifest.json").read_text())
    theirs = json.loads((b / "manifest.json").read_text())
    manifest["files"] = theirs["files"]
    manifest["self"] = checkpoints._self_digest(manifest)
    (b / "manifest.json").write_text(json.dumps(manifest))
    assert verdicts(gate.check([other], baseline))["weights_bits"].verdict == "worse"
