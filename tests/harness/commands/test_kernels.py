"""--kernels and --execution from the command line: one first loss, recorded, kept, refused."""

import json

import pytest

from harness import runs
from tests.command import assert_one_line_error, harness
from tests.fixtures import write_tiny_config

WAYS = {"fused": (), "paddle": ("--kernels", "paddle"), "static": ("--execution", "static")}


@pytest.fixture(scope="module")
def trained(features, tmp_path_factory):
    """{way: (directory, what was said)}; three steps each."""
    folder = tmp_path_factory.mktemp("kernels")
    config = write_tiny_config(folder / "tiny.toml")

    def train(name, *options):
        process = harness("train", config, "--data", features, "--output-dir", folder / name,
                          "--no-eval", *options)
        assert process.returncode == 0, process.stderr
        return folder / name, process.stderr

    return train, {name: train(name, "--until", 3, *way) for name, way in WAYS.items()}


def how(run):
    return [run.info["fingerprint"][key] for key in ("kernels", "execution")]


def test_all_begin_with_one_loss_and_record_what_computed_it(trained):
    _, made = trained
    found = {name: runs.load(directory) for name, (directory, _) in made.items()}
    assert {name: how(run) for name, run in found.items()} == {
        "fused": ["fused", "eager"], "paddle": ["paddle", "eager"], "static": ["paddle", "static"]}
    losses = {name: [line["loss"] for line in run.metrics()] for name, run in found.items()}
    assert losses["paddle"] == pytest.approx(losses["fused"], rel=1e-5)
    assert losses["static"] == pytest.approx(losses["paddle"], rel=1e-5)
    assert "paddle's own kernels" in made["static"][1]


def test_a_run_keeps_its_kernels_unless_it_is_told(trained):
    train, made = trained
    _, said = train("paddle", "--until", 4)
    assert "bits are not those of one stack" not in said
    directory, said = train("paddle", "--until", 5, "--kernels", "fused")
    assert "kernels was 'paddle', is 'fused'" in said
    changes = runs.load(directory).stack_changes()
    assert changes == [{"step": 4, "differs": {"kernels": ["paddle", "fused"]}}]


def test_verify_repeats_a_graph_as_a_graph(trained):
    _, made = trained
    directory, _ = made["static"]
    report = harness("verify", directory, "--steps", 1, "--json")
    assert json.loads(report.stdout)["stack"] == {}, report.stderr
    report = json.loads(harness(
        "verify", directory, "--steps", 1, "--kernels", "fused", "--execution", "eager", "--json"
    ).stdout)
    assert set(report["stack"]) == {"kernels", "execution"}
    assert report["verdict"] in ("identical", "within tolerance")


def test_what_cannot_be_is_one_line(trained, features, tmp_path):
    config = write_tiny_config(tmp_path / "tiny.toml")
    train = ("train", config, "--data", features, "--output-dir", tmp_path / "r")
    both = harness(*train, "--execution", "static", "--kernels", "fused")
    assert_one_line_error(both, 2, "static execution cannot trace fused kernels")
    recompute = harness(*train, "--execution", "static", "--set", "train.recompute=true")
    assert_one_line_error(recompute, 5, "static execution is not for train.recompute")
