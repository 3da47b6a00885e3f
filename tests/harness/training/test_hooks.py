"""What grids and evaluations will need is checked before the first step."""

import shutil

import numpy as np
import pytest

from harness.base.errors import DataError, EnvironmentFault
from harness.training import hooks
from tests.command import assert_one_line_error, harness
from tests.eval.conftest import digits_data  # noqa: F401
from tests.fixtures import tiny_config, write_tiny_config

EVALUATED = (
    "train.eval_steps=6", "eval.train_protocol=digits-ddim20-200", "eval.batch_size=8",
)
GRIDS = ("train.image_steps=6", "train.eval_steps=0", "train.eval_at_start=false")


@pytest.fixture
def data(digits_data, tmp_path):  # noqa: F811
    return shutil.copytree(digits_data, tmp_path / "data")


def prompt(context):
    entry = np.empty(2, dtype=object)
    entry[:] = ["a cat", context]
    return lambda path: np.save(path, entry, allow_pickle=True)


@pytest.mark.parametrize("damage, said", [
    (lambda path: path.write_bytes(b""), "1.npy"),
    (lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n"), "1.npy"),
    (lambda path: np.save(path, np.zeros(3)), "1.npy"),
    (prompt(np.zeros((5, 16), np.float32)), "shape [5, 16], expected [4, 16]"),
    (prompt(np.full((4, 16), np.nan, np.float32)), "NaN"),
])
def test_prompts(data, damage, said):
    damage(data / "run_vis" / "1.npy")
    with pytest.raises(DataError) as error:
        hooks.make(tiny_config(*GRIDS), data)
    assert said in str(error.value) and error.value.remedy
    hooks.make(tiny_config("train.image_steps=0"), data)


def test_prompts_through_the_command(data, tmp_path):
    (data / "run_vis" / "0.npy").write_bytes(b"")
    config = write_tiny_config(tmp_path / "tiny.toml")
    sets = [word for one in GRIDS for word in ("--set", one)]
    command = ("train", config, "--data", data, "--output-dir", tmp_path / "run", *sets)
    assert_one_line_error(harness(*command), 4, "run_vis/0.npy")
    assert not (tmp_path / "run" / "run.json").exists()
    done = harness(*command, "--no-eval")
    assert done.returncode == 0, done.stderr
    assert "ahead: 6 steps of 8 images (3 epochs), 0 evaluations, 0 sample grids" in done.stderr


def test_what_is_sound_is_taken(data):
    made = hooks.make(tiny_config(*GRIDS, *EVALUATED), data)
    assert made.image and made.evaluate


@pytest.mark.parametrize("damage, error, said", [
    (lambda data: (data / "vae" / "config.json").write_text("{"), DataError, "config.json"),
    (lambda data: next((data / "vae").glob("*.safetensors")).write_bytes(b"x"), DataError, "vae"),
    (lambda data: next((data / "vae").glob("*.safetensors")).unlink(), EnvironmentFault, "weights"),
    (lambda data: (data / "reference.npz").write_bytes(b"x"), DataError, "reference.npz"),
    (lambda data: np.savez(data / "reference.npz", mu=np.zeros(5), sigma=np.eye(5)), DataError,
     "statistics of 5 features"),
    (lambda data: shutil.rmtree(data / "val"), EnvironmentFault, "val"),
    (lambda data: (data / "val" / "captions.jsonl").write_text("x\n"), DataError, "captions.jsonl"),
    (lambda data: (data / "features.safetensors").unlink(), Exception, "features.safetensors"),
])
def test_what_an_evaluation_needs(data, damage, error, said):
    damage(data)
    with pytest.raises(error, match=said):
        hooks.make(tiny_config(*EVALUATED), data)


def test_a_vae_of_other_latents(data):
    with pytest.raises(DataError, match="4 latent channels, the model 2"):
        hooks.make(tiny_config(*GRIDS, "model.in_channels=2"), data)
