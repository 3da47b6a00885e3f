"""The environment is set once, before anything imports paddle; fixtures are shared."""

import shutil

import pytest

from harness.base import paddle_env

paddle_env.prepare(threads=1)

from tests import command, fixtures  # noqa: E402
from tests.browser import browser  # noqa: E402, F401
from tests.warm import Warm  # noqa: E402


def pytest_collection_modifyitems(items):
    """Tests marked gpu run where a GPU is, those marked gpu_build where its Paddle is installed;
    elsewhere they are skipped by name."""
    build = paddle_env.has_gpu_build()
    here = {"gpu": build and bool(shutil.which("nvidia-smi")), "gpu_build": build}
    reasons = {"gpu": "needs a CUDA GPU and paddlepaddle-gpu", "gpu_build": "make test-gpu-build"}
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark) and not here[mark]:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def commands(tmp_path_factory):
    """What `command.harness` forks from."""
    with Warm(tmp_path_factory.mktemp("commands"), "ppdiffusers", "models.cpu.kernels") as server:
        command.WARM = server
        yield
    command.WARM = None


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A data set in coco256_features' format that fits `fixtures.tiny_config()`; do not change."""
    return fixtures.write_features(tmp_path_factory.mktemp("features"))
