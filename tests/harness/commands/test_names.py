"""Paths that are not ASCII in the locale C without UTF-8: named, opened and printed as they are."""

import json
import shutil

import pytest

from harness import runs
from tests.baselines import made
from tests.command import assert_one_line_error, harness
from tests.fixtures import write_features, write_tiny_config

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def printed(*arguments, cwd, **env):
    """The last line that a command prints, which ends well."""
    done = harness(*arguments, cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def place(tmp_path):
    """A folder with three runs that were not trained."""
    for name in ("rün", "b", "c"):
        made.run(tmp_path / "läufe" / name)
    return tmp_path


def test_report(place):
    arguments = ("report", "läufe/rün", "läufe/b", "--reference", "rün", "-o")
    assert printed(*arguments, "öut", cwd=place, **ASCII) == "öut/report.html"
    printed(*arguments, "here", cwd=place)
    for name in ("report.md", "report.html", "comparison.csv"):
        assert "rün" in (place / "öut" / name).read_text(encoding="utf-8")
        assert (place / "öut" / name).read_bytes() == (place / "here" / name).read_bytes()


def test_diff_and_check(place):
    folders = ("läufe/rün", "läufe/b", "läufe/c")
    assert "bit for bit" in printed("diff", *folders[:2], cwd=place, **ASCII)
    recorded = printed("baseline", "record", *folders, "--name", "n", "--dir", "grün", cwd=place,
                       **ASCII)
    assert recorded == "grün/n.json"
    printed("check", *folders, "--baseline", "n", "--dir", "grün", "--github", "--junit", "jü.xml",
            cwd=place, GITHUB_STEP_SUMMARY=str(place / "zü.md"), **ASCII)
    assert_one_line_error(harness("check", "läufe/d", "--baseline", "n", "--dir", "grün", cwd=place,
                                  **ASCII), 2, "is not a run")


def test_train_and_eval_here_and_there(tmp_path):
    write_features(tmp_path / "dätä")
    config = write_tiny_config(tmp_path / "tiny.toml")
    train = ("train", config, "--data", "dätä", "--output-dir", "rün")
    assert printed(*train, "--until", 3, cwd=tmp_path, **ASCII) == "rün"
    assert runs.load(tmp_path / "rün").data_directory == tmp_path / "dätä"
    assert printed(*train, cwd=tmp_path) == "rün"
    # Trained in this locale, then evaluated in the other.
    there = shutil.copytree(tmp_path / "rün", tmp_path / "b")
    info = json.loads((there / "run.json").read_text())
    info["data"]["directory"] = str(tmp_path / "dätä")
    (there / "run.json").write_text(json.dumps(info))
    for run in ("rün", "b"):
        assert "val_loss" in printed("eval", run, cwd=tmp_path, **ASCII)
