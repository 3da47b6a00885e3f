"""sdist and wheel, the one made of the other, installed without the lock, as of today, and used."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.command import ROOT
from tests.test_layers import TOP

UV = (Path(sys.executable).with_name("uv"), "--no-config")  # our exclude-newer is configuration
# What uv says where there is no registry; that a version is not found is a failure.
UNREACHABLE = ("error sending request", "dns error", "client error (Connect)")
COMMANDS = (
    "data digits data",
    "train digits_tiny --data data --output-dir run --set train.max_steps=4"
    " --set train.eval_at_start=false",
    "eval run --n-samples 50 --steps 2",
    "report run -o report",
    "export run -o exported",
)


def run(*command, cwd):
    """The finished process; neither this checkout nor this environment can be imported there."""
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=plain, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of both. From a copy: building writes into the source's folder, and takes what
    lies there. The wheel is built from what the sdist holds and nothing else."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in TOP:
        shutil.copytree(ROOT / name, source / name,
                        ignore=shutil.ignore_patterns("__pycache__"))
    done = run(*UV, "build", "-q", "--no-build-isolation", "--python", sys.executable,
               "-o", built, source, cwd=built)
    assert done.returncode == 0, done.stdout
    return built


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


def test_sdist_and_wheel_have_every_file_of_the_packages(built, wheel):
    ours = {
        str(path.relative_to(ROOT)) for name in TOP for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "harness/files/schemas/run-1.json" in ours
    with zipfile.ZipFile(wheel) as archive:
        assert ours <= set(archive.namelist())
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert ours | {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= names


def test_a_wheel_carries_what_only_the_lock_would_say(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        needs = archive.read(metadata).decode().splitlines()
        assert archive.read("uvit_harness_zlib.pth") == b"import zlib\n"
    assert "Requires-Dist: aistudio-sdk<0.3" in needs


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """bin/ of an environment of its own: 7 GB, hard links where uv's cache is on the same disk."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    try:
        made = run(*UV, "venv", "-q", "--python", sys.executable, folder, cwd=folder.parent)
        assert made.returncode == 0, made.stdout
        done = run(*UV, "pip", "install", "-q", "--python", folder / "bin" / "python",
                   f"{wheel}[cpu]", cwd=folder.parent)
        if any(words in done.stdout for words in UNREACHABLE):
            pytest.skip("no package registry can be reached")
        assert done.returncode == 0, done.stdout
        yield folder / "bin"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(1800)  # a cold cache downloads 3 GB
def test_the_wheel_without_the_lock_does_it_all(installed, tmp_path):
    for command in COMMANDS:
        done = run(installed / "harness", *command.split(), cwd=tmp_path)
        assert done.returncode == 0, f"harness {command}\n{done.stdout}"
    png = "import paddle; from PIL import Image; Image.new('RGB', (64, 64)).save('a.png')"
    done = run(installed / "python", "-c", png, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "a.png").stat().st_size > 0
    assert (tmp_path / "report" / "report.html").is_file()
    assert (tmp_path / "exported" / "model_index.json").is_file()
