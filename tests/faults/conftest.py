"""One warm server, and one undisturbed run, for all fault tests."""

import pytest

from tests.faults import cases
from tests.fixtures import write_tiny_config


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    with cases.server(tmp_path_factory.mktemp("warm")) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return write_tiny_config(tmp_path_factory.mktemp("config") / "tiny.toml")


@pytest.fixture(scope="session")
def digits(warm, tmp_path_factory):
    """The embedded data set."""
    directory = tmp_path_factory.mktemp("digits") / "data"
    ended = warm.run("data", "digits", directory)
    assert ended.returncode == 0, ended.stderr
    return directory


LONG = [pytest.param(name, marks=pytest.mark.faults) for name in ("digits_tiny", "coco")]


@pytest.fixture(scope="session", params=["tiny", *LONG])
def case(request, warm, tmp_path_factory):
    """One of `cases`: the tiny one, and in the long form those that evaluate and draw grids."""
    return cases.make(request.param, warm, tmp_path_factory.mktemp(request.param))
