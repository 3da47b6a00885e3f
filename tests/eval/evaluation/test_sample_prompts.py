"""`harness sample`: reproducible, by prompt and number, and honest about what it cut."""

import json

import numpy as np
import pytest
from PIL import Image

from eval.evaluation import sample_prompts
from harness import files
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.conversion import exporting
from tests.command import assert_one_line_error, harness
from tests.pipelines import ASSETS, PROMPTS, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("samples") / "run")


@pytest.fixture(scope="module")
def pipeline(run):
    return sample_prompts.open_run(run)


def request(**changes):
    settings = {"prompts": PROMPTS, "num_inference_steps": 4, "batch_size": 4, **changes}
    return sample_prompts.Request(**settings)


def test_the_same_request_gives_the_same_bits(run, pipeline):
    first = sample_prompts.draw(pipeline, request(count=2, seed=9))
    again = sample_prompts.draw(sample_prompts.open_run(run), request(count=2, seed=9))
    for key in ("noise", "latents", "images"):
        assert np.array_equal(getattr(first, key), getattr(again, key))
    assert first.images.shape == (4, 64, 64, 3) and first.images.dtype == np.uint8
    other = sample_prompts.draw(pipeline, request(count=2, seed=10))
    assert not np.array_equal(other.images, first.images)


def test_a_sample_does_not_depend_on_how_many_are_drawn_with_it(pipeline):
    many = sample_prompts.draw(pipeline, request(prompts=PROMPTS[:1], count=4))
    few = sample_prompts.draw(pipeline, request(prompts=PROMPTS[:1], count=3, batch_size=4))
    np.testing.assert_allclose(many.latents[:3], few.latents, atol=1e-5)


def test_guidance_is_the_standard_one(pipeline):
    """At g = 1 the empty prompt plays no part; further guidance moves away from it linearly."""
    one = [
        sample_prompts.draw(
            pipeline, request(prompts=[p], guidance_scale=1.0, num_inference_steps=1)
        )
        for p in (PROMPTS[0], "")
    ]
    cond, uncond = (drawn.latents for drawn in one)
    guided = sample_prompts.draw(pipeline, request(prompts=PROMPTS[:1], guidance_scale=3.0,
                                            num_inference_steps=1))
    np.testing.assert_allclose(guided.latents, uncond + 3 * (cond - uncond), atol=1e-3)


@pytest.mark.parametrize("changes", [
    {"sampler": "dpm"}, {"tome": 0.5}, {"tome": 0.5, "tome_mlp": True}, {"guidance_scale": 1.0},
    {"num_inference_steps": 5}, {"seed": 1},
])
def test_every_setting_counts(pipeline, changes):
    plain = sample_prompts.draw(pipeline, request())
    changed = sample_prompts.draw(pipeline, request(**changes))
    assert not np.array_equal(plain.latents, changed.latents)
    assert np.isfinite(changed.latents).all()
    # and leaves no trace on the model
    assert np.array_equal(sample_prompts.draw(pipeline, request()).latents, plain.latents)


def test_tome_0_gives_the_same_bits(pipeline):
    plain = sample_prompts.draw(pipeline, request())
    assert np.array_equal(sample_prompts.draw(pipeline, request(tome=0.0)).images,
                          plain.images)


def test_a_long_prompt_is_cut_with_a_warning(pipeline, capsys):
    long = " ".join(["seven"] * 30)
    drawn = sample_prompts.draw(pipeline, request(prompts=[long]))
    assert "cut to 12 tokens" in capsys.readouterr().err
    shorter = sample_prompts.draw(pipeline, request(prompts=[" ".join(["seven"] * 20)]))
    assert np.array_equal(drawn.images, shorter.images)
    capsys.readouterr()
    sample_prompts.draw(pipeline, request(prompts=PROMPTS))
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("changes, words", [
    ({"tome": 0.9}, "within 0..0.75"), ({"num_inference_steps": 1000}, "at most 999"),
    ({"prompts": []}, "no prompt"), ({"tome_mlp": True}, "--tome RATIO with --tome-mlp"),
])
def test_impossible_requests(pipeline, changes, words):
    with pytest.raises(UsageError, match=words):
        sample_prompts.draw(pipeline, request(**changes))


def test_prompts_from_a_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa three\r\n\n  a ü seven \n".encode())
    assert sample_prompts.read_prompts(path) == ["a three", "a ü seven"]
    for content in (b"", b"\n \n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="prompts.txt"):
            sample_prompts.read_prompts(path)


def test_writing(pipeline, tmp_path):
    drawn = sample_prompts.draw(pipeline, request())
    assert sample_prompts.write(drawn, tmp_path / "grid.png", columns=1) == [tmp_path / "grid.png"]
    assert Image.open(tmp_path / "grid.png").size == (68, 134)
    paths = sample_prompts.write(drawn, tmp_path / "folder")
    assert [p.name for p in paths] == ["000000.png", "000001.png"]
    assert np.array_equal(np.asarray(Image.open(paths[1])), drawn.images[1])
    with pytest.raises(UsageError, match="png"):
        sample_prompts.write(drawn, tmp_path / "x.jpeg")


def test_a_folder_with_other_images_is_refused(pipeline, tmp_path):
    """Fewer images than last time would leave the rest beside them."""
    drawn = sample_prompts.draw(pipeline, request(count=2))
    sample_prompts.write(drawn, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    sample_prompts.write(drawn, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="1 image that would not be written again, 000003.png"):
        sample_prompts.check_output(tmp_path, 3)
    few = sample_prompts.draw(pipeline, request(prompts=PROMPTS[:1]))
    with pytest.raises(UsageError, match="3 images .* 000001.png for one"):
        sample_prompts.write(few, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    sample_prompts.check_output(tmp_path, 5)
    (tmp_path / "cat.JPG").write_bytes(b"mine")
    with pytest.raises(UsageError, match="cat.JPG"):
        sample_prompts.check_output(tmp_path, 5)


def test_missing_parts_of_a_run(run, tmp_path):
    with pytest.raises(EnvironmentFault, match="autoencoder"):
        sample_prompts.open_run(run, data=tmp_path)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    plan = exporting.Plan(
        run, tmp_path_factory.mktemp("folder") / "x", vae=ASSETS / "vae",
        text_encoder=ASSETS / "text_encoder", tokenizer=ASSETS / "tokenizer", format="uvit",
    )
    return exporting.export(plan)


@pytest.mark.parametrize("path, change", [
    ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}),
    ("scheduler/scheduler_config.json", {"beta_start": "1"}),
    ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}),
    ("unet/config.json", {"num_layers": 2}),
    ("vqvae/config.json", {"scaling_factor": -1}),
])
def test_a_folder_that_was_tampered_with(folder, path, change):
    file = folder / path
    before = file.read_bytes()
    files.atomic_write_json(file, {**json.loads(before), **change})
    try:
        with pytest.raises(DataError):
            sample_prompts.open_folder(folder)
    finally:
        file.write_bytes(before)


def test_torn_weights_in_a_folder(folder):
    file = folder / "unet" / "diffusion_paddle_model.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[: len(before) // 2])
    try:
        with pytest.raises(DataError):
            sample_prompts.open_folder(folder)
    finally:
        file.write_bytes(before)


def test_the_command(run, folder, tmp_path):
    done = harness(
        "sample", run.directory, PROMPTS[0], "-n", 2, "--steps", 4, "--seed", 3, "--tome", 0.5,
        "-o", tmp_path / "a.png", "--latents", tmp_path / "a.npz", "--json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["written"] == [str(tmp_path / "a.png"), str(tmp_path / "a.npz")]
    assert (found["tome"], found["seed"], found["prompts"]) == (0.5, 3, PROMPTS[:1])
    again = sample_prompts.draw(
        sample_prompts.open_run(run),
        sample_prompts.Request(PROMPTS[:1], 2, 7.5, 4, seed=3, tome=0.5, batch_size=4),
    )
    with np.load(tmp_path / "a.npz") as saved:
        assert np.array_equal(saved["images"], again.images)
    output = tmp_path / "b.png"
    refused = harness("sample", folder, "a three", "--vae", ASSETS / "vae", "-o", output)
    assert_one_line_error(refused, 2, "--vae belongs to a run")
    refused = harness("sample", run.directory, "a three", "-o", tmp_path / "c.jpg")
    assert_one_line_error(refused, 2, "written as .png")
    assert "image/s" not in refused.stderr  # told before anything is drawn
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "000001.png").write_bytes(b"")
    refused = harness("sample", run.directory, "a three", "-o", tmp_path / "older")
    assert_one_line_error(refused, 2, "000001.png")
    assert "image/s" not in refused.stderr
