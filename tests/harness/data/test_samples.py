import pathlib

import numpy as np
import pytest

from harness import data
from harness.base.errors import DataError, EnvironmentFault, HarnessError
from tests.fixtures import draw, tiny_config, write_features


def source(directory, *overrides, seed=1):
    return data.open_source(tiny_config(*overrides), seed, directory)


def test_a_sample_depends_on_seed_and_number_alone(features):
    a, b = source(features), source(features)
    draw(b, 3)  # whatever was drawn before
    for first, second in zip(draw(a, 17), draw(b, 17), strict=True):
        assert np.array_equal(first, second)
    other = source(features, seed=2)
    assert not np.array_equal(draw(a, 17)[0], draw(other, 17)[0])


def test_a_batch_is_its_samples(features):
    batch = source(features).batch(1, range(8, 12))
    assert batch.latents.shape == (4, 4, 8, 8)
    assert batch.noise.shape == (4, 4, 8, 8)
    assert batch.context.shape == (4, 4, 16)
    assert batch.timesteps.dtype == np.int64
    assert all(array.dtype == np.float32 for array in (batch.latents, batch.noise, batch.context))
    latents, noise, timestep, context = draw(source(features), 9)
    assert np.array_equal(batch.latents[1], latents)
    assert np.array_equal(batch.noise[1], noise)
    assert batch.timesteps[1] == timestep
    assert np.array_equal(batch.context[1], context)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_batches(features, workers):
    parts = [(step, range(step * 8, step * 8 + 8)) for step in range(6)]
    alone = list(data.prefetch(source(features), iter(parts), 0))
    ahead = list(data.prefetch(source(features), iter(parts), workers))
    assert [b.step for b in ahead] == [b.step for b in alone]
    for a, b in zip(alone, ahead, strict=True):
        assert a.latents.tobytes() == b.latents.tobytes()
        assert a.context.tobytes() == b.context.tobytes()
        assert a.timesteps.tobytes() == b.timesteps.tobytes()


def test_drawing_interns_no_name(features, monkeypatch):
    """Each would fill the table of interned strings, which then doubles during a long training."""
    made, join, drawn = [], pathlib.Path.__truediv__, source(features)
    monkeypatch.setattr(pathlib.Path, "__truediv__", lambda *a: made.append(a[1]) or join(*a))
    assert drawn.split.directory / "seen" and made == ["seen"]
    drawn.batch(0, range(8))
    assert made == ["seen"]


def test_an_epoch_visits_every_image_once_and_the_next_in_another_order(features):
    sampling = source(features, "train.global_batch_size=5", "train.micro_batch_size=5").sampling
    first = [sampling.image(g) for g in range(20)]
    second = [sampling.image(g) for g in range(20, 40)]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != list(range(20))


def test_the_last_partial_batch_of_an_epoch_is_dropped(features):
    sampling = source(features).sampling  # 20 images, batches of 8
    assert sampling.steps_per_epoch == 2
    assert len({sampling.image(g) for g in range(16)}) == 16
    assert len({sampling.image(g) for g in range(16, 32)}) == 16


def test_the_condition_is_dropped_as_often_as_asked(features):
    for probability, least, most in ((0.0, 0, 0), (1.0, 400, 400), (0.25, 70, 130)):
        drawn = source(features, f"data.condition_drop_prob={probability}")
        dropped = sum(not draw(drawn, g)[3].any() for g in range(400))
        assert least <= dropped <= most


def test_timesteps_are_uniform_in_1_to_1000(features):
    drawn = source(features)
    found = np.array([draw(drawn, g)[2] for g in range(2000)])
    assert found.min() >= 1 and found.max() <= 1000
    assert abs(found.mean() - 500.5) < 4 * 288.7 / np.sqrt(2000)


def test_latents_follow_the_stored_moments(tmp_path):
    """Mean 3, log variance -2: scaled latents have mean 3s and std exp(-1)s."""
    write_features(tmp_path / "d")
    moments = np.concatenate([np.full((4, 8, 8), 3.0), np.full((4, 8, 8), -2.0)])
    for image in range(20):
        np.save(tmp_path / "d" / "train" / f"{image}.npy", moments.astype(np.float32))
    latents = np.stack([draw(source(tmp_path / "d"), g)[0] for g in range(100)])
    assert latents.mean() == pytest.approx(3 * 0.2301, rel=0.01)
    assert latents.std() == pytest.approx(np.exp(-1) * 0.2301, rel=0.02)


def test_log_variance_is_clamped():
    extreme = np.concatenate([np.zeros((1, 2, 2)), np.full((1, 2, 2), 1e9)]).astype(np.float32)
    latents = data.sample_moments(extreme, np.random.default_rng(0))
    assert np.isfinite(latents).all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / "train" / "3.npy").unlink(), "train/3.npy is missing"),
        (lambda d: (d / "train" / "3_0.npy").unlink(), "train/3_0.npy is missing"),
        (lambda d: (d / "empty_context.npy").unlink(), "empty_context.npy"),
        (lambda d: np.save(d / "train" / "0.npy", np.zeros((4, 8, 8), np.float32)), "shape"),
        (lambda d: np.save(d / "train" / "0.npy", np.zeros((8, 8, 8))), "float64"),
        (lambda d: np.save(d / "train" / "0_0.npy", np.zeros((4, 99), np.float32)), "shape"),
        (lambda d: (d / "train" / "0.npy").write_bytes(b""), "0.npy"),
        (lambda d: np.save(d / "train" / "0.npy", np.full((8, 8, 8), np.nan, "f4")), "NaN"),
    ],
)
def test_damage_is_found_on_opening(tmp_path, damage, said):
    directory = write_features(tmp_path / "d")
    damage(directory)
    with pytest.raises(DataError) as error:
        source(directory)
    assert said in str(error.value)


def test_damage_further_on_is_found_when_it_is_read(tmp_path):
    directory = write_features(tmp_path / "d")
    path = directory / "train" / "7.npy"
    path.write_bytes(path.read_bytes()[:-10])
    drawn = source(directory)
    image_at = {drawn.sampling.image(g): g for g in range(16)}
    if 7 in image_at:
        with pytest.raises(DataError, match=r"7\.npy is truncated: 10 bytes"):
            draw(drawn, image_at[7])
    with pytest.raises(DataError, match=r"7\.npy is truncated: 10 bytes"):
        list(data.prefetch(drawn, iter((s, range(8 * s, 8 * s + 8)) for s in range(6)), 2))


def test_a_missing_directory_says_how_to_get_one(tmp_path):
    with pytest.raises(EnvironmentFault, match="harness data digits"):
        source(tmp_path / "none")


def test_a_batch_larger_than_the_data_is_refused(features):
    with pytest.raises(HarnessError, match="lower train.global_batch_size"):
        source(features, "train.global_batch_size=64", "train.micro_batch_size=64")


def test_run_vis_reads_prompts_and_contexts(features):
    prompts, contexts = data.run_vis(features, (4, 16))
    assert prompts == ["a cat", "a dog on a mat"]
    assert contexts.shape == (2, 4, 16) and contexts.dtype == np.float32
    with pytest.raises(DataError, match="shape"):
        data.run_vis(features, (5, 16))
