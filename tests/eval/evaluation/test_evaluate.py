"""Whole evaluations of a tiny model: what the result says, and that kills leave no trace in it."""

import dataclasses
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from eval import protocols
from eval.evaluation import evaluate, evaluation_task
from eval.features import torch_process
from eval.features.digits import DigitsFeatures
from eval.metrics import feature_statistics
from eval.sampling import image_making
from harness import runs
from harness.base import seeds
from harness.base.errors import DataError, EnvironmentFault, UsageError
from tests import file_schemas, fixtures
from tests.eval import transformers

CONFIG = fixtures.tiny_config("eval.batch_size=8", "eval.decode_batch_size=4")


def task(data, directory, **changes):
    protocol = protocols.get(
        "digits-ddim20-200", n_samples=60, num_inference_steps=3, loss_images=10
    )
    return evaluate.Task(CONFIG, protocol, data, directory, 3, **changes)


def figures(result):
    """Everything in a result but the time it took."""
    return {key: value for key, value in result.items() if key != "timing"}


def promised_files(directory):
    """Content of every file whose bytes are promised: not result.json, which says the time."""
    found = [p for p in directory.rglob("*") if p.is_file() and p.name != "result.json"]
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in found if not path.name.endswith(".seconds.json")
    }


@pytest.fixture(scope="module")
def evaluated(digits_data, ema, tmp_path_factory):
    directory = tmp_path_factory.mktemp("evaluated")
    return directory, evaluate.evaluate(task(digits_data, directory), *ema)


def test_the_result_carries_its_protocol(evaluated, ema, digits_data):
    directory, result = evaluated
    assert json.loads((directory / "result.json").read_text()) == result
    assert result["step"] == 3 and result["n_samples"] == 60 and result["ema_sha256"] == ema[1]
    protocol = result["protocol"]
    assert protocol["name"] == "digits-ddim20-200+n60+steps3+loss10" and not protocol["pinned"]
    assert (protocol["sampler"], protocol["num_inference_steps"]) == ("ddim", 3)
    assert (protocol["eta"], protocol["guidance_scale"]) == (0.0, 2.0)
    for digest in (
        protocol["captions"]["sha256"], protocol["features"]["sha256"],
        protocol["reference"]["sha256"], protocol["vae_sha256"],
    ):
        assert len(digest) == 64
    assert protocol["dtype"] == "float32" and protocol["latent_scale"] == 0.2301
    assert "255" in protocol["quantisation"]


def test_every_figure_is_there(evaluated):
    metrics = evaluated[1]["metrics"]
    low, high = metrics["fd_digits_interval"]
    assert 0 < low < metrics["fd_digits"] < high
    assert metrics["kid"] > 0 and evaluated[1]["uncertainty"]["kid"]["standard_error"] > 0
    assert 0 <= metrics["precision"] <= 1 and 0 <= metrics["recall"] <= 1
    assert 0 <= metrics["accuracy"] <= 1 and metrics["val_loss"] > 0
    assert metrics["density"] >= 0 and 0 <= metrics["coverage"] <= 1
    assert "fid" not in metrics  # these features are nobody's Inception
    assert set(evaluated[1]["timing"]["seconds_per_image"]) == {
        "network", "vae", "features", "writing"
    }
    assert (evaluated[0] / "samples.png").stat().st_size > 1000
    file_schemas.check(evaluated[0] / "result.json")


def test_a_finished_evaluation_is_not_made_again(evaluated, digits_data, ema, monkeypatch):
    monkeypatch.setattr(evaluate, "make_model", lambda *_: pytest.fail("made again"))
    assert evaluate.evaluate(task(digits_data, evaluated[0]), *ema) == evaluated[1]


def test_another_task_s_result_is_not_overwritten(evaluated, digits_data, ema):
    other = dataclasses.replace(task(digits_data, evaluated[0]), step=4)
    with pytest.raises(UsageError, match="step"):
        evaluate.evaluate(other, *ema)
    with pytest.raises(UsageError, match="ema_sha256"):
        evaluate.evaluate(task(digits_data, evaluated[0]), ema[0], "00" * 32)


def test_a_result_over_other_text_features_is_another(evaluated, digits_data, ema, tmp_path):
    shutil.copytree(digits_data, tmp_path / "data")
    path = tmp_path / "data" / "val" / "0_0.npy"
    np.save(path, np.load(path) + 1)
    with pytest.raises(UsageError, match="val_data"):
        evaluate.evaluate(task(tmp_path / "data", evaluated[0]), *ema)


class Killed(BaseException):
    pass


def test_interruptions_anywhere_leave_the_same_figures(
    evaluated, digits_data, ema, tmp_path, monkeypatch
):
    random = seeds.generator(0, "kills")
    interrupted = 0
    for where in ("images", "decode", "save", "images", "save"):
        monkeypatch.undo()
        count = int(random.integers(1, 4))
        _raise_at_call(monkeypatch, where, count)
        try:
            evaluate.evaluate(task(digits_data, tmp_path), *ema)
        except Killed:
            interrupted += 1
    monkeypatch.undo()
    assert interrupted >= 4
    result = evaluate.evaluate(task(digits_data, tmp_path), *ema)
    assert figures(result) == figures(evaluated[1])
    promised = promised_files(evaluated[0])
    assert len(promised) == 8 + 2 and promised_files(tmp_path) == promised


def _raise_at_call(monkeypatch, where, count):
    place = {
        "images": (image_making.Maker, "images"), "decode": (image_making, "decode"),
        "save": (evaluate.Blocks, "save"),
    }[where]
    plain, left = getattr(*place), [count]

    def counted(*arguments, **named):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return plain(*arguments, **named)

    monkeypatch.setattr(*place, counted)


def test_lost_and_broken_blocks_are_made_again(evaluated, digits_data, ema, tmp_path):
    shutil.copytree(evaluated[0], tmp_path / "e")
    (tmp_path / "e" / "result.json").unlink()
    (tmp_path / "e" / "features" / "00001.npz").unlink()
    broken = tmp_path / "e" / "features" / "00004.npz"
    broken.write_bytes(broken.read_bytes()[:-40])
    result = evaluate.evaluate(task(digits_data, tmp_path / "e"), *ema)
    assert figures(result) == figures(evaluated[1])


def test_what_is_ahead_is_said_first(digits_data, ema, tmp_path, capsys):
    evaluate.evaluate(task(digits_data, tmp_path), *ema)
    lines = capsys.readouterr().err.splitlines()
    (said,) = (number for number, line in enumerate(lines) if line.startswith("ahead: "))
    assert lines[said] == (
        "ahead: 60 samples of 3 steps, for 20 val images: each one's captions 3 times"
    )
    # and after the first batch, how long
    assert "8/60 image" in lines[said + 1] and lines[said + 1].endswith("left")
    evaluate.evaluate(task(digits_data, tmp_path), *ema)
    assert "ahead" not in capsys.readouterr().err
    few = dataclasses.replace(
        task(digits_data, tmp_path), protocol=protocols.get("digits-ddim20", n_samples=20)
    )
    captions = evaluation_task.open_captions(few)
    assert evaluate.ahead(few, captions) == "ahead: 20 samples of 20 steps"


def test_another_noise_seed_makes_other_figures(evaluated, digits_data, ema, tmp_path):
    one = task(digits_data, tmp_path)
    other = dataclasses.replace(one, protocol=protocols.reseeded(one.protocol, 1235))
    result = evaluate.evaluate(other, *ema)
    assert result["metrics"]["fd_digits"] != evaluated[1]["metrics"]["fd_digits"]
    assert result["metrics"]["val_loss"] == evaluated[1]["metrics"]["val_loss"]


def test_the_clip_score_is_measured_where_asked_for(digits_data, ema, clip_folder, tmp_path):
    plain = task(digits_data, tmp_path)
    protocol = protocols.get("digits-ddim20-200", n_samples=12, num_inference_steps=2, clip=True)
    asked = dataclasses.replace(plain, protocol=protocol, clip=clip_folder)
    result = evaluate.evaluate(asked, *ema)
    assert 0 < result["metrics"]["clip_score"] <= 100
    assert len(result["protocol"]["clip"]["sha256"]) == 64
    assert file_schemas.faults("result", result) == []
    with pytest.raises(UsageError, match="--clip DIR"):
        evaluate.evaluate(dataclasses.replace(asked, clip=None), *ema)


@pytest.fixture
def judged_thrice(digits_data, tmp_path):
    """A task by the digits' features, DINOv2's and CLIP's, of small networks."""
    folders = {name: transformers.write(tmp_path / name, name) for name in protocols.ALSO}
    data = shutil.copytree(digits_data, tmp_path / "data")
    small = transformers.SMALL
    for name, size in (("dinov2", small.width), ("clip", small.projection)):
        real = seeds.generator(3, name).standard_normal((30, size))
        found = feature_statistics.of_features(real)
        feature_statistics.save(data / f"reference-{name}.npz", found, features=real)
    plain = task(data, tmp_path / "e")
    protocol = dataclasses.replace(plain.protocol, name="three", n_samples=12, also=protocols.ALSO)
    return dataclasses.replace(plain, protocol=protocol, also=folders)


def test_each_image_is_decoded_once_and_seen_once_by_every_network(
    judged_thrice, ema, monkeypatch
):
    seen = Counter()

    def count(place, name, images):
        plain = getattr(place, name)

        def counted(*arguments, **named):
            seen[f"{place.__name__}.{name}"] += images(*arguments)
            return plain(*arguments, **named)

        monkeypatch.setattr(place, name, counted)

    count(image_making, "decode", lambda _, latents: len(latents))
    count(DigitsFeatures, "extract", lambda _, images: len(images))
    kept = []  # by name, as both further networks are of one class
    plain = torch_process.TorchFeatures.extract
    monkeypatch.setattr(torch_process.TorchFeatures, "extract", lambda self, images: (
        kept.extend([self.name] * len(images)), plain(self, images))[1])
    real = len(np.load(judged_thrice.data / "val_images.npy"))
    result = evaluate.evaluate(judged_thrice, *ema)
    assert seen["eval.sampling.image_making.decode"] == 12
    assert seen["DigitsFeatures.extract"] == 12 + real
    assert Counter(kept) == {"dinov2": 12, "clip": 12}
    metrics, described = result["metrics"], result["protocol"]
    for name in protocols.ALSO:
        distance = f"fd_{name}_unofficial_weights"
        assert metrics[distance] > 0 and len(described["also"][name]["features"]["sha256"]) == 64
        assert "bicubic" in described["also"][name]["features"]["preprocessing"]
        for figure in ("kid", "precision", "recall", "density", "coverage"):
            assert np.isfinite(metrics[f"{figure}_{name}"]) and figure in metrics
    assert metrics["cmmd_unofficial_weights"] > 0 and metrics["fd_digits"] > 0

    assert file_schemas.faults("result", result) == []

    # What the harness learns later comes from the features that were kept.
    path = judged_thrice.directory / "result.json"
    earlier = json.loads(path.read_text())
    for figure in ("density", "coverage_clip"):
        del earlier["metrics"][figure]
    path.write_text(json.dumps(earlier))
    monkeypatch.setattr(evaluate, "make_model", lambda *_: pytest.fail("made again"))
    again = evaluate.evaluate(judged_thrice, *ema)
    assert again == json.loads(path.read_text()) == result
    assert seen["eval.sampling.image_making.decode"] == 12
    # Without them, what is there is printed.
    path.write_text(json.dumps(earlier))
    (judged_thrice.directory / "features" / "00000.npz").unlink()
    assert evaluate.evaluate(judged_thrice, *ema) == earlier


def test_a_further_network_without_its_reference_is_exit_5(judged_thrice, ema):
    (judged_thrice.data / "reference-clip.npz").unlink()
    with pytest.raises(EnvironmentFault, match="--network clip") as error:
        evaluate.evaluate(judged_thrice, *ema)
    assert error.value.exit_code == 5


def test_what_is_missing_is_said_before_anything_is_sampled(digits_data, ema, tmp_path):
    bare = tmp_path / "data"
    shutil.copytree(digits_data, bare)
    shutil.rmtree(bare / "vae")
    with pytest.raises(EnvironmentFault, match="--vae"):
        evaluate.evaluate(task(bare, tmp_path / "e"), *ema)
    (bare / "reference.npz").unlink()
    with pytest.raises(EnvironmentFault, match="harness stats"):
        evaluate.evaluate(task(bare, tmp_path / "e"), *ema)
    np.savez(bare / "reference.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(DataError, match="2048 features, these have 33"):
        evaluate.evaluate(task(bare, tmp_path / "e"), *ema)
    assert not (tmp_path / "e").exists()


def test_weights_that_diverged_are_said_to_have(digits_data, ema, tmp_path):
    broken = {name: np.full_like(array, np.nan) for name, array in ema[0].items()}
    with pytest.raises(EnvironmentFault, match="diverged"):
        evaluate.evaluate(task(digits_data, tmp_path), broken, "00" * 32)


def test_a_second_evaluation_is_refused_until_the_first_is_done(
    digits_data, ema, evaluated, tmp_path
):
    directory = tmp_path / "evaluated"
    with runs.locked(directory), pytest.raises(EnvironmentFault, match="is being worked on by"):
        evaluate.evaluate(task(digits_data, directory), *ema)
    assert not (directory / "features").exists()
    shutil.copytree(evaluated[0], directory, dirs_exist_ok=True)
    with runs.locked(directory):  # what is finished is read all the same
        assert evaluate.evaluate(task(digits_data, directory), *ema) == evaluated[1]
    (directory / "result.json").unlink()
    assert figures(evaluate.evaluate(task(digits_data, directory), *ema)) == figures(evaluated[1])
    assert not (directory / "lock").exists()
