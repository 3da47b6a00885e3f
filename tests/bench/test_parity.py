"""The trainer against the PyTorch peer: the same weights, data and noise give the same curve."""

import numpy as np
import pytest

from baselines import torch_peer as oracle
from harness import configs
from harness.data import Batch
from harness.training.learning_rate import learning_rate
from harness.training.step import Trainer
from models import weights
from tests import fixtures
from tests.bench import inputs

STEPS = 20


def curves(folder, config):
    """(our losses, our EMA in PyTorch's layout, what the peer made of the same) of 20 steps."""
    trainer = Trainer(config, seed=3)
    section = config.model.model_dump()
    inputs.write(folder, section, batch=config.train.global_batch_size, count=STEPS)
    batches = inputs.read(folder)
    rates = [learning_rate(config.optim, n, STEPS) for n in range(1, STEPS + 1)]
    theirs = oracle.run(
        folder, section, weights.to_official(trainer.model),
        {key: np.stack([batch[key] for batch in batches]) for key in inputs.KEYS},
        lr=np.array(rates), decay=config.ema.decay,
    )
    ours = [trainer.train([(0, Batch(i, **batch))])[0] for i, batch in enumerate(batches)]
    with trainer.averaged() as model:
        return ours, weights.to_official(model), theirs


def require_same(ours, average, theirs):
    np.testing.assert_allclose(ours, theirs["losses"], rtol=1e-4)
    assert len({round(loss, 3) for loss in ours}) > STEPS // 2  # each batch has a loss of its own
    for name, array in average.items():
        np.testing.assert_allclose(array, theirs[f"ema/{name}"], rtol=1e-3, atol=1e-5, err_msg=name)


def test_twenty_steps_of_the_trainer_follow_the_torch_model(tmp_path):
    sizes = ("train.global_batch_size=4", "train.micro_batch_size=4", "optim.lr=1e-3")
    require_same(*curves(tmp_path, fixtures.tiny_config(*sizes, f"train.max_steps={STEPS}")))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_steps_of_small_follow_the_torch_model(tmp_path):
    # No warm-up: at the pinned one, twenty steps would move the weights by next to nothing.
    sizes = ("train.global_batch_size=2", "train.micro_batch_size=2", "optim.warmup_steps=0")
    require_same(*curves(tmp_path, configs.load("small", (*sizes, f"train.max_steps={STEPS}"))))
