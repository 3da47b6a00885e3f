"""The main job at COCO's sizes, as a user runs it: train small_deep, then evaluate the run.

The data, Stable Diffusion's VAE (its architecture) and the Inception weights are random, so the
figures mean nothing; that they are made, from these files and by that name, is what is tested.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from eval.metrics import feature_statistics
from harness import runs
from harness.base import seeds
from tests import file_schemas, fixtures
from tests.command import assert_one_line_error, harness

SAMPLES = 2
QUICK = ("--fid", "--n-samples", SAMPLES, "--steps", 2)
# CompVis/stable-diffusion-v1-4, vae/config.json
STABLE_DIFFUSION = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """coco256_features as the tutorial lays it out, of a few images, with vae/ and a reference."""
    folder = fixtures.write_features(
        tmp_path_factory.mktemp("coco") / "features", images=6, size=32, tokens=77, width=768
    )
    import paddle
    from ppdiffusers import AutoencoderKL

    paddle.seed(0)
    AutoencoderKL(**STABLE_DIFFUSION).save_pretrained(str(folder / "vae"))
    features = seeds.generator(0, "reference").standard_normal((8, 2048))
    found = feature_statistics.of_features(features)
    feature_statistics.save(folder / "fid_stats_mscoco256_val.npz", found)
    yield folder
    shutil.rmtree(folder / "vae")  # pytest keeps the folders of three sessions


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "small_deep"
    process = harness(
        "train", "small_deep", "--data", data, "--output-dir", directory,
        "--set", "train.max_steps=2", "--set", "train.global_batch_size=4",
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{directory}\n"
    yield directory
    shutil.rmtree(directory / "checkpoints")


def test_small_deep_trains_on_a_cpu(run):
    made = runs.load(run)
    assert made.config.name == "small_deep" and not made.info["pinned"]
    assert made.metrics()[-1]["step"] == 2 and made.checkpoint_steps() == [2]
    assert 0 < made.metrics()[-1]["loss"] < 10


def test_without_inception_weights_a_coco_run_has_no_fid(run, tmp_path):
    process = harness("eval", run, *QUICK, TORCH_HOME=str(tmp_path))
    assert_one_line_error(process, 5, "Inception weights are missing", str(tmp_path))
    assert not (run / "eval").exists()


@pytest.mark.timeout(1200)  # minutes of convolutions where others use the machine too
def test_the_run_is_evaluated_and_reported(run, data, torch_home, tmp_path):
    process = harness("eval", run, *QUICK, "--json", TORCH_HOME=str(torch_home), timeout=1100)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    protocol = found["protocol"]
    assert protocol["name"] == f"coco-ddim50+n{SAMPLES}+steps2" and not protocol["pinned"]
    assert protocol["reference"]["path"] == str(data / "fid_stats_mscoco256_val.npz")
    # Random weights make no FID.
    assert found["metrics"]["fid_unofficial_weights"] > 0 and "fid" not in found["metrics"]
    assert np.isfinite(found["metrics"]["val_loss"])
    file_schemas.check_all(run)
    (kept,) = runs.load(run).results()
    assert kept["metrics"] == found["metrics"] and kept["n_samples"] == SAMPLES
    with Image.open(run / "eval" / f"00000002-{protocol['name']}" / "samples.png") as grid:
        assert grid.width * grid.height >= SAMPLES * 256 * 256
    process = harness("report", run, "-o", tmp_path / "report")
    assert process.returncode == 0, process.stderr
    table = (tmp_path / "report" / "report.md").read_text()
    assert f"n{SAMPLES}+steps2" in table and "small_deep" in table
