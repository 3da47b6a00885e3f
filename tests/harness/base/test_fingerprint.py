import subprocess

import pytest

from harness.base import fingerprint


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, and the harness lying in a folder of it."""
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one")
    module = tmp_path / "site-packages" / "fingerprint.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(fingerprint, "__file__", str(module))
    return git


def test_the_commit_is_the_harness_own(checkout):
    checkout("add", ".")
    checkout("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "two")
    assert len(fingerprint.git_commit()) == 40
    checkout("rm", "-q", "--cached", ".", "-r")
    checkout("add", "-N", ".")
    assert fingerprint.git_commit().endswith("+changes")


def test_the_commit_of_a_checkout_that_it_is_installed_into_is_not(checkout):
    assert fingerprint.git_commit() is None


def test_outside_a_checkout_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "fingerprint.py"))
    assert fingerprint.git_commit() is None
