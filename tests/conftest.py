"""The environment is set once, before anything imports paddle; fixtures are shared."""

import shutil

import pytest

from harness.base import paddle_env

paddle_env.prepare(threads=1)

from tests import fixtures  # noqa: E402


def pytest_collection_modifyitems(items):
    """Tests marked gpu run where a GPU is, and are skipped by name elsewhere."""
    if paddle_env.has_gpu_build() and shutil.which("nvidia-smi"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU and paddlepaddle-gpu"))


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A data set in coco256_features' format that fits `fixtures.tiny_config()`; do not change."""
    return fixtures.write_features(tmp_path_factory.mktemp("features"))
