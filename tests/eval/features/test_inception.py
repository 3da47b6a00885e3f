"""The Inception process: its features, its answers to bad input, and going on after a kill."""

import subprocess
import sys

import numpy as np
import pytest

from eval.features import image_files, inception, inception_weights, torch_process
from harness.base.errors import DataError, EnvironmentFault
from tests.eval import peer


@pytest.fixture(scope="module")
def network(torch_home):
    weights = torch_home / "hub" / "checkpoints" / inception_weights.FILE_NAME
    with inception.InceptionFeatures(weights, batch_size=4) as found:
        yield found


def test_missing_weights_are_exit_5_and_say_where_they_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault) as error:
        inception.InceptionFeatures()
    assert error.value.exit_code == 5
    assert str(tmp_path / "hub" / "checkpoints" / inception_weights.FILE_NAME) in str(error.value)
    assert "harness fetch inception" in str(error.value)


def test_the_place_is_torch_hub_s(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = tmp_path / "torch" / "hub" / "checkpoints" / inception_weights.FILE_NAME
    assert inception_weights.weights_path() == expected


def test_other_weights_do_not_make_an_fid(network):
    assert not network.official
    assert network.metric == "fid_unofficial_weights"
    assert network.describe()["sha256"] == network.sha256


def test_features_are_pytorch_fid_s(network, pictures, tmp_path):
    pixels = np.stack([image_files.load(path) for path in image_files.listing(pictures / "b")[:4]])
    expected = peer.features(tmp_path, pixels, network.weights)
    found = network.extract(pixels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.max())


def test_arrays_and_files_give_the_same_features(network, pictures, tmp_path):
    paths = image_files.listing(pictures / "b")
    pixels = np.stack([image_files.load(path) for path in paths])
    from_arrays = network.extract(pixels)
    blocks = list(network.extract_files(paths, tmp_path / "kept"))
    assert from_arrays.shape == (10, 2048) and from_arrays.std() > 1e-3
    np.testing.assert_array_equal(np.concatenate(blocks), from_arrays)


def test_an_interrupted_extraction_goes_on(network, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_process, "BATCHES_PER_BLOCK", 1)
    paths = image_files.listing(pictures / "b")
    first = network.extract_files(paths, tmp_path / "kept")
    kept = [next(first), next(first)]
    first.close()
    asked = []
    plain = inception.InceptionFeatures._ask
    monkeypatch.setattr(
        inception.InceptionFeatures, "_ask",
        lambda self, message: (asked.append(message), plain(self, message))[1],
    )
    again = list(network.extract_files(paths, tmp_path / "kept"))
    assert len(asked) == 1  # the third block; two were there
    np.testing.assert_array_equal(np.concatenate(again[:2]), np.concatenate(kept))
    with pytest.raises(DataError, match="made otherwise"):
        list(network.extract_files(paths[:-1], tmp_path / "kept"))


def test_images_of_several_sizes_are_taken(network, pictures, tmp_path):
    from PIL import Image

    for i, size in enumerate(((40, 50), (64, 64), (30, 30))):
        Image.new("RGB", size, (10 * i, 90, 200)).save(tmp_path / f"{i}.png")
    blocks = list(network.extract_files(image_files.listing(tmp_path), tmp_path / "kept"))
    alone = network.extract(np.full((1, 50, 40, 3), (0, 90, 200), np.uint8))
    np.testing.assert_allclose(blocks[0][0], alone[0], rtol=1e-4, atol=1e-5)


def test_a_broken_image_is_named_and_the_process_lives_on(network, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        list(network.extract_files([tmp_path / "bad.png"], tmp_path / "kept"))
    assert network.extract(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 2048)


def test_weights_that_are_none_are_exit_4_and_run_no_code(tmp_path):
    import pickle

    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    bad = tmp_path / "w.pth"
    bad.write_bytes(pickle.dumps(Bomb()))
    with (
        inception.InceptionFeatures(bad) as network,
        pytest.raises(DataError, match="does not hold the Inception weights"),
    ):
        network.extract(np.zeros((1, 32, 32, 3), np.uint8))
    assert not canary.exists()


def test_a_killed_process_is_said_to_be(torch_home):
    weights = torch_home / "hub" / "checkpoints" / inception_weights.FILE_NAME
    with inception.InceptionFeatures(weights) as network:
        network._start().kill()
        network._process.wait()
        with pytest.raises(EnvironmentFault, match="code -9"):
            network.extract(np.zeros((1, 32, 32, 3), np.uint8))


def test_the_client_imports_no_torch_and_the_worker_no_paddle():
    code = "import sys, eval.{0}; print([m for m in ('torch', 'paddle') if m in sys.modules])"
    for module in ("features.inception", "features.torch_worker", "evaluation.fid"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
