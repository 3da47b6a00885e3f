"""The frozen VAE: right numbers out of every kind of folder, and no folder that harms."""

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness.base.errors import DataError, EnvironmentFault
from harness.digits import dataset
from harness.digits import pictures as digits_pictures
from harness.files import unpickle
from models.pretrained import autoencoder, model_folder

WEIGHTS = "diffusion_paddle_model.safetensors"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(dataset.ASSETS / "vae", tmp_path / "vae")


@pytest.fixture(scope="module")
def images():
    pixels = digits_pictures.rgb(digits_pictures.load()[0][:6]).astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def test_moments_and_images_are_ppdiffusers_own(images):
    import paddle
    from ppdiffusers import AutoencoderKL

    ours = autoencoder.load(dataset.ASSETS / "vae")
    theirs = AutoencoderKL.from_pretrained(str(dataset.ASSETS / "vae"))
    moments = ours.encode_moments(images)
    assert moments.shape == (6, 2, 8, 8) and moments.dtype == np.float32
    posterior = theirs.encode(paddle.to_tensor(images)).latent_dist
    np.testing.assert_allclose(moments[:, :1], posterior.mean.numpy(), atol=1e-6)
    np.testing.assert_allclose(moments[:, 1:], posterior.logvar.numpy(), atol=1e-6)
    decoded = ours.decode(moments[:, :1])
    theirs_decoded = theirs.decode(paddle.to_tensor(moments[:, :1])).sample.numpy()
    np.testing.assert_allclose(decoded, theirs_decoded, atol=1e-6)
    assert decoded.shape == images.shape and decoded.dtype == np.float32
    # Readable: see tests/eval/features/test_digits.py.
    assert ((decoded - images) ** 2).mean() < 0.01
    assert ours.factor == 8 and ours.latent_channels == 1
    assert all(parameter.stop_gradient for parameter in ours.model.parameters())


def test_latents_have_the_scale_that_config_says(images):
    vae = autoencoder.load(dataset.ASSETS / "vae")
    mean, logvar = np.split(vae.encode_moments(images).astype(np.float64), 2, axis=1)
    std = (mean.var() + np.exp(logvar).mean()) ** 0.5
    assert std * vae.scaling_factor == pytest.approx(1, abs=0.1)


def old_names(arrays):
    """The names, and the 1x1 convolutions, of Stable Diffusion's VAE as first published."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    out = {}
    for name, array in arrays.items():
        for new, former in old.items():
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{former}.")
                array = array.T[:, :, None, None] if array.ndim == 2 else array
        out[name] = np.ascontiguousarray(array)
    return out


def as_torch(folder, arrays):
    turned = {k: np.ascontiguousarray(a.T if a.ndim == 2 else a) for k, a in arrays.items()}
    save_file(turned, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})


def as_paddle(folder, arrays):
    import paddle

    tensors = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    paddle.save(tensors, str(folder / "model_state.pdparams"))


def as_old(folder, arrays):
    save_file(old_names(arrays), folder / WEIGHTS, {"format": "pd"})


def as_half(folder, arrays):
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    save_file(half, folder / WEIGHTS, {"format": "pd"})


@pytest.mark.parametrize("write", [as_torch, as_paddle, as_old, as_half])
def test_every_layout_that_is_about_gives_the_same_images(folder, images, write):
    expected = autoencoder.load(folder).encode_moments(images)
    arrays = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    write(folder, arrays)
    tolerance = 0.05 if write is as_half else 1e-5
    np.testing.assert_allclose(
        autoencoder.load(folder).encode_moments(images), expected, atol=tolerance
    )


def test_what_is_missing_is_named_with_its_remedy(tmp_path, folder):
    with pytest.raises(EnvironmentFault, match="no autoencoder at .*nowhere.*; "):
        autoencoder.load(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    with pytest.raises(EnvironmentFault, match="no weights in"):
        autoencoder.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json is missing"):
        autoencoder.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("block_out_channels", [8, 8, 32, 10**9], "block_out_channels is 1000000000"),
        ("block_out_channels", "wide", "not a list"),
        ("latent_channels", -4, "latent_channels is -4"),
        ("latent_channels", True, "latent_channels is true"),
        ("norm_num_groups", 5, "norm_num_groups 5 does not divide"),
        ("layers_per_block", 10**6, "layers_per_block"),
        ("layers_per_block", 2, "lacks decoder\\.up_blocks\\.0\\.resnets\\.2"),
        ("block_out_channels", [8, 8, 32, 64], "does not fit its config.json"),
        ("down_block_types", ["AttnDownEncoderBlock2D"] * 4, "blocks other than"),
        ("scaling_factor", "0.18", "scaling_factor"),
        ("act_fn", "os.system", "act_fn"),
    ],
)
def test_a_bad_config_is_refused(folder, key, value, complaint):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(DataError, match=complaint):
        autoencoder.load(folder)


def test_broken_weights_are_refused(folder):
    whole = (folder / WEIGHTS).read_bytes()
    for data in (b"", whole[:100], whole[:-1], b"\xff" * 4096, whole[:8] + b"}" + whole[9:]):
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(DataError, match="safetensors"):
            autoencoder.load(folder)
    arrays = load_file(dataset.ASSETS / "vae" / WEIGHTS)
    arrays["quant_conv.bias"][0] = np.nan
    save_file(arrays, folder / WEIGHTS)
    with pytest.raises(DataError, match=r"quant_conv\.bias has values that are not finite"):
        autoencoder.load(folder)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_that_would_run_code_runs_none(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    trap = tmp_path / "sprung"
    for content in (Hostile(str(trap)), {"quant_conv.weight": Hostile(str(trap))}):
        (folder / "model_state.pdparams").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="asks for"):
            autoencoder.load(folder)
    for content in ([1, 2], {"quant_conv.weight": "text"}, {3: np.zeros(2)}):
        (folder / "model_state.pdparams").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="state dict|not an array"):
            autoencoder.load(folder)
    assert not trap.exists()


def test_reading_a_folder_never_uses_the_ordinary_unpickler(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(unpickle, "load", lambda file, path: seen.append(path) or {})
    (folder / WEIGHTS).unlink()
    (folder / "model_state.pdparams").write_bytes(b"anything")
    assert model_folder.read_weights(folder) == {} and len(seen) == 1
