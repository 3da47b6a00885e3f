"""Studies on disk without training: real files, made-up numbers, the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from harness import configs
from harness.runs import checkpoints
from harness.studies import study_directory, study_file
from harness.training.learning_rate import learning_rate
from tests.reports import fabricate

TOML = """
name = "depth"
question = "Does depth help?"
configs = ["digits_tiny", "digits_tiny_deep"]
seeds = [1, 2, 3, 4]
steps = 200
[[comparisons]]
against = "digits_tiny"
metrics = ["fid", "throughput", "train_loss", "accuracy"]
minimum = { fid = 0.02, throughput = 0.1 }
"""
# What the deep one's FID, speed and accuracy differ by; seeds add to it.
FID, SPEED, ACCURACY = (20.0, 14.0), (100.0, 100.0), (0.8, 0.9)


def study(root: Path, *, toml: str = TOML, without: tuple[str, ...] = ()) -> Path:
    """A study's directory with all its cells done, but those named in `without`."""
    (root / "study.toml").write_text(toml)
    made = study_file.load(root / "study.toml")
    directory = root / "study"
    study_directory.begin(directory, made)
    for cell in made.cells():
        if cell.id not in without:
            fill(directory, made, cell)
    return directory


def fill(directory: Path, made: study_file.Study, cell: study_file.StudyCell) -> None:
    """A finished run of one cell: logs, a checkpoint of a few numbers, an evaluation."""
    deep = int(cell.axes["config"] == "digits_tiny_deep")
    config, last = made.config(cell.axes), made.last_step(cell.axes)
    run = study_directory.run_directory(directory, cell.id)
    run.parent.mkdir(exist_ok=True)
    path = study_directory.config_file(directory, cell.axes["config"])
    random = np.random.default_rng([cell.seed, deep])
    fabricate.run(
        run, str(path), seed=cell.seed, steps=last, log_steps=config.train.log_steps,
        images_per_second=SPEED[deep] * (1 + 0.002 * random.standard_normal()),
        sets=made.variants[cell.axes["variant"]],
    )
    _as_trained(run, config)
    parts = {part: {"w": np.full(3, cell.seed, np.float32)}
             for part in ("model", "ema", "optimizer")}
    manifest = checkpoints.save(
        run / "checkpoints" / f"{last:08d}", checkpoints.Checkpoint(last, parts, {}),
        config_digest=configs.digest(config), seed=cell.seed,
    )
    folder = fabricate.evaluate(run, last, {
        "fid": FID[deep] * (1 + 0.01 * random.standard_normal()),
        "accuracy": ACCURACY[deep] + 0.01 * random.standard_normal(),
        "val_loss": 0.5 + 0.01 * random.standard_normal(),
    }, n_samples=500)
    result = json.loads((folder / "result.json").read_text())
    result["ema_sha256"] = manifest["ema_digest"]
    (folder / "result.json").write_text(json.dumps(result))
    study_directory.note(directory, cell.id, study_directory.State(attempts=1, code=0))


def _as_trained(run: Path, config: configs.Config) -> None:
    """The lines and rates that a run of `config` logs."""
    for name in ("metrics.jsonl", "timing.jsonl"):
        lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for line in lines:
            if "lr" in line:
                line["lr"] = learning_rate(config.optim, line["step"], config.train.max_steps)
        fabricate.write_lines(run / name, lines)
