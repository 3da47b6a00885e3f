"""A study's file: its cells and digest, and every way to get it wrong in one line."""

import json

import pytest

from harness import configs
from harness.base.errors import DataError, UsageError
from harness.studies import study_file
from tests.fixtures import write_tiny_config

GOOD = """
name = "depth"
question = "Does depth help?"
configs = ["digits_tiny", "digits_tiny_deep"]
seeds = [1, 2, 3]
steps = 40
evaluate = [40, 20]
kernels = ["fused", "paddle"]

[variants]
base = []
slow = ["optim.lr=1e-4"]

[protocols.quick]
protocol = "digits-ddim20-200"
n_samples = 50
guidance_scale = 3

[[comparisons]]
against = "digits_tiny"
metrics = ["fd_digits", "val_loss"]
minimum = {fd_digits = 0.05}

[[comparisons]]
axis = "kernels"
pairs = [["fused", "paddle"]]
metrics = ["throughput"]
"""


def write(folder, text=GOOD):
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_cells_come_in_one_order_and_say_what_they_train(tmp_path):
    study = study_file.load(write(tmp_path))
    cells = study.cells()
    assert len(cells) == len({cell.id for cell in cells}) == 2 * 2 * 2 * 3
    assert [cell.id for cell in cells[:4]] == [
        "digits_tiny-base-fused-s1", "digits_tiny-base-fused-s2", "digits_tiny-base-fused-s3",
        "digits_tiny-base-paddle-s1",
    ]
    assert cells[-1].axes == {
        "config": "digits_tiny_deep", "variant": "slow", "stack": "this", "kernels": "paddle"
    }
    assert cells[-1].seed == 3
    assert study.config(cells[0].axes) == configs.load("digits_tiny")
    assert study.config(cells[-1].axes) == configs.load("digits_tiny_deep", ["optim.lr=1e-4"])
    assert study.evaluated_steps(cells[0].axes) == (20, 40)
    quick = study.protocols["quick"]
    assert quick.of(study.config(cells[0].axes)).name == "digits-ddim20-200+n50+g3"
    assert quick.options(study.config(cells[0].axes)) == [
        "--protocol", "digits-ddim20-200", "--n-samples", "50", "--guidance-scale", "3.0"
    ]
    first, second = study.comparisons
    assert study.pairs(first) == [("digits_tiny_deep", "digits_tiny")]
    assert study.pairs(second) == [("fused", "paddle")]
    assert first.effects() == {"fd_digits": 0.05, "val_loss": 0.01}


def test_a_nought_in_a_protocol_is_asked_of_the_evaluation(tmp_path):
    """Else cells would be evaluated by the protocol's own seed, and never be done."""
    text = GOOD.replace("guidance_scale = 3", "seed = 0\neta = 0.0\ntome_mlp = false")
    study = study_file.load(write(tmp_path, text))
    config = study.config(study.cells()[0].axes)
    assert study.protocols["quick"].of(config).name == "digits-ddim20-200+n50+s0"
    assert study.protocols["quick"].options(config)[-4:] == ["--eta", "0.0", "--seed", "0"]


def test_the_digest_is_of_the_values_and_of_the_configs_contents(tmp_path):
    study = study_file.load(write(tmp_path))
    assert study_file.load(write(tmp_path, GOOD.replace("= 3\n", "= 3.0  # as it was\n"))) == study
    for other in (GOOD.replace("[1, 2, 3]", "[1, 2]"), GOOD.replace("steps = 40", "steps = 41"),
                  GOOD.replace("depth help", "width help"), GOOD + "[stacks]\nmine = ''\n"):
        assert study_file.load(write(tmp_path, other)).digest != study.digest
    # A config's file is part of it, wherever it lies.
    digests = []
    for lr in ("1e-3", "2e-3", "1e-3"):
        text = write_tiny_config(tmp_path / "tiny.toml").read_text()
        (tmp_path / "tiny.toml").write_text(text.replace("[optim]", f"[optim]\nlr = {lr}"))
        path = write(tmp_path, 'name="a"\nquestion="b"\nconfigs=["./tiny.toml"]\nseeds=[1]\n')
        digests.append(study_file.load(path).digest)
    assert digests[0] == digests[2] != digests[1]


def test_left_out_means_the_config_as_it_is(tmp_path):
    path = write(tmp_path, 'name="a"\nquestion="b"\nconfigs=["digits_tiny"]\nseeds=[1]\n')
    study = study_file.load(path)
    (cell,) = study.cells()
    assert cell.id == "digits_tiny-s1"
    assert study.evaluated_steps(cell.axes) == (1000,)
    assert study.protocols["own"].of(study.config(cell.axes)).name == "digits-ddim50"
    none = study_file.load(write(tmp_path, path.read_text() + "evaluate = []\n"))
    assert none.evaluated_steps(cell.axes) == () and none.digest != study.digest


def test_what_was_recorded_is_the_same_study(tmp_path):
    study = study_file.load(write(tmp_path))
    values = json.loads(json.dumps(study.resolved()))
    assert study_file.from_values(values, source="there") == study
    assert study_file.from_values(values, source="there").digest == study.digest
    values["configs"]["digits_tiny"]["optim"]["lr"] = -1
    with pytest.raises(DataError, match=r"recorded in there: configs.digits_tiny.optim.lr"):
        study_file.from_values(values, source="there")
    with pytest.raises(DataError, match="recorded in there"):
        study_file.from_values([], source="there")


def changed(old, new):
    assert old in GOOD, old
    return GOOD.replace(old, new)


BROKEN = {
    "not TOML": ("name = ", "is not TOML"),
    "no text": (b"\xff\xfe", "not UTF-8"),
    "empty": ("", "configs is no list"),
    "too large": (GOOD + "#" * (1 << 20), "larger than"),
    "deep": ("a = " + "[" * 5000, "is not TOML"),
    "no name": (changed('name = "depth"', ""), "name is missing"),
    "a name that is a path": (changed('"depth"', '"../up"'), "name: "),
    "no question": (changed('question = "Does depth help?"', ""), "question is missing"),
    "a misspelt key": (changed("seeds", "seed"), "'seeds'"),
    "a misspelt key of a protocol": (changed("n_samples", "n_sample"), "'protocols.n_samples'"),
    "configs of no names": (changed('["digits_tiny", "digits_tiny_deep"]', "[1]"), "no list"),
    "no configs": (changed('["digits_tiny", "digits_tiny_deep"]', "[]"), "configs: "),
    "an unknown config": (changed('"digits_tiny_deep"', '"digits_tini"'), "did you mean"),
    "a config twice": (changed('"digits_tiny_deep"', '"digits_tiny"'), "two configs are called"),
    "a config's file that is not there": (changed('"digits_tiny_deep"', '"no.toml"'), "not exist"),
    "no seeds": (changed("[1, 2, 3]", "[]"), "seeds: "),
    "a seed twice": (changed("[1, 2, 3]", "[1, 1]"), "twice"),
    "a seed below zero": (changed("[1, 2, 3]", "[-1]"), "seeds.0: "),
    "a seed of words": (changed("[1, 2, 3]", '["1"]'), "seeds.0: "),
    "no steps at all": (changed("steps = 40", "steps = 0"), "steps: "),
    "more steps than the config's": (changed("steps = 40", "steps = 5000"), "max_steps"),
    "evaluated after the end": (changed("[40, 20]", "[41]"), "after the last"),
    "unknown kernels": (changed('"paddle"]\n\n', '"mine"]\n\n'), "kernels.1: "),
    "no variants": (changed('base = []\nslow = ["optim.lr=1e-4"]', ""), "variants: is empty"),
    "a variant that is a word": (changed('["optim.lr=1e-4"]', '"optim.lr=1e-4"'), "variants.slow"),
    "a variant of no key": (changed("optim.lr=1e-4", "optim.lrr=1e-4"), "did you mean 'optim.lr'"),
    "a variant of no form": (changed("optim.lr=1e-4", "optim.lr"), "section.key=value"),
    "two variants that are one": (changed("optim.lr=1e-4", "optim.lr=0.002"), "make the same"),
    "an unknown protocol": (changed("digits-ddim20-200", "digits-ddim"), "unknown protocol"),
    "an impossible protocol": (changed("guidance_scale", "eta"), "not within 0..1"),
    "an unknown sampler": (changed("guidance_scale = 3", 'sampler = "x"'), "protocols.quick"),
    "compared along no axis": (changed('axis = "kernels"', 'axis = "kernel"'), "comparisons.1"),
    "compared with nobody": (changed('against = "digits_tiny"', 'against = "x"'), "no config 'x'"),
    "compared with itself": (changed('["fused", "paddle"]]', '["fused", "fused"]]'), "no pair"),
    "compared in no way": (changed('against = "digits_tiny"\n', ""), "either"),
    "an unknown metric": (changed('["throughput"]', '["speed"]'), "no metric 'speed'"),
    "no metric": (changed('["throughput"]', "[]"), "metrics: "),
    "an effect of nothing": (changed("fd_digits = 0.05", "fid = 0.05"), "not among the metrics"),
    "an effect below zero": (changed("fd_digits = 0.05", "fd_digits = -1.0"), "minimum.fd_digits"),
    "an axis of one": (changed('axis = "kernels"', 'axis = "stack"'), "nothing to compare"),
    "no thread": ("threads = 0\n" + GOOD, "threads: "),
    "too many cells": (changed("[1, 2, 3]", str(list(range(9_999))))
                       + "[stacks]\na=''\nb=''\n", "cells are"),
    "names that run together": (
        'name="a"\nquestion="b"\nconfigs=["digits_tiny"]\nseeds=[1]\n'
        '[variants]\na=[]\na-b=["optim.lr=0.1"]\n[stacks]\nb-c=""\nc=""\n', "the same name"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line_that_says_where(tmp_path, text, said):
    path = tmp_path / "study.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=".") as raised:
        study_file.load(path)
    assert said in str(raised.value), str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
