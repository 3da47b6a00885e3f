
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import configs
from harness.configs.names import FOLDER
from harness.errors import UsageError
from tests.fixtures import tiny_config


def test_every_shipped_config_is_pinned_by_digest():
    found = {name: configs.digest(configs.load(name)) for name in configs.shipped()}
    assert found == PINNED


# A changed digest is another experiment: change it here only if that is what you mean.
PINNED = {
    "huge": "9ec3a7acd32f8c36259ad0b96b2d3b1f52f3f4f3c166045994aef04baa84b156",
    "large": "f76e42f220235c6462e16ce4fcf44abf0ee79e92620e8181266d4acfa162febc",
    "mid": "4f7004fc616e44013bc2c85cafeeb83a431a5e39f3ca24be6ac4feb538af7a3f",
    "paddlemix_850m": "a89fe02520300f53c5125daaa06ac1400c64b90950b437f0bd0c643efd759198",
    "paddlemix_giant": "26650845a75689c9da66647e43f72f4e2d231faa4198a06d4f03ec34b3350165",
    "paddlemix_giant2": "99d8e48b89e79fb20b72d15784ea5075f8212cb7f61d7f0ef2655e6842effa8c",
    "paddlemix_large": "79811a13efef174ba116a43da276f988360925638083da38f7ae5c657c1a2d98",
    "small": "18e7f539608ddf0cc8c7118a408bb89e1fb0f866453d76c6784cd5e6dff0eb2e",
    "small_deep": "bb235ded443119020c303a53159ac076c45965f3af8b031366192fe76f8710ba",
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
