"""`harness fid` and `harness stats` against `python -m pytorch_fid`."""

import json

import numpy as np
import pytest

from eval.features import image_files, vision_transformers
from eval.metrics import cmmd, feature_statistics, frechet
from tests import file_schemas
from tests.command import assert_one_line_error, harness
from tests.eval import peer, transformers


@pytest.fixture(scope="module")
def stats(pictures, torch_home, tmp_path_factory):
    """Statistics of folder a, with features, made by the command."""
    out = tmp_path_factory.mktemp("stats") / "a.npz"
    process = harness(
        "stats", pictures / "a", "-o", out, "--prepare", "none", "--with-features",
        TORCH_HOME=str(torch_home),
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(out)
    return out


def our_fid(*arguments, home):
    process = harness("fid", *arguments, TORCH_HOME=str(home))
    assert process.returncode == 0, process.stderr
    return process


def test_fid_of_folders_is_pytorch_fid_s(pictures, torch_home, stats):
    a, b = pictures / "a", pictures / "b"
    expected = peer.pytorch_fid(a, b, torch_home)
    assert expected > 1e-2
    process = our_fid(a, b, "--json", home=torch_home)
    found = json.loads(process.stdout)
    assert found["fid"] == pytest.approx(expected, rel=1e-4)
    assert not found["official"] and "not the official" in process.stderr
    # Statistics in the place of a folder.
    process = our_fid(b, stats, home=torch_home)
    assert float(process.stdout.removeprefix("FID:")) == pytest.approx(expected, rel=1e-4)


def test_another_network_s_statistics_and_distances(pictures, tmp_path):
    """CLIP's, against the forward pass in numpy and the authors' estimator."""
    transformers.write(tmp_path / "w", "clip")
    asked = ("--network", f"clip={tmp_path / 'w'}")
    out = tmp_path / "a.npz"
    made = harness(
        "stats", pictures / "a", "-o", out, "--prepare", "none", "--with-features", *asked
    )
    assert made.returncode == 0, made.stderr
    told = json.loads((tmp_path / "a.npz.json").read_text())["features"]
    file_schemas.check(tmp_path / "a.npz.json", "statistics")
    assert told["network"].startswith("CLIP") and "bicubic" in told["preprocessing"]
    process = harness("fid", pictures / "a", pictures / "b", "--json", *asked)
    found = json.loads(process.stdout)
    assert "not the official clip weights" in process.stderr and "fid" not in found
    kind = vision_transformers.KINDS["clip"]
    a, b = (
        transformers.forward("clip", np.stack([
            kind.prepare(image_files.load(path), transformers.SMALL.image)
            for path in image_files.listing(pictures / side)
        ])) for side in "ab"
    )
    with np.load(out) as kept:
        np.testing.assert_allclose(kept["features"], a, rtol=0, atol=1e-6)
    assert found["cmmd"] == pytest.approx(cmmd.cmmd(a, b), rel=1e-5)
    wanted = frechet.distance(*map(feature_statistics.of_features, (a, b)))
    assert found["fd_clip"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["bc", "ca"])
def test_fid_of_other_folders_is_pytorch_fid_s(pair, pictures, torch_home):
    folders = [pictures / side for side in pair]
    expected = peer.pytorch_fid(*folders, torch_home)
    found = json.loads(our_fid(*folders, "--json", home=torch_home).stdout)["fid"]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_pytorch_fid_reads_our_statistics(stats, pictures, torch_home):
    found = peer.pytorch_fid(stats, pictures / "b", torch_home)
    assert found == pytest.approx(
        peer.pytorch_fid(pictures / "a", pictures / "b", torch_home), rel=1e-4
    )


def test_a_sidecar_says_how_statistics_were_made(stats):
    made = json.loads(stats.with_name("a.npz.json").read_text())
    assert made["count"] == 12 and made["preparation"] == "none"
    assert len(made["features"]["sha256"]) == 64 and made["features"]["official"] is False
    file_schemas.check(stats.with_name("a.npz.json"), "statistics")
    with np.load(stats) as arrays:
        assert arrays["features"].shape == (12, 2048)
    assert not list(stats.parent.glob("*.features"))
    assert feature_statistics.load(stats).size == 2048


def test_what_exists_is_not_overwritten(stats, pictures, torch_home):
    before = stats.read_bytes()
    process = harness("stats", pictures / "b", "-o", stats, TORCH_HOME=str(torch_home))
    assert_one_line_error(process, 2, "exists")
    assert stats.read_bytes() == before


def test_two_files_need_no_weights(tmp_path):
    for name, mean in (("a", 0.0), ("b", 2.0)):
        np.savez(tmp_path / f"{name}.npz", mu=np.full(5, mean), sigma=np.eye(5))
    process = harness(
        "fid", tmp_path / "a.npz", tmp_path / "b.npz", "--json", TORCH_HOME=str(tmp_path)
    )
    assert json.loads(process.stdout)["fid"] == pytest.approx(20.0)


def test_bad_input_is_one_line(tmp_path, pictures):
    home = {"TORCH_HOME": str(tmp_path)}
    assert_one_line_error(harness("fid", pictures / "a", pictures / "b", **home), 5, "fetch")
    (tmp_path / "empty").mkdir()
    assert_one_line_error(
        harness("fid", pictures / "a", tmp_path / "empty", **home), 4, "no images"
    )
    process = harness("stats", tmp_path / "empty", "-o", tmp_path / "out.npz", **home)
    assert_one_line_error(process, 4, f"{tmp_path / 'empty'} holds no images")
    assert not list(tmp_path.glob("out*"))
    assert_one_line_error(harness("fid", pictures / "a", tmp_path / "none", **home), 2, "neither")
    np.savez(tmp_path / "nan.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    nan = tmp_path / "nan.npz"
    assert_one_line_error(harness("fid", nan, nan, **home), 4, "NaN")
