"""Doors of what is recorded: runs, studies and nights, by every command that reads them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import reports
from baselines import metrics
from baselines.nights import page_files
from harness import configs, files, runs
from harness.base.errors import HarnessError
from harness.commands import runs as runs_command
from harness.reproduction import diff, log_audit
from harness.runs import checkpoints, inventory
from harness.studies import bundle_check, study_bundle, study_directory, study_file
from tests.fuzz import bundles
from tests.fuzz.door import WRITTEN, Door, written

CHECKPOINT = Path("run") / "checkpoints" / "00000003"
RESULT = Path("run") / "eval" / "00000006-e" / "result.json"


_SOUND = runs.load(WRITTEN / "run")


def place_run(place: Path) -> None:
    (place / RESULT).parent.mkdir(parents=True)
    for name in ("run.json", "metrics.jsonl", "timing.jsonl"):
        shutil.copyfile(WRITTEN / "run" / name, place / "run" / name)
    (place / CHECKPOINT).mkdir(parents=True)
    for path in (WRITTEN / CHECKPOINT).iterdir():
        shutil.copyfile(path, place / CHECKPOINT / path.name)


def with_digest(data: bytes) -> bytes:
    """run.json or study.json whose digest is that of its config; a manifest with its own."""
    try:
        value = json.loads(data)
        if "study" in value:
            value["digest"] = _digest(value["study"])
        elif "config" in value and "files" not in value:
            value["digest"] = _digest(value["config"])
        else:
            value["self"] = checkpoints._self_digest(value)
        return json.dumps(value).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return data


def _digest(value: object) -> str:
    return hashlib.sha256(files.canonical_json(value)).hexdigest()


def _shows(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n")), f"odd lines: {text!r}"


def _audited(run: runs.Run) -> None:
    for one in [*log_audit.settings(run), *log_audit.saved(run), *log_audit.log(run, run.config)]:
        _shows(f"{one['where']}: {one['what']}")


def _listed(run: runs.Run) -> None:
    found = inventory.listed(run.directory.parent)
    json.dumps([asdict(one) for one in found])
    _shows("\n".join(runs_command.lines(found)))


def _compared(run: runs.Run) -> None:
    report = diff.diff(run, _SOUND)
    json.dumps(report)
    _shows(diff.text(report))


def _continued(run: runs.Run) -> None:
    """What `harness train`, `sample` and `eval` ask of a run before they begin."""
    runs.recorded_threads(run.directory), runs.recorded_computation(run.directory)
    runs.stack_differences(run, {"device": "x"})
    assert isinstance(run.data_directory, Path)
    runs.create(run.directory, run.config, run.seed, fingerprint={}, data=_SOUND.info["data"],
                commit=None)


_COMMANDS: tuple[Callable[[runs.Run], object], ...] = (
    reports.load, runs.Run.stack_changes, _audited, _listed, _compared, _continued,
    lambda run: checkpoints.load(run.checkpoint(3)), lambda run: metrics.measure(run, 6),
    lambda run: metrics.light_values(run, 6),
)


def read_run(path: Path) -> None:
    """The run that the file is of, as each command reads it; the last refusal, if any."""
    run = runs.load(next(p for p in path.parents if p.name == "run"))
    refused = None
    for command in _COMMANDS:
        try:
            command(run)
        except HarnessError as error:
            assert str(error).isprintable()
            refused = error
    if refused:
        raise refused


def _lines(name: str) -> Callable[[], list[bytes]]:
    nested = b'{"step": 1, "loss": 0.5, "why": [{}]}\n{"step": 2, "loss": null, "a": "x"}\n'
    return lambda: [(WRITTEN / "run" / name).read_bytes(), nested]


def _results() -> list[bytes]:
    found = sorted(WRITTEN.glob("run/eval/*/result.json"))
    own = {"schema": 1, "step": 6, "n_samples": 8, "metrics": {"fid": 3.5},
           "protocol": {"name": "digits", "sampler": "ddim", "reference": {"path": "x"}},
           "uncertainty": {"fid": {"low": 1.0, "high": 4.0}, "kid": {"standard_error": 0.1}},
           "validation": {"standard_error": 0.01}, "timing": {"seconds": 2.0}}
    return [json.dumps(own).encode(), *(path.read_bytes() for path in found)]


def _forged(path: Path) -> None:
    """A checkpoint whose manifest was made to fit the file that was changed."""
    folder = path.parent
    manifest = json.loads((WRITTEN / CHECKPOINT / "manifest.json").read_bytes())
    with contextlib.suppress(OSError, HarnessError):  # what is no file any more, the reader tells
        if path.is_file() and path.stat().st_size < 1 << 20:  # a terabyte is no forgery
            manifest["files"][path.name] = files.sha256_file(path)
    manifest["self"] = checkpoints._self_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    checkpoints.load(folder)


@functools.cache
def _bundle() -> bytes:
    """The run as a study of one cell, without the locks."""
    with tempfile.TemporaryDirectory() as folder:
        place, out = Path(folder) / "study", Path(folder) / "b.tar"
        config = configs.from_values(runs.load(WRITTEN / "run").info["config"], source="run")
        study = study_file.from_values(_values(config), source="here")
        study_directory.begin(place, study)
        (cell,) = study.cells()
        where = study_directory.run_directory(place, cell.id)
        shutil.copytree(WRITTEN / "run", where)
        study_directory.note(place, cell.id, study_directory.State(1, 0))
        study_bundle.write(place, out)
        parts = bundles.parts(out.read_bytes())
    return bundles.tar({name: data for name, data in parts.items() if name[:6] != "locks/"})


def _values(config: configs.Config) -> dict:
    return {"name": "one", "question": "Why?", "configs": {config.name: configs.resolved(config)},
            "seeds": [runs.load(WRITTEN / "run").seed]}


def _checked(path: Path) -> None:
    """As `harness study check`."""
    _shows(bundle_check.text(bundle_check.check(path)))


def _studies() -> list[bytes]:
    return [b"""name = "depth"
question = "Why?"
configs = ["digits_tiny", "digits_tiny_deep"]
seeds = [1, 2]
steps = 200
kernels = ["default", "paddle"]
evaluate = [100, 200]
[variants]
base = []
slow = ["optim.lr=1e-5"]
[protocols.few]
n_samples = 10
[[comparisons]]
against = "digits_tiny"
metrics = ["fid"]
minimum = { fid = 0.02 }
"""]


def _study(path: Path) -> None:
    """As `harness study run` begins."""
    study = study_file.load(path)
    assert study.cells() and study.digest


def _place_night(place: Path) -> None:
    night = place / "history" / "2026-01-01" / "a100"
    (night / "checks").mkdir(parents=True)
    run = night / "small-0"
    shutil.copytree(WRITTEN / "run", run, ignore=shutil.ignore_patterns("checkpoints"))
    (night / "night.json").write_text(json.dumps(_ABOUT))
    (night / "checks" / f"{runs.load(run).config.name}.json").write_text(json.dumps(_CHECK))


_ABOUT = {"schema": 1, "runner": "a100", "report": "https://example.org/"}
_CHECK = {"outcome": "passed", "runs": ["runs/small-0"], "verdicts": [
    {"metric": "throughput", "verdict": "same", "change": 0.01, "baseline": 2.0, "reason": "x"},
    {"metric": "train_loss", "verdict": "worse", "change": None, "baseline": 2.0}]}


def _figures() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _place_night(Path(folder))
        page_files.write(Path(folder) / "history", Path(folder) / "site")
        return [next(Path(folder).rglob("figures.json")).read_bytes()]


def _night(path: Path) -> None:
    """As `harness history build`."""
    history = next(p for p in (path, *path.parents) if p.name == "history")
    out = history.parent / "site"
    try:
        page_files.write(history, out)
    finally:
        for figures in history.rglob("figures.json"):
            if figures != path:
                figures.unlink()


_NIGHT = "history/2026-01-01/a100"
_NOTES = (b'{"night": "2026-01-01", "runner": null, "config": null, "metric": "throughput", '
          b'"text": "known", "time": "2026-11-23T08:12:00+00:00"}\n')

DOORS = {
    "log": Door(read_run, _lines("metrics.jsonl"), "lines", "run/metrics.jsonl", place_run),
    "timing": Door(read_run, _lines("timing.jsonl"), "lines", "run/timing.jsonl", place_run),
    "log_continued": Door(lambda path: runs.Lines(path, keep_through=2).close(),
                          _lines("metrics.jsonl"), "lines"),
    "run": Door(read_run, written("run", "run.json"), "json", "run/run.json", place_run,
                with_digest),
    "result": Door(read_run, _results, "json", str(RESULT), place_run),
    "manifest": Door(read_run, written(*CHECKPOINT.parts, "manifest.json"), "json",
                     str(CHECKPOINT / "manifest.json"), place_run, with_digest),
    "checkpoint": Door(_forged, written(*CHECKPOINT.parts, "model.safetensors"), "bytes",
                       str(CHECKPOINT / "model.safetensors"), place_run),
    "state": Door(_forged, written(*CHECKPOINT.parts, "state.json"), "json",
                  str(CHECKPOINT / "state.json"), place_run),
    "study": Door(_study, _studies, "lines", "study.toml"),
    "bundle": Door(_checked, lambda: [_bundle()], "bundle", "bundle.tar"),
    "night_run": Door(_night, written("run", "run.json"), "json", f"{_NIGHT}/small-0/run.json",
                      _place_night, with_digest),
    "night_log": Door(_night, _lines("timing.jsonl"), "lines", f"{_NIGHT}/small-0/timing.jsonl",
                      _place_night),
    "night_check": Door(_night, lambda: [json.dumps(_CHECK).encode()], "json",
                        f"{_NIGHT}/checks/corpus.json", _place_night),
    "night": Door(_night, lambda: [json.dumps(_ABOUT).encode()], "json", f"{_NIGHT}/night.json",
                  _place_night),
    "night_figures": Door(_night, _figures, "json", f"{_NIGHT}/figures.json", _place_night),
    "night_notes": Door(_night, lambda: [_NOTES], "json", "history/notes.jsonl", _place_night),
}
