"""`harness study`: what its options refuse, before anything is written."""

import pytest
from click.testing import CliRunner

from harness.base.errors import DataError, EnvironmentFault, UsageError
from harness.commands import study as command
from harness.studies import slurm_arrays, study_directory, study_file
from tests.harness.studies.made import write_study


def called(*words):
    return CliRunner().invoke(command.command, list(map(str, words)))


@pytest.fixture
def run(tmp_path):
    path = write_study(tmp_path)
    return lambda *words: called("run", path, "-o", tmp_path / "out", "--data", tmp_path, *words)


@pytest.mark.parametrize("devices", ["0,0", "0,", "a", "-1", "12345"])
def test_what_is_no_list_of_devices_is_refused(run, tmp_path, devices):
    ended = run("--devices", devices)
    assert ended.exit_code == 2 and repr(devices) in ended.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--time", "1:00"), "--time is for Slurm"), (("--partition", "a"), "--partition is for"),
     (("--executor", "slurm", "--devices", "0"), "--gpus"), (("--jobs", "1000"), "give --jobs")],
)
def test_what_does_not_go_together_is_refused(run, tmp_path, words, said):
    error = run(*words).exception
    assert isinstance(error, UsageError) and said in str(error)
    assert not (tmp_path / "out").exists()


def test_a_template_that_is_none_and_a_machine_without_slurm(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    (tmp_path / "binary").write_bytes(b"\xff")
    for name, kind in (("nowhere", DataError), ("binary", UsageError)):
        error = run("--executor", "slurm", "--template", tmp_path / name).exception
        assert isinstance(error, kind) and name in str(error)
        assert not (tmp_path / "out").exists()
    error = run("--executor", "slurm").exception
    assert isinstance(error, EnvironmentFault) and "sbatch is not here" in str(error)


def test_the_batch_script_has_the_templates_lines_and_the_studys_cell(tmp_path):
    study = study_file.load(write_study(tmp_path, "threads = 3"))
    template = "#SBATCH --constraint=a\nmodule load b"
    text = slurm_arrays.script(study, tmp_path / "a b", tmp_path / "1.cells", template, ["--x"])
    assert text.startswith(f"#!/bin/bash\n{template}\n")
    assert f"""-m harness study cell '{tmp_path}/a b' "$cell" --x\n""" in text
    assert "srun --cpus-per-task=3 " in text


def test_a_cell_that_is_not_there_is_refused(tmp_path):
    study_directory.begin(tmp_path / "out", study_file.load(write_study(tmp_path)))
    error = called("cell", tmp_path / "out", "tiny-s9").exception
    assert isinstance(error, UsageError) and "no cell 'tiny-s9'" in str(error)
    error = called("status", tmp_path).exception
    assert isinstance(error, UsageError) and "no study.json" in str(error)
