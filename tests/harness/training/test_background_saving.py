"""Checkpoints written beside training: of the step asked for, and never lost in silence."""

import errno
import threading

import numpy as np
import pytest

from harness import data, runs
from harness.base.errors import EnvironmentFault
from harness.runs import checkpoints
from harness.training.background_saving import Saver
from harness.training.step import NonFiniteLoss, Trainer
from tests.fixtures import tiny_config
from tests.harness.training.test_step import steps

CONFIG = tiny_config("train.save_steps=1")


@pytest.fixture(scope="module")
def source(features):
    return data.open_source(CONFIG, 1, features)


@pytest.fixture
def run(tmp_path):
    return runs.create(tmp_path / "run", CONFIG, 1, fingerprint={}, data={}, commit=None)


@pytest.fixture
def held(monkeypatch):
    """While it is not set, no checkpoint is written."""
    go, write = threading.Event(), checkpoints.save

    def waiting(*arguments, **named):
        assert go.wait(60)
        return write(*arguments, **named)

    monkeypatch.setattr(checkpoints, "save", waiting)
    yield go
    go.set()


def test_weights_that_diverged_are_not_saved(run, source):
    """Gradients may overflow where the loss does not: the next step's loss comes too late."""
    trainer = Trainer(CONFIG, 1)
    saver = Saver(run, trainer, before=lambda: None)
    steps(trainer, source, 1)
    saver.save()
    steps(trainer, source, 1)
    trainer.model.norm.bias.set_value(np.full(trainer.model.norm.bias.shape, np.nan, np.float32))
    saver.save()
    with pytest.raises(NonFiniteLoss, match="weights of step 2"):
        saver.settle()
    saver.close()
    assert run.checkpoint_steps() == [1]


def test_steps_go_on_meanwhile_and_do_not_show_in_what_is_written(run, source, held):
    trainer, alone = Trainer(CONFIG, 1), Trainer(CONFIG, 1)
    saver = Saver(run, trainer, before=lambda: None)
    steps(trainer, source, 2)
    saver.save()
    steps(trainer, source, 2)
    saver.check()
    assert run.checkpoint_steps() == []
    held.set()
    saver.settle()
    saver.close()
    steps(alone, source, 2)
    expected, _ = alone.state()
    found = checkpoints.load(run.checkpoint(2)).parts
    assert {p: checkpoints.tensors_digest(a) for p, a in found.items()} == {
        p: checkpoints.tensors_digest(a) for p, a in expected.items()
    }


def test_a_step_is_written_once_and_what_was_resumed_from_is_not(run, source):
    trainer, told = Trainer(CONFIG, 1), []
    steps(trainer, source, 1)
    saver = Saver(run, trainer, before=lambda: told.append(trainer.step))
    saver.save()
    assert told == []
    steps(trainer, source, 1)
    saver.save()
    saver.save()
    saver.close()
    assert told == [2] and run.checkpoint_steps() == [2]


def test_one_is_on_disk_before_the_next_begins(run, source, held):
    trainer = Trainer(CONFIG, 1)
    saver = Saver(run, trainer, before=lambda: None)
    threading.Timer(0.2, held.set).start()
    for step in (1, 2):
        steps(trainer, source, 1)
        saver.save()
        assert run.checkpoint_steps() == [1][: step - 1]
    saver.close()
    assert run.checkpoint_steps() == [1, 2]


@pytest.mark.parametrize("later", ["check", "save", "wait", "settle"])
def test_what_goes_wrong_in_the_thread_is_raised(run, source, monkeypatch, later):
    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer = Trainer(CONFIG, 1)
    saver = Saver(run, trainer, before=lambda: None)
    monkeypatch.setattr(checkpoints.os, "write", full)
    steps(trainer, source, 1)
    saver.save()
    saver._writing.exception()  # the thread has ended
    steps(trainer, source, 1)
    with pytest.raises(EnvironmentFault, match="No space left"):
        getattr(saver, later)()
    saver.close()


def test_an_error_while_another_is_on_its_way_is_told(run, source, monkeypatch, capsys):
    def broken(*_arguments, **_named):
        raise EnvironmentFault("the disk is gone")

    trainer = Trainer(CONFIG, 1)
    monkeypatch.setattr(checkpoints, "save", broken)
    steps(trainer, source, 1)
    saver = Saver(run, trainer, before=lambda: None)
    steps(trainer, source, 1)
    saver.save()
    saver.close()
    assert "the disk is gone" in capsys.readouterr().err
