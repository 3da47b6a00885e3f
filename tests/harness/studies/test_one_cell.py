"""One cell: its command's settings, its retries, and what is done elsewhere taken over."""

import shutil
from dataclasses import replace

import pytest

from harness import runs
from harness.base.errors import Interrupted, UsageError
from harness.cells import run_cells as cells
from harness.studies import adopted_runs, one_cell, study_directory, study_file
from tests.harness.studies.made import failing, write_study


def begun(tmp_path, *more, **changes):
    study = study_file.load(write_study(tmp_path, *more, **changes))
    study_directory.begin(tmp_path / "out", study)
    return study, tmp_path / "out"


@pytest.mark.parametrize(("code", "calls"), [(4, 3), (2, 1)])
def test_what_fails_is_tried_again_but_wrong_usage(tmp_path, code, calls):
    bad = failing(tmp_path, code)
    study, out = begun(tmp_path, "[stacks]", f'bad = "{bad}"', 'here = ""')
    one = study.cells()[0]
    ended = one_cell.work(study, out, one, retries=2, data=tmp_path)
    assert ended.code == code
    found = study_directory.state(out, one.id)
    assert (found.attempts, found.code, found.process) == (calls, code, "")
    assert found.reason.endswith("what went wrong")
    called = (tmp_path / f"fails{code}.notes").read_text().splitlines()
    assert len(called) == calls
    assert f"train {out}/configs/tiny.toml --output-dir {out}/cells/{one.id} " in called[0]


def test_a_cell_that_another_process_works_on_is_left_to_it(tmp_path, monkeypatch):
    """Until that ends: its failure would take it out of Slurm's queue."""
    study, out = begun(tmp_path)
    one = study.cells()[0]
    known = study_directory.State(1, process="process 1 on another")
    study_directory.note(out, one.id, known)
    monkeypatch.setattr(study_directory, "_SAVING", 0)
    with study_directory.worked_on(out, one.id):
        with pytest.raises(Interrupted, match=f"{one.id} is being worked on by process") as raised:
            one_cell.work(study, out, one, data=tmp_path)
        assert raised.value.exit_code == 75  # with which a job goes back into the queue
        assert study_directory.state(out, one.id) == known
    assert one_cell.work(study, out, one, data=tmp_path / "none").code == 5  # it is tried


def test_a_cell_has_its_studys_settings(tmp_path):
    study, out = begun(
        tmp_path, 'kernels = ["paddle"]', "threads = 3", "nproc = 2", "[variants]",
        'fast = ["optim.lr=1e-3"]')
    found = one_cell.cell(study, out, study.cells()[0])
    assert found.arguments == ("--kernels", "paddle", "--nproc", "2")
    assert found.environment == {"OMP_NUM_THREADS": "3"}
    assert (found.overrides, found.seed, found.until) == (("optim.lr=1e-3",), 1, 6)
    (tmp_path / "other").mkdir()
    study, out = begun(tmp_path / "other", "[stacks]", 'a = "nowhere/python"')
    with pytest.raises(UsageError, match="is no Python"):
        one_cell.cell(study, out, study.cells()[0])


def test_runs_done_elsewhere_are_taken_by_what_they_are(features, tmp_path, capsys):
    """One of the right digest and seed, but other threads or another end, is not."""
    study, out = begun(tmp_path)
    first, second = study.cells()
    made = replace(one_cell.cell(study, out, first, features),
                         directory=tmp_path / "runs/deep/one")
    assert cells.train(made).code == 0
    adopted_runs.adopt(study, out, tmp_path / "runs", study.cells())
    assert one_cell.is_done(study, out, first) and not one_cell.is_done(study, out, second)
    place = study_directory.run_directory(out, first.id)
    # A link to what never changes, a copy of what does.
    for name, same in (("checkpoints/00000006/manifest.json", True), ("metrics.jsonl", False)):
        assert (place / name).samefile(made.directory / name) is same
        assert (place / name).read_bytes() == (made.directory / name).read_bytes()

    for number, (change, said) in enumerate((
        ("threads = 2", "env.OMP_NUM_THREADS is 1, not 2"),
        ('kernels = ["paddle"]', "kernels is fused, not paddle"),
        ("nproc = 2", "world_size is 1, not 2"),
        ("", "it ends at step 6, not 5"),
        ("evaluate = [3]", "it has neither"),
    )):
        there = tmp_path / str(number)
        there.mkdir()
        text = write_study(there, change, steps=5 if not change else 6).read_text()
        if "evaluate" in change:
            (there / "study.toml").write_text(text.replace("evaluate = []\n", ""))
            shutil.rmtree(made.directory / "checkpoints/00000003")
        other = study_file.load(there / "study.toml")
        study_directory.begin(there / "out", other)
        adopted_runs.adopt(other, there / "out", tmp_path / "runs", other.cells())
        assert said in capsys.readouterr().err
        assert not (there / "out/cells").exists()
    assert runs.load(made.directory).checkpoint_steps() == [6]
