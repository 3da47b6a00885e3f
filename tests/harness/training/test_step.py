import numpy as np
import paddle
import pytest

from harness import data
from harness.base.errors import DataError, EnvironmentFault
from harness.distributed.process_group import World, micro_batches
from harness.training.step import LossScale, NonFiniteLoss, Trainer
from tests.fixtures import tiny_config


def steps(trainer, source, count):
    losses = []
    train = trainer.config.train
    for _ in range(count):
        first = trainer.step * train.global_batch_size
        parts = micro_batches(
            global_batch_size=train.global_batch_size, micro_batch_size=train.micro_batch_size,
            shards=train.shards if train.reduction == "fixed-order" else None, world=World.alone(),
        )
        batches = (
            (shard, source.batch(trainer.step, range(first + at.start, first + at.stop)))
            for shard, at in parts
        )
        losses.append(trainer.train(batches)[0])
    return losses


def weights(trainer):
    parts, _ = trainer.state()
    return {f"{part}.{n}": a.tobytes() for part, arrays in parts.items() for n, a in arrays.items()}


def test_the_same_seed_gives_the_same_bits_and_another_does_not(features):
    config = tiny_config()
    a, b, other = Trainer(config, 1), Trainer(config, 1), Trainer(config, 2)
    source = data.open_source(config, 1, features)
    assert steps(a, source, 4) == steps(b, source, 4)
    assert weights(a) == weights(b)
    assert steps(other, source, 1) != steps(Trainer(config, 1), source, 1)


def test_a_resumed_trainer_goes_on_to_the_same_bits(features):
    config = tiny_config()
    source = data.open_source(config, 1, features)
    whole = Trainer(config, 1)
    losses = steps(whole, source, 5)
    half = Trainer(config, 1)
    steps(half, source, 2)
    resumed = Trainer(config, 99)  # its own weights must not matter
    resumed.load(2, *half.state())
    assert steps(resumed, source, 3) == losses[2:]
    assert weights(resumed) == weights(whole)


def test_accumulated_micro_batches_are_the_whole_batch(features):
    config = tiny_config("train.micro_batch_size=8")
    source = data.open_source(config, 1, features)
    whole, parts = Trainer(config, 1), Trainer(tiny_config("train.micro_batch_size=2"), 1)
    assert steps(whole, source, 2) == pytest.approx(steps(parts, source, 2))
    for name, parameter in whole.model.named_parameters():
        other = dict(parts.model.named_parameters())[name].numpy()
        # Adam divides by the gradient's own size, so rounding shows where gradients vanish.
        assert np.abs(parameter.numpy() - other).max() < 4 * config.optim.lr, name


def test_fixed_order_is_the_same_sum_in_another_order(features):
    fixed = tiny_config("train.reduction=fixed-order", "train.shards=4", "train.micro_batch_size=1")
    source = data.open_source(fixed, 1, features)
    a, b = Trainer(fixed, 1), Trainer(tiny_config(), 1)
    assert steps(a, source, 3) == pytest.approx(steps(b, source, 3), rel=1e-4)


def test_the_model_has_the_average_within_and_its_own_weights_back_after(features):
    config = tiny_config()
    source = data.open_source(config, 1, features)
    trainer, other = Trainer(config, 1), Trainer(config, 1)
    steps(trainer, source, 2), steps(other, source, 2)
    before, average = weights(trainer), trainer.average()
    with pytest.raises(KeyboardInterrupt), trainer.averaged() as model:
        found = {name: p.numpy() for name, p in model.named_parameters()}
        assert all(np.array_equal(found[name], average[name]) for name in average)
        assert any(found[name].tobytes() != before[f"model.{name}"] for name in average)
        raise KeyboardInterrupt
    assert weights(trainer) == before
    assert steps(trainer, source, 2) == steps(other, source, 2)


def test_training_moves_weights_and_the_average_follows(features):
    config = tiny_config()
    trainer = Trainer(config, 1)
    start = {n: p.numpy().copy() for n, p in trainer.model.named_parameters()}
    average = {n: a.copy() for n, a in trainer.ema.state().items()}
    assert all(np.array_equal(start[n], average[n]) for n in start)
    source = data.open_source(config, 1, features)
    for _ in range(3):
        steps(trainer, source, 1)
        for name, parameter in trainer.model.named_parameters():
            average[name] += (1 - config.ema.decay) * (parameter.numpy() - average[name])
    for name, value in trainer.ema.state().items():
        assert np.abs(value - average[name]).max() < 1e-6
        assert not np.array_equal(value, start[name]), name


def test_recompute_changes_no_bit(features):
    plain, saving = tiny_config(), tiny_config("train.recompute=true")
    source = data.open_source(plain, 1, features)
    a, b = Trainer(plain, 1), Trainer(saving, 1)
    assert steps(a, source, 3) == steps(b, source, 3)
    assert weights(a) == weights(b)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(features):
    config = tiny_config()
    source = data.open_source(config, 1, features)
    trainer = Trainer(config, 1)
    steps(trainer, source, 1)
    before = weights(trainer)
    batch = source.batch(1, range(8, 16))
    batch.latents[0, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteLoss, match="step 2"):
        trainer.train([(0, batch)])
    assert weights(trainer) == before and trainer.step == 1


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_a_cpu_is_refused_not_pretended(precision):
    if paddle.device.get_device() != "cpu":
        pytest.skip("a GPU is here")
    with pytest.raises(EnvironmentFault, match="train.precision=fp32"):
        Trainer(tiny_config(f"train.precision={precision}"), 1)


def test_a_checkpoint_of_another_model_is_refused():
    trainer = Trainer(tiny_config(), 1)
    parts, state = Trainer(tiny_config("model.num_layers=4"), 1).state()
    with pytest.raises(DataError, match="do not fit"):
        trainer.load(1, parts, state)


@pytest.mark.parametrize("first", [-1, 6, 1.0, "1", True, None, []])
def test_a_checkpoint_that_began_at_no_step_is_refused(first):
    trainer = Trainer(tiny_config(), 1)
    parts, state = trainer.state()
    with pytest.raises(DataError, match="began at"):
        trainer.load(5, parts, {**state, "first_step": first})


def test_loss_scale_halves_on_overflow_and_doubles_after_2000_good_steps():
    scale = LossScale()
    assert not scale.unscale({"w": paddle.to_tensor([1.0, float("inf")])})
    assert scale.value == 32768.0
    gradient = paddle.to_tensor([32768.0])
    assert scale.unscale({"w": gradient}) and float(gradient) == 1.0
    copy = LossScale()
    copy.load(scale.state())
    assert copy.state() == scale.state()
    for _ in range(1999):
        scale.unscale({})
    assert scale.value == 65536.0


def test_unscaled_gradients_keep_what_float16_has_no_room_for():
    scale, exact = LossScale(), np.array([1e-8, 1e-7, 1e-6, 1e-4], np.float32)
    gradients = {"w": paddle.to_tensor((exact * scale.value).astype(np.float16))}
    assert scale.unscale(gradients)
    np.testing.assert_allclose(gradients["w"].numpy(), exact, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_half_precision_trains_on_a_gpu(features, precision, level):
    config = tiny_config(f"train.precision={precision}", f"train.amp_level={level}")
    source = data.open_source(config, 1, features)
    losses = steps(Trainer(config, 1), source, 3)
    exact = steps(Trainer(tiny_config(), 1), source, 3)
    assert losses == pytest.approx(exact, rel=0.05)
