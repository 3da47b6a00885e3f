"""Every kind of weights becomes a run with the same numbers; everything else is refused."""

import json

import numpy as np
import paddle
import pytest

from baselines.torch_peer import lively_weights
from eval.evaluation.evaluate_run import load_ema
from harness import runs
from harness.base.errors import DataError, UsageError
from harness.conversion import importing
from harness.conversion.weight_namings import read
from harness.reproduction import run_again
from harness.runs import checkpoints
from harness.training import train
from harness.training.learning_rate import learning_rate
from models import weights
from models.uvit import UViT
from tests import file_schemas
from tests.command import assert_one_line_error, harness
from tests.fixtures import tiny_config, write_features, write_tiny_config
from tests.weights_files import paddlemix, torch_saves

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def model():
    model = UViT(**CONFIG.model.model_dump())
    weights.load_official(model, lively_weights(model))
    return model


@pytest.fixture(scope="module")
def official(model, tmp_path_factory):
    return torch_saves(tmp_path_factory.mktemp("official"), weights.to_official(model))


def own(model):
    return {name: p.numpy() for name, p in model.named_parameters()}


def make(source, directory, **more):
    return importing.import_run(importing.Plan(source, CONFIG, 7, directory, **more))


def parts(run, step=0):
    return checkpoints.load(run.checkpoint(step), config_digest=run.info["digest"]).parts


def assert_same(found, want):
    assert found.keys() == want.keys()
    for name, array in want.items():
        assert found[name].dtype == np.float32 and np.array_equal(found[name], array), name


def test_official_checkpoint(official, model, tmp_path):
    run = make(official / "nnet_ema.pth", tmp_path / "run", step=1_000)
    found = parts(run, 1_000)
    assert_same(found["model"], own(model))
    assert_same(found["ema"], own(model))
    assert all(not array.any() for array in found["optimizer"].values())
    assert run.info["imported"]["kind"] == "official" and not run.info["imported"]["ema"]
    assert load_ema(run, None)[0] == 1_000
    assert file_schemas.check_all(run.directory) == {"run", "manifest", "state"}


def test_official_folder_with_both_sets(official, model, tmp_path):
    folder = tmp_path / "ckpt"
    folder.mkdir()
    (folder / "nnet_ema.pth").write_bytes((official / "half.pth").read_bytes())
    (folder / "nnet.pth").write_bytes((official / "parameters.pth").read_bytes())
    found = parts(make(folder, tmp_path / "run"))
    assert_same(found["model"], own(model))
    half = {n: a.astype(np.float16).astype(np.float32) for n, a in own(model).items()}
    assert_same(found["ema"], half)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("affine", [False, True])
def test_paddlemix_trainer(model, tmp_path, ema, dtype, affine):
    state = paddlemix(model, ema=ema, dtype=dtype, affine=affine)
    path = tmp_path / "checkpoint-5000" / "model_state.pdparams"
    path.parent.mkdir()
    paddle.save(state, str(path))
    found = parts(make(path.parent if ema else path, tmp_path / "run"))
    # paddle rounds to half towards zero, numpy to nearest: what counts is what the file holds
    want = {n: p.astype(dtype).numpy().astype(np.float32) for n, p in model.named_parameters()}
    averaged = {n: a * np.float32(0.5) for n, a in own(model).items()} if ema else want
    if not affine:
        for name in (n for n in want if "norm" in n):
            neutral = np.full_like(want[name], name.endswith("weight"))
            want[name] = averaged[name] = neutral
    assert_same(found["model"], want)
    assert_same(found["ema"], averaged)


@pytest.mark.parametrize("form", ["pd", "pt", "pdparams"])
def test_ppdiffusers_folder(model, tmp_path, form):
    from safetensors.numpy import save_file

    folder = tmp_path / "pipeline" / "unet"
    folder.mkdir(parents=True)
    (folder.parent / "model_index.json").write_text("{}")
    config = {**CONFIG.model.model_dump(), "_class_name": "U"}
    (folder / "config.json").write_text(json.dumps(config))
    if form == "pd":
        save_file(own(model), folder / "diffusion_paddle_model.safetensors", {"format": "pd"})
    elif form == "pt":
        save_file(weights.to_official(model), folder / "diffusion_pytorch_model.safetensors")
    else:
        paddle.save(model.state_dict(), str(folder / "model_state.pdparams"))
    for number, source in enumerate((folder, folder.parent)):
        run = make(source, tmp_path / f"run{number}")
        assert run.info["imported"]["kind"] == "ppdiffusers"
        assert_same(parts(run)["ema"], own(model))


def test_other_sizes_in_a_folder_are_refused_though_the_shapes_fit(model, tmp_path):
    stated = {**CONFIG.model.model_dump(), "num_attention_heads": 4, "attention_head_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    paddle.save(model.state_dict(), str(tmp_path / "model_state.pdparams"))
    with pytest.raises(DataError, match="num_attention_heads 4 there, 2 in the config"):
        make(tmp_path, tmp_path / "run")


def test_missing_unexpected_and_misshapen_are_listed_and_nothing_is_left(model, tmp_path):
    state = paddlemix(model, ema=True)
    del state["unet.mid_block.attn.proj.bias"]
    state["unet.time_embed.weight"] = paddle.ones([2])
    state["optimizer.beta"] = paddle.ones([1])
    state["unet.pos_embed"] = paddle.ones([1, 3, 32])
    paddle.save(state, str(tmp_path / "x.pdparams"))
    with pytest.raises(DataError) as error:
        make(tmp_path / "x.pdparams", tmp_path / "run")
    for words in ("missing mid_block.attn.proj.bias", "unexpected time_embed.weight",
                  "unexpected optimizer.beta", "pos_embed has shape [1, 3, 32]"):
        assert words in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pdparams"]


def test_an_ema_that_lacks_a_tensor_is_refused(model, tmp_path):
    state = paddlemix(model, ema=True)
    del state["model_ema.pos_embed"]
    paddle.save(state, str(tmp_path / "x.pdparams"))
    with pytest.raises(DataError, match="missing pos_embed"):
        make(tmp_path / "x.pdparams", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_taken_directory_is_left_alone(official, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note").write_text("mine")
    with pytest.raises(UsageError, match="not an empty"):
        make(official / "nnet_ema.pth", tmp_path / "run")
    assert (tmp_path / "run" / "note").read_text() == "mine"


def test_a_failure_while_writing_leaves_nothing(official, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_write_parts", fail)
    with pytest.raises(Exception, match="No space"):
        make(official / "nnet_ema.pth", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_from_it(official, model, tmp_path):
    features = write_features(tmp_path / "data")
    run = make(official / "nnet_ema.pth", tmp_path / "run", step=4, data=features)
    train.train(train.Plan(CONFIG, 7, run.directory, features, workers=0))
    assert runs.load(run.directory).checkpoint_steps()[-1] == 6
    assert [line["step"] for line in run.metrics()] == [5, 6]
    moved = parts(run, 6)["model"]["pos_embed"]
    assert 0 < np.abs(moved - own(model)["pos_embed"]).max() < 0.01


def test_its_beginning_is_kept_and_can_be_verified_from(official, tmp_path):
    features = write_features(tmp_path / "data")
    sets = ("train.save_steps=1", "train.keep_checkpoints=1")
    config = tiny_config(*sets)
    plan = importing.Plan(official / "nnet_ema.pth", config, 7, tmp_path / "run", step=3)
    run = importing.import_run(plan)
    train.train(train.Plan(config, 7, run.directory, features, workers=0))
    assert run.checkpoint_steps() == [3, 6]
    assert run_again.verify(run, data_directory=features)["verdict"] == "identical"


def test_the_first_step_from_it_is_adam_s_first(official, model, tmp_path):
    features = write_features(tmp_path / "data")
    whole, stopped = (
        make(official / "nnet_ema.pth", tmp_path / name, step=4, data=features)
        for name in ("whole", "stopped")
    )
    train.train(train.Plan(CONFIG, 7, whole.directory, features, workers=0))
    for until in (5, None):
        train.train(train.Plan(CONFIG, 7, stopped.directory, features, workers=0, until=until))
        if until:
            first = parts(stopped, until)["model"]
    assert_same(parts(stopped, 6)["model"], parts(whole, 6)["model"])
    lr = learning_rate(CONFIG.optim, 5, CONFIG.train.max_steps)
    for name in ("pos_embed", "mid_block.attn.qkv.weight"):
        # m = (1 - beta1) g and v = (1 - beta2) g^2, corrected: a step of lr for every element.
        kept = own(model)[name] * (1 - lr * CONFIG.optim.weight_decay)
        assert np.median(np.abs(kept - first[name])) == pytest.approx(lr, rel=1e-2)


def test_the_command(official, tmp_path):
    config = write_tiny_config(tmp_path / "tiny.toml")
    done = harness("import", official / "nnet_ema.pth", "--config", config, "-o", tmp_path / "run")
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / "run"), done.stderr
    torn = tmp_path / "torn.pth"
    torn.write_bytes((official / "nnet_ema.pth").read_bytes()[:3000])
    failed = harness("import", torn, "--config", config, "-o", tmp_path / "other")
    assert_one_line_error(failed, 4, "torn.pth")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name, wanted", [
    ("w.pth", "torch.save"), ("w.pdparams", "paddle.save"), ("w.safetensors", "safetensors")
])
def test_a_file_that_is_not_what_its_name_says(name, wanted, tmp_path):
    (tmp_path / name).write_text("a page of a proxy\n")
    with pytest.raises(DataError, match=wanted):
        read(tmp_path / name, [])
