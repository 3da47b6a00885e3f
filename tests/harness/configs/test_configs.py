
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import configs
from harness.base.errors import UsageError
from harness.configs.shipped_names import FOLDER
from tests.fixtures import tiny_config


def test_every_shipped_config_is_pinned_by_digest():
    found = {name: configs.digest(configs.load(name)) for name in configs.shipped()}
    assert found == PINNED


# A changed digest is another experiment: change it here only if that is what you mean.
PINNED = {
    "digits_tiny": "d57748ba6fbde61b25cd32506926ae960e621c99307ff8d9f07cd72aab8dea5a",
    "digits_tiny_deep": "c602e36dae293e5ca1e9d4f72fcdcf5f4da835f953563ccaa3a2e994e491d26e",
    "huge": "d67c59b8713cf28cc188f8766cd293918007d3c80adcae1d29b986a39d7f9b41",
    "large": "1efcf8051f9d5b9db0e8219a4aa43985f1551799cf2154c8e34ec82f02d71c63",
    "mid": "78ff09c7d0a33a75f31f6c495bb94f45e8e294787c8858ec4c08d6430261fff5",
    "paddlemix_850m": "e9822a33afd9b282582f540234236ad606503ff6ab253df239d56ac6df190b70",
    "paddlemix_giant": "73d96563e38ac672d7256968640e723389eda1f319e1da377f1c99774f3a6c92",
    "paddlemix_giant2": "16c7fd15bff35f792f0b553fde218365e7433fff1a3e3e57db5eae30236d2dd7",
    "paddlemix_large": "12b19c77375f8f78cf1bfd4dde2f8da33302af4b6a0051490fe2fedcdbf6c4f0",
    "small": "4cceb3b14795cce0d2546acf4c5467c7b0b4a1baba066f65231d4caa486adc0a",
    "small_deep": "528964d8c0b381fea0165f35f61aa26e4a3406a3e3810d68d05e4741a3d4e184",
}


@pytest.mark.parametrize("name", configs.shipped())
def test_a_shipped_config_says_everything(name):
    """No shipped file leaves a value to a default, so a default may change without harm."""
    config = configs.load(name)
    text = (FOLDER / f"{name}.toml").read_text()
    for section, values in configs.resolved(config).items():
        keys = values if isinstance(values, dict) else [section]
        for key in keys:
            assert f"\n{key} = " in "\n" + text, f"{name}: {section}.{key}"


@pytest.mark.parametrize("name", configs.shipped())
def test_describe_can_be_loaded_again(name, tmp_path):
    config = configs.load(name)
    path = tmp_path / "copy.toml"
    path.write_text(configs.describe(config))
    assert configs.load(str(path)) == config
    assert configs.is_pinned(configs.load(str(path)))


def test_set_changes_one_value_and_unpins():
    config = configs.load("small", ["optim.lr=1e-4"])
    assert config.optim.lr == 1e-4
    assert not configs.is_pinned(config)
    changed = configs.differences(
        configs.resolved(configs.load("small")), configs.resolved(config)
    )
    assert changed == {"optim.lr": (2e-4, 1e-4)}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lrr=1", "did you mean 'optim.lr'"),
        ("lr=1", "did you mean 'optim.lr'"),
        ("train.max_step=2", "did you mean 'train.max_steps'"),
        ("optim.lr=fast", "optim.lr"),
        ("optim.lr=true", "optim.lr"),
        ("train.max_steps=1.5", "train.max_steps"),
        ("train.max_steps=0", "train.max_steps"),
        ("optim.lr=nan", "optim.lr"),
        ("optim.max_grad_norm=0", "-1 turns clipping off"),
        ("model.num_layers=3", "odd"),
        ("model.patch_size=3", "multiple of patch_size"),
        ("model.attention_head_dim=100000", "width"),
        ("train.global_batch_size=250", "possible: 1, 2, 5"),
        ("train.precision=fp8", "fp32"),
        ("diffusion.beta_start=0.5", "above beta_end"),
        ("name=../up", "name"),
        ("=3", "section.key=value"),
        ("optim", "section.key=value"),
        ("name.deep=1", "value, not a section"),
    ],
)
def test_a_wrong_override_is_refused_and_named(override, said):
    with pytest.raises(UsageError, match=".+") as error:
        configs.load("small", [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_suggests_the_right_one():
    with pytest.raises(UsageError, match="did you mean 'small_deep'"):
        configs.load("smal_deep")


def test_files_that_are_no_configs(tmp_path):
    bad = tmp_path / "bad.toml"
    for content in (b"\xff\xfe", b"[[", b"name = ", b"a=" + b"[" * 5000, b""):
        bad.write_bytes(content)
        with pytest.raises(UsageError) as error:
            configs.load(str(bad))
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="does not exist"):
        configs.load(str(tmp_path / "none.toml"))


def test_a_seed_of_its_own_keeps_the_digest():
    assert configs.digest(tiny_config()) != configs.digest(tiny_config("train.seed=5"))


@given(st.floats(min_value=1e-8, max_value=1.0, allow_nan=False))
def test_digest_is_a_function_of_the_values(lr):
    a = tiny_config(f"optim.lr={lr!r}")
    b = tiny_config(f"optim.lr={lr:.17e}")
    assert configs.digest(a) == configs.digest(b)


def test_whole_numbers_stand_for_floats():
    assert configs.digest(tiny_config("optim.eps=1")) == configs.digest(
        tiny_config("optim.eps=1.0")
    )
