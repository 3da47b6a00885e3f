"""Recorded baselines: what they are made from, what they hold, and what is refused."""

from __future__ import annotations

import json

import pytest

from baselines import baseline_diff, published, record
from eval import protocols
from harness import runs
from harness.base.errors import DataError, UsageError
from tests.baselines import made


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return made.several(tmp_path_factory.mktemp("five"), "b")


def test_it_holds_median_spread_and_n_of_each_metric(five):
    content = record.record(five, "b").content
    fid = content["metrics"]["fid/coco-ddim50"]
    assert (fid["median"], fid["spread"], fid["n"]) == (20.0, 0.0, 5)
    assert fid["protocol"]["guidance_scale"] == 2.0
    speed = content["metrics"]["throughput"]
    assert speed["n"] == 5 and 95 < speed["median"] < 105 and 0 < speed["spread"] < 1
    assert content["digest"] == five[0].info["digest"]
    assert content["fingerprint"] == five[0].info["fingerprint"]
    assert content["metrics"]["val_loss/coco-ddim50"]["error"] == 0.001


def test_the_median_step_is_that_of_the_log(five):
    """By other code: images over the median of the laps after the first timed one."""
    lines = [json.loads(line) for line in five[0].timing_file.read_text().splitlines()]
    laps = sorted(line["step_ms"] for line in lines if line["steps_timed"])
    laps.remove(next(line["step_ms"] for line in lines if line["steps_timed"]))
    middle = (laps[len(laps) // 2] + laps[(len(laps) - 1) // 2]) / 2
    recorded = record.record(five, "b").content["metrics"]["throughput"]["values"][0]
    assert recorded == pytest.approx(256e3 / middle)


def test_it_is_small_and_comes_back_as_it_was(five, tmp_path):
    baseline = record.record(five, "b")
    path = record.save(baseline, folder=tmp_path / "new")
    assert path.stat().st_size < 16_000
    assert record.load("b", folder=tmp_path / "new").content == baseline.content
    assert record.load(str(path)).content == baseline.content
    assert record.names(folder=tmp_path / "new") == ["b"]


def test_nothing_is_overwritten_unless_asked(five, tmp_path):
    baseline = record.record(five, "b")
    record.save(baseline, folder=tmp_path)
    with pytest.raises(UsageError, match="exists.*--replace"):
        record.save(baseline, folder=tmp_path)
    record.save(baseline, folder=tmp_path, replace=True)


def test_three_runs_are_enough_but_not_for_throughput(five):
    assert "throughput" not in record.record(five[:3], "b").content["metrics"]
    with pytest.raises(UsageError, match="at least 3 different runs"):
        record.record(five[:2], "b")
    with pytest.raises(UsageError, match="at least 3 different runs"):
        record.record([five[0]] * 5, "b")


@pytest.mark.parametrize(("more", "said"), [
    ({"sets": ("optim.lr=1e-3",)}, "not a run of a pinned config"),
    ({"config": "mid"}, "differ in config"),
    ({"device": "NVIDIA H100"}, "differ in fingerprint: device"),
    ({"guidance": 3.0}, "different protocols"),
])
def test_runs_that_are_not_alike_are_refused(five, tmp_path, more, said):
    guidance = more.pop("guidance", None)
    strange = made.run(tmp_path / "s", **more)
    if guidance:
        made.evaluate(strange.directory, fid=20.0, guidance_scale=guidance)
    with pytest.raises(UsageError, match=said):
        record.record([*five, strange], "b")


def test_runs_that_do_not_repeat_are_refused(five, tmp_path):
    with pytest.raises(DataError, match="do not agree in weights"):
        record.record([*five, made.run(tmp_path / "s", weights=2.0)], "b")


def test_a_broken_checkpoint_is_refused(five, tmp_path):
    broken = made.run(tmp_path / "s")
    (broken.checkpoint(made.STEPS) / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        record.record([*five, broken], "b")


def test_runs_without_a_checkpoint_are_refused(five, tmp_path):
    early = made.run(tmp_path / "s")
    early.checkpoint(made.STEPS).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no checkpoint"):
        record.record([*five, runs.load(early.directory)], "b")


@pytest.mark.parametrize("name", ["", "../b", "a/b", "a b", "x" * 200])
def test_names_that_are_no_file_names_are_refused(five, name):
    with pytest.raises(UsageError, match="not usable"):
        record.record(five, name)


@pytest.mark.parametrize("change", [
    {"schema": 1}, {"step": "200"}, {"metrics": {"speed": {"values": [1.0], "seeds": [1]}}},
    {"metrics": {"throughput": {"values": [], "seeds": []}}},
    {"metrics": {"throughput": {"values": [1.0, 2.0], "seeds": [1]}}},
    {"metrics": {"throughput": {"values": ["1"], "seeds": [1]}}}, {"metrics": []},
])
def test_a_broken_baseline_is_refused(five, tmp_path, change):
    path = record.save(record.record(five, "b"), folder=tmp_path)
    made.edit_json(path, **change)
    with pytest.raises(DataError, match=r"b\.json"):
        record.load("b", folder=tmp_path)


def test_a_baseline_that_is_not_there_names_those_that_are(five, tmp_path):
    record.save(record.record(five, "known"), folder=tmp_path)
    with pytest.raises(UsageError, match="recorded: known"):
        record.load("unknown", folder=tmp_path)


def test_two_baselines_side_by_side(five, tmp_path):
    fast = made.several(
        tmp_path, "f", speeds=[2 * speed for speed in made.SPEEDS], fid=10.0, weights=2.0
    )
    found = baseline_diff.differences(record.record(five, "a"), record.record(fast, "b"))
    rows = {row["metric"]: row for row in found["metrics"]}
    assert rows["throughput"]["ratio"] == pytest.approx(2, rel=0.05)
    assert rows["fid/coco-ddim50"]["ratio"] == 0.5
    assert set(found["differs"]) == {"bits.1234.weights", "bits.1234.ema"}


def test_baselines_of_other_machines_have_no_ratio_of_speeds(five, tmp_path):
    gpu = made.several(tmp_path, "g", device="NVIDIA H100")
    found = baseline_diff.differences(record.record(five, "a"), record.record(gpu, "b"))
    rows = {row["metric"]: row for row in found["metrics"]}
    assert rows["throughput"]["ratio"] is None and "device" in rows["throughput"]["reason"]
    assert "fingerprint.device" in found["differs"]


def test_published_numbers_have_sources_and_protocols():
    numbers = published.load()
    fids = {n["model"]: n["value"] for n in numbers if n["metric"] == "fid"}
    assert fids["U-ViT-S/2"] == 5.95 and fids["U-ViT-S/2 (Deep)"] == 5.48
    for number in numbers:
        assert number["source"]["where"].startswith("https://")
        assert number["protocol"]["name"] and number["value"] > 0


def test_numbers_of_other_papers_are_under_no_protocol_of_ours():
    """Only what the official evaluation made may stand beside our figures."""
    fids = [n for n in published.load() if n["metric"] == "fid"]
    ours = {n["model"] for n in fids if n["protocol"].get("comparable_with")}
    assert ours == {"U-ViT-S/2", "U-ViT-S/2 (Deep)"}
    for number in fids:
        known = number["protocol"].get("comparable_with")
        assert known is None or known in protocols.PROTOCOLS
        assert number["model"] in ours or (
            number["source"]["second_hand"] and number["first_in"] == "uvit-paper"
        )


def test_a_published_number_without_a_source_is_refused(tmp_path):
    content = json.loads(published.FILE.read_text())
    content["numbers"][0].pop("source")
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="has no source"):
        published.load(path)
