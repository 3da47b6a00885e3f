"""Exported pipelines, run by ppdiffusers itself, against `harness sample` with the same noise."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import paddle
import pytest

from eval.evaluation import sample_prompts
from harness import runs
from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.conversion import exporting, importing
from models.pretrained import autoencoder, write_pipeline_folder
from tests import file_schemas
from tests.command import ROOT, assert_one_line_error, harness
from tests.pipelines import ASSETS, CONFIG, PROMPTS, official_weights, write_run
from tests.weights_files import torch_saves

STEPS, GUIDANCE = 10, 7.5
PARTS = {"vae": ASSETS / "vae", "text_encoder": ASSETS / "text_encoder",
         "tokenizer": ASSETS / "tokenizer"}
FORMATS = ("ldm", "uvit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def run(folder):
    """Imported from an official-format .pth, so that the whole way is gone."""
    torch_saves(folder, official_weights())
    plan = importing.Plan(folder / "nnet_ema.pth", CONFIG, 1, folder / "run", data=ASSETS)
    return importing.import_run(plan)


@pytest.fixture(scope="module")
def exported(run, folder):
    return {
        form: exporting.export(exporting.Plan(run, folder / form, **PARTS, format=form))
        for form in FORMATS
    }


@pytest.fixture(scope="module")
def drawn(run):
    request = sample_prompts.Request(PROMPTS, 1, GUIDANCE, STEPS, seed=3, batch_size=2)
    return sample_prompts.draw(sample_prompts.open_run(run), request)


@pytest.fixture(scope="module")
def pipe(exported):
    from ppdiffusers import LDMTextToImagePipeline

    pipe = LDMTextToImagePipeline.from_pretrained(str(exported["ldm"]))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe, noise):
    """(latents, float images) of the pipeline's own call."""
    seen = []
    decode = pipe.vqvae.decode
    pipe.vqvae.decode = lambda z, *a, **k: (seen.append(z.numpy()), decode(z, *a, **k))[1]
    try:
        images = pipe(
            PROMPTS, guidance_scale=GUIDANCE, num_inference_steps=STEPS,
            latents=paddle.to_tensor(noise), output_type="np",
        ).images
    finally:
        pipe.vqvae.decode = decode
    return seen[0] * pipe.vqvae.config.scaling_factor, images


def assert_alike(latents, images, drawn):
    assert drawn.images.std() > 20  # pictures of something
    np.testing.assert_allclose(latents, drawn.latents, atol=1e-4)
    assert np.abs(images * 255 - drawn.images).max() <= 1


def test_ldm_gives_what_harness_sample_gives(pipe, drawn):
    assert_alike(*call(pipe, drawn.noise), drawn)


def test_the_tutorials_snippet(pipe, drawn):
    """Six lines; on a CPU build the memory-efficient kernel is refused with the reason."""
    with pytest.raises(NotImplementedError):
        pipe.enable_xformers_memory_efficient_attention()
    with pytest.raises(NotImplementedError, match="CPU build"):
        pipe.unet.set_use_memory_efficient_attention_xformers(True)
    plain = call(pipe, drawn.noise)[0]
    pipe.apply_tome(ratio=0.5)
    merged = call(pipe, drawn.noise)[0]
    assert pipe.unet.tome[0].merged == 8 and not pipe.unet.tome[0].mlp
    assert not np.allclose(merged, plain, atol=1e-4)
    pipe.apply_tome(ratio=0.5, merge_mlp=True)
    assert pipe.unet.tome[0].mlp
    pipe.remove_tome()
    assert np.array_equal(call(pipe, drawn.noise)[0], plain)


def typed(code, folder, **env):
    """`code` run by this Python in `folder`, with paddle's flags as they are for everybody."""
    plain = {key: value for key, value in os.environ.items()
             if key != "PYTHONPATH" and not key.startswith("FLAGS_")}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env={**plain, **env},
                          capture_output=True, text=True)


def snippet(folder, options=""):
    """The one in the docs, word for word but for the folder and, so that it is quick, the size."""
    text = (ROOT / "docs" / "weights.md").read_text()
    start = text.index("    from ppdiffusers import LDMTextToImagePipeline")
    small = "guidance_scale=7.5, height=64, width=64, num_inference_steps=2"
    return textwrap.dedent(text[start : text.index("\n\n", start)]).replace(
        "(DIR)", f"({str(folder)!r}{options})").replace("guidance_scale=7.5", small)


def test_the_snippet_in_the_docs_runs_in_a_process_of_its_own(exported, tmp_path):
    done = typed(snippet(exported["ldm"]), tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elephant.png").stat().st_size > 100


def test_the_snippet_in_float16_on_a_cpu_ends_with_the_reason(exported, tmp_path):
    code = "import paddle\npaddle.set_device('cpu')\n"
    code += snippet(exported["ldm"], ", paddle_dtype=paddle.float16")
    done = typed(code, tmp_path, PYTHONPATH=str(ROOT))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "no float16 kernels for the CPU" in last, done.stderr
    assert "leave paddle_dtype out" in last and "Error Message Summary" not in done.stderr


def test_pillow_writes_a_png_after_import_paddle(tmp_path):
    """The installation's .pth file loads Python's zlib before paddle's own."""
    code = "import paddle; from PIL import Image; Image.new('RGB', (64, 64)).save('a.png')"
    done = typed(code, tmp_path)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert (tmp_path / "a.png").stat().st_size > 0


def test_a_pipeline_saved_again_is_the_same(pipe, drawn, tmp_path):
    from ppdiffusers import LDMTextToImagePipeline

    pipe.save_pretrained(str(tmp_path / "again"))
    again = LDMTextToImagePipeline.from_pretrained(str(tmp_path / "again"))
    assert np.array_equal(call(again, drawn.noise)[0], call(pipe, drawn.noise)[0])


_ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("harness", "models", "eval", "reports", "baselines", "tests"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocker())
for name in ("harness", "models.pipeline"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit("the project can be imported here")
import numpy as np
import paddle
from ppdiffusers import DPMSolverMultistepScheduler
from ppdiffusers.pipelines import LDMTextToImageUViTPipeline

folder, noise, target, steps, guidance, *prompts = sys.argv[1:]
noise = paddle.to_tensor(np.load(noise))
pipe = LDMTextToImageUViTPipeline.from_pretrained(folder)
pipe.set_progress_bar_config(disable=True)
seen, given = {}, []
forward = pipe.unet.forward
pipe.unet.forward = lambda x, t, *a, **k: (given.append(int(t)), forward(x, t, *a, **k))[1]
size = 8 * noise.shape[-1]
common = dict(height=size, width=size, guidance_scale=float(guidance),
              num_inference_steps=int(steps), latents=noise, output_type="np")
images = pipe(prompts, callback=lambda i, t, x: seen.update(x=x.numpy()), **common).images
timesteps = list(given)
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
dpm = pipe(prompts, **common).images
np.savez(target, latents=seen["x"], images=images, timesteps=timesteps, dpm=dpm)
"""


def test_uvit_in_a_python_without_this_project(exported, drawn, tmp_path):
    np.save(tmp_path / "noise.npy", drawn.noise)
    plain = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", _ALONE, str(exported["uvit"]), str(tmp_path / "noise.npy"),
         str(tmp_path / "out.npz"), str(STEPS), str(GUIDANCE), *PROMPTS],
        check=True, cwd=tmp_path, env=plain,
    )
    found = np.load(tmp_path / "out.npz")
    assert_alike(found["latents"], found["images"], drawn)
    # what the network is trained on: index t = 901, 801, ... of the schedule is its step n = t + 1
    assert found["timesteps"].tolist() == list(range(902, 0, -100))
    assert np.isfinite(found["dpm"]).all() and found["dpm"].std() > 0.05


@pytest.mark.parametrize("form", FORMATS)
def test_harness_sample_reads_its_own_export(exported, drawn, form):
    pipeline = sample_prompts.open_folder(exported[form])
    request = sample_prompts.Request(PROMPTS, 1, GUIDANCE, STEPS, seed=3, batch_size=2)
    again = sample_prompts.draw(pipeline, request)
    assert np.array_equal(again.latents, drawn.latents)
    assert np.abs(again.images.astype(int) - drawn.images).max() <= 1


@pytest.mark.parametrize("form", FORMATS)
def test_harness_import_reads_it_back(exported, run, tmp_path, form):
    again = importing.import_run(importing.Plan(exported[form], CONFIG, 1, tmp_path / "run"))
    first, second = (
        exporting.checkpoints.load(r.checkpoint(0), parts=("ema",)) for r in (run, again)
    )
    for name, array in first.parts["ema"].items():
        assert np.array_equal(second.parts["ema"][name], array)


def test_the_rescaled_vae_is_the_same_in_other_units(exported):
    plain = autoencoder.load(ASSETS / "vae")
    scaled = autoencoder.load(exported["uvit"] / "vqvae")
    factor = 0.2301 / 0.18215
    assert scaled.scaling_factor == 0.18215
    random = np.random.default_rng(0)
    latents = random.standard_normal((2, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(
        scaled.decode(latents * factor), plain.decode(latents), atol=1e-4)
    images = random.uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    mean, logvar = np.split(plain.encode_moments(images), 2, axis=1)
    found_mean, found_logvar = np.split(scaled.encode_moments(images), 2, axis=1)
    np.testing.assert_allclose(found_mean, mean * factor, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found_logvar, logvar + 2 * np.log(factor), rtol=1e-3, atol=1e-4)


def test_shifted_betas_shift_the_levels_by_one():
    from models.diffusion import Schedule

    schedule = Schedule()
    levels = np.cumprod(1 - np.array(write_pipeline_folder.shifted_betas(schedule.betas)))
    np.testing.assert_allclose(levels[1:], schedule.alphas_cumprod, rtol=1e-12)
    assert levels[0] == levels[1]


def test_ema_by_default_and_raw_weights_if_asked(tmp_path):
    from models.pipeline import read_unet

    run = write_run(tmp_path / "run")
    ema = exporting.export(exporting.Plan(run, tmp_path / "a", **PARTS))
    raw = exporting.export(exporting.Plan(run, tmp_path / "b", **PARTS, weights="model"))
    a, b = (read_unet(f / "unet")[0].pos_embed.numpy() for f in (ema, raw))
    np.testing.assert_allclose(b, a * 1.01, rtol=1e-5)
    note = json.loads((ema / "harness.json").read_text())
    assert (note["step"], note["weights"], note["latent_scale"]) == (3, "ema", 0.2301)


@pytest.mark.parametrize("change, error, words", [
    ({"vae": ASSETS / "nowhere"}, EnvironmentFault, "nowhere"),
    ({"model_max_length": 10}, DataError, "tokens of a prompt: 10, but"),
    ({"model_max_length": 4000}, DataError, "4000"),
    ({"step": 9}, UsageError, "step 9"),
    ({"vae": ASSETS / "text_encoder"}, DataError, "text_encoder"),
])
def test_what_does_not_fit_is_refused_and_nothing_is_left(run, tmp_path, change, error, words):
    with pytest.raises(error, match=words):
        exporting.export(exporting.Plan(run, tmp_path / "out", **{**PARTS, **change}))
    assert list(tmp_path.iterdir()) == []


def test_a_taken_directory_is_left_alone(run, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match="not an empty"):
        exporting.export(exporting.Plan(run, tmp_path, **PARTS))
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_a_failure_while_writing_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_pipeline_folder, "write_scheduler", fail)
    with pytest.raises(EnvironmentFault, match="No space"):
        exporting.export(exporting.Plan(run, tmp_path / "out", **PARTS))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key, value", [
    ("num_attention_heads", 0), ("sample_size", 10**9), ("sample_size", 4096), ("num_layers", 3),
    ("num_layers", 6), ("mlp_ratio", "4"), ("mlp_ratio", 64), ("qkv_bias", 1), ("clip_dim", 65536),
])
def test_a_unet_config_that_lies_costs_an_error_only(exported, tmp_path, key, value):
    from models.pipeline import read_unet

    unet = exported["ldm"] / "unet"
    config = json.loads((unet / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    name = "diffusion_paddle_model.safetensors"
    (tmp_path / name).symlink_to(unet / name)
    with pytest.raises(DataError, match="config.json|fit"):
        read_unet(tmp_path)


def test_the_command(run, tmp_path):
    done = harness("export", run.directory, "-o", tmp_path / "out")
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "out"), done.stderr
    assert done.stderr == ""  # paddlenlp would tell of each file
    assert (tmp_path / "out" / "bert" / "config.json").is_file()
    file_schemas.check(tmp_path / "out" / exporting.NOTE)
    failed = harness("export", tmp_path / "out", "-o", tmp_path / "other")
    assert_one_line_error(failed, 2, "is not a run")
    assert runs.load(run.directory).name == "run"
