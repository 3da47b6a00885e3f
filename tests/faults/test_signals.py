"""SIGTERM and Ctrl-C at every moment of every command that runs long: `ROWS` is the table.

Exit code 75 (or 0, when it was done anyway), what was finished is saved, and the same command goes
on to the same bits. `make test-faults` runs all; a few that stand for the rest run always.
`SIGNALS_TABLE=FILE` has every row's outcome appended to FILE, as a line of a Markdown table.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import runs
from harness.digits import dataset as digits
from harness.runs import checkpoints
from tests.baselines.test_bisect import begin, commit
from tests.faults.striking import bits, struck, to_everyone, to_group, to_process, to_rank
from tests.fixtures import write_tiny_config

TERM, INT = signal.SIGTERM, signal.SIGINT
# digits_tiny as it is shipped, but for its length: evaluation at the start, then grids.
SHORT = [word for key, value in {
    "max_steps": 8, "save_steps": 3, "image_steps": 4, "log_steps": 1,
}.items() for word in ("--set", f"train.{key}={value}")]
LATER_TOO = ("--set", "train.eval_steps=6")
IMPORTING, LAUNCHING = "paddle.nn::1", "paddle.distributed.launch.controllers::1"
DECODING_FIRST = "eval.sampling.image_making:decode:1"
PACKING = "harness.data.preparation.pack:_pack_shard:2"
UNPACKING = "harness.data.preparation.unpack:_extract:30"
ENCODING = "harness.data.preparation.extract:_encode:3"
TORCH = "eval.features.torch_process:TorchFeatures._read:2"
BEFORE, STEP = "harness.data:open_source:1", "harness.training.step:Trainer.train:5"
SAVING, GRID = "harness.runs.checkpoints:save:1", "harness.training.prompt_grids:_draw_grid:1"
SAMPLING = "eval.sampling.latent_sampling:sample_latents:2"
DECODING = "eval.sampling.image_making:decode:2"
FEATURES = "eval.features.digits:DigitsFeatures.extract:2"
CONCLUDING = "eval.evaluation.evaluate:_conclude:1"
LATER = "eval.sampling.image_making:Maker.images:6"  # the second block of the evaluation at step 6
SHARED_LATER = "eval.sampling.image_making:Maker.images:3"  # of each of two workers


@dataclass(frozen=True)
class Command:
    """What runs in a directory that `prepare` has made, and what is said to go on there."""

    arguments: tuple[str, ...]
    prepare: str = ""  # name of what is copied there first
    nproc: int = 1
    prints: bool = True  # the same every time

    def argv(self, inputs: Inputs) -> list[str]:
        words = [word.format_map(inputs.paths) for word in self.arguments]
        return words + (["--nproc", str(self.nproc)] if self.nproc > 1 else [])


TRAIN = ("harness", "train", "digits_tiny", "--data", "{digits}", "--output-dir", "run", *SHORT)
EVAL = ("harness", "eval", "run", "--fid", "--protocol", "digits-ddim20-200",
        "--guidance-scale", "3")
EXTRACT = ("harness", "data", "extract", "--images", "{photos}", "--captions",
           "{photos}/captions.json", "--vae", str(digits.ASSETS / "vae"), "--text-encoder",
           str(digits.ASSETS / "text_encoder"), "--tokenizer", str(digits.ASSETS / "tokenizer"),
           "--size", "64", "-o", "data")
COMMANDS = {
    "train": Command(TRAIN),
    "train, evaluating": Command((*TRAIN, *LATER_TOO)),
    "train --nproc 2": Command(TRAIN, nproc=2),
    "train, evaluating --nproc 2": Command((*TRAIN, *LATER_TOO), nproc=2),
    "eval": Command(EVAL, "trained"),
    "eval --nproc 2": Command(EVAL, "trained", nproc=2),
    "sample": Command(("harness", "sample", "run", "a photo of a 3", "-n", "8", "-o", "images",
                       "--data", "{digits}"), "trained"),
    "verify": Command(("harness", "verify", "run"), "trained"),
    "export": Command(("harness", "export", "run", "-o", "exported"), "trained"),
    "data digits": Command(("harness", "data", "digits", "digits")),
    "data fetch": Command(("harness", "data", "fetch", "fetched", "--from", "{archives}",
                           "--sources", "{archives}/sources.json")),
    "data extract": Command(EXTRACT),
    "data extract --processes 2": Command((*EXTRACT, "--processes", "2")),
    "data check --full": Command(("harness", "data", "check", "data", "--full"), "digits"),
    "data pack": Command(("harness", "data", "pack", "{digits}", "-o", "packed")),
    "stats": Command(("harness", "stats", "{photos}", "-o", "stats.npz", "--weights", "{weights}")),
    "fid": Command(("harness", "fid", "{photos}", "{photos}", "--weights", "{weights}")),
    "bisect": Command(("harness", "bisect", "{tiny}", "--good", "HEAD~2", "--bad", "HEAD",
                       "--metric", "loss", "--until", "2", "--data", "{features}", "--json"),
                      "history"),
    "nightly": Command(("baselines.nightly", "--smoke", "--configs", "digits_tiny", "--until", "4",
                        "--out", "night", "--data", "{digits}"), prints=False),
}
# command -> moment -> what it is called
MOMENTS = {
    "train": {
        IMPORTING: "importing paddle", "ppdiffusers::1": "importing ppdiffusers",
        BEFORE: "before the first step", SAMPLING: "first evaluation, sampling",
        DECODING: "first evaluation, decoding", FEATURES: "first evaluation, features",
        CONCLUDING: "first evaluation, result", STEP: "a step", SAVING: "a save", GRID: "a grid",
        "harness.training.background_saving:Saver.close:1": "all is done",
    },
    "train, evaluating": {LATER: "evaluation at step 6"},
    "train --nproc 2": {
        LAUNCHING: "before there are workers",
        BEFORE: "before the first step", DECODING_FIRST: "first evaluation, decoding",
        STEP: "a step", SAVING: "a save", GRID: "a grid",
    },
    "train, evaluating --nproc 2": {SHARED_LATER: "evaluation at step 6"},
    "eval": {
        IMPORTING: "importing paddle", SAMPLING: "sampling", DECODING: "decoding",
        FEATURES: "features", CONCLUDING: "result",
        "eval.evaluation.validation:validation_loss:1": "validation loss",
    },
    "eval --nproc 2": {
        LAUNCHING: "before there are workers",
        DECODING_FIRST: "decoding", "eval.evaluation.evaluate:_conclude:1": "result",
    },
    "sample": {IMPORTING: "importing paddle", SAMPLING.replace(":2", ":1"): "sampling",
               DECODING_FIRST: "decoding", "eval.evaluation.sample_prompts:write:1": "writing"},
    "verify": {IMPORTING: "importing paddle", STEP: "a step"},
    "export": {"ppdiffusers::1": "importing ppdiffusers",
               "models.pretrained.write_pipeline_folder:write_text_encoder:1": "writing"},
    "data digits": {IMPORTING: "importing paddle",
                    "models.pretrained.autoencoder:Autoencoder.encode_moments:9": "encoding"},
    "data fetch": {UNPACKING: "unpacking"},
    "data extract": {IMPORTING: "importing paddle", ENCODING: "encoding",
                     "harness.data.preparation.extract:_write:3": "writing"},
    "data extract --processes 2": {ENCODING: "encoding"},
    "data check --full": {"harness.data.preparation.check_files:_sample:1": "reading"},
    "data pack": {PACKING: "packing"},
    "stats": {"eval.features.torch_process:TorchFeatures._read:1": "starting torch",
              TORCH: "features"},
    "fid": {TORCH: "features"},
    "bisect": {"good": "training the good commit", "bisect": "git bisect run"},
    "nightly": {STEP.replace(":5", ":3"): "a training", DECODING_FIRST: "the evaluation"},
}
QUICK = {
    ("train", DECODING, TERM, to_process), ("train --nproc 2", STEP, TERM, to_everyone),
    ("data pack", PACKING, INT, to_group),
    ("data fetch", UNPACKING, TERM, to_process),
}


# Who is sent what. A process that starts no others is its group, and everyone.
ALONE = ((TERM, to_process), (INT, to_group))
CHILDREN = (*ALONE, (TERM, to_group), (INT, to_process))
WORKERS = ((TERM, to_everyone), (INT, to_process))
MORE_WORKERS = (*WORKERS, (TERM, to_process), (INT, to_everyone), (TERM, to_rank))
EACH_WAY = {"a step", "decoding"}
HAVE_CHILDREN = {"stats", "fid", "data extract --processes 2"}  # in its group


def ways(name: str, said: str):
    """(signal, whom it is sent to) for this moment of this command."""
    if COMMANDS[name].nproc > 1:
        return MORE_WORKERS if said in EACH_WAY else WORKERS
    return CHILDREN if name in HAVE_CHILDREN else ALONE


def rows():
    for name, moments in MOMENTS.items():
        for moment, said in moments.items():
            for number, to in ways(name, said):
                quick = (name, moment, number, to) in QUICK
                yield pytest.param(
                    name, moment, said, number, to, marks=() if quick else pytest.mark.faults,
                    id=f"{name}-{said}-{number.name}-{to.__name__}",
                )


class Inputs:
    """What the commands work on, made when first asked for; and what they give undisturbed."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest):
        self._folder, self._request = folder, request
        self._whole: dict[str, dict[str, object]] = {}
        self.paths = _Paths(folder, request)

    def place(self, command: Command, directory: Path) -> Path:
        directory.mkdir()
        if command.prepare == "trained":
            self.whole("train")
            shutil.copytree(self._folder / "train" / "run", directory / "run")
        elif command.prepare == "digits":
            shutil.copytree(self.paths["digits"], directory / "data")
        elif command.prepare == "history":
            shutil.copytree(self.paths["history"], directory, dirs_exist_ok=True)
        return directory

    def whole(self, name: str) -> dict[str, object]:
        """The bits that `name` leaves when nothing comes between."""
        if name not in self._whole:
            directory = self.place(COMMANDS[name], self._folder / name)
            self._whole[name] = self.go_on(name, directory)
        return self._whole[name]

    def go_on(self, name: str, directory: Path) -> dict[str, object]:
        command = COMMANDS[name]
        done = struck(command.argv(self), lambda: True, 0, to_process, cwd=directory,
                      TMPDIR=str(directory))
        assert done.returncode == 0, done.stderr
        return left(command, directory, done.stdout)


class _Paths(dict):
    def __init__(self, folder: Path, request: pytest.FixtureRequest):
        super().__init__()
        self._folder, self._request = folder / "inputs", request
        self._folder.mkdir()

    def __missing__(self, name: str) -> str:
        self[name] = str(getattr(self, "_" + name)())
        return self[name]

    def _digits(self):
        return self._request.getfixturevalue("digits")

    def _features(self):
        return self._request.getfixturevalue("features")

    def _tiny(self):
        return write_tiny_config(self._folder / "tiny.toml")

    def _weights(self):
        from tests.eval import peer

        peer.write_weights(self._folder / "weights.pth")
        return self._folder / "weights.pth"

    def _photos(self):
        """64 drawn pictures, and COCO's file of captions."""
        import numpy as np
        from PIL import Image

        folder = self._folder / "photos"
        folder.mkdir()
        draw = np.random.default_rng(5)
        for number in range(64):
            pixels = draw.integers(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03d}.jpg")
        listed = [{"id": i, "file_name": f"{i:03d}.jpg"} for i in range(64)]
        said = [{"id": i, "image_id": i, "caption": f"a photo of a {i % 10}"} for i in range(64)]
        text = json.dumps({"images": listed, "annotations": said})
        (folder / "captions.json").write_text(text)
        return folder

    def _archives(self):
        """`features` as archives by hand, and their sources."""
        import tarfile

        folder, features = self._folder / "archives", Path(self["features"])
        folder.mkdir()
        shutil.copy(features / "empty_context.npy", folder)
        for name in ("train", "val", "run_vis"):
            with tarfile.open(folder / f"{name}.tar", "w") as tar:
                tar.add(features / name, arcname=name)
        entries = [{"name": p.name, "url": f"http://127.0.0.1/{p.name}"}
                   for p in sorted(folder.iterdir())]
        listed = {"name": "t", "moments_shape": [8, 8, 8], "context_shape": [4, 16],
                  "files": entries}
        (folder / "sources.json").write_text(json.dumps(listed))
        return folder

    def _history(self):
        """Our source, and two commits after it of which the last halves the learning rate."""
        repository = begin(self._folder / "history")
        commit(repository, "begin")
        (repository / "README.md").write_text("one\n")
        commit(repository, "say something")
        path = repository / "harness/training/learning_rate.py"
        path.write_text(path.read_text() + "\n_lr = learning_rate\n\n\ndef learning_rate(*a):\n"
                        "    return 0.5 * _lr(*a)\n")
        commit(repository, "halve the learning rate")
        return repository


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, request):
    return Inputs(tmp_path_factory.mktemp("signals"), request)


def left(command: Command, directory: Path, stdout: str) -> dict[str, object]:
    """The files below `directory` and what was printed, as far as they are the same each time."""
    found = {} if not command.prints else {"stdout": stdout}
    if command.prepare == "history":
        return found
    names = bits(directory)
    if not command.prints:  # a night measures speed; its runs are what repeats
        names = {k: v for k, v in names.items() if k.startswith("night/runs/")}
    return found | names


def saved(directory: Path) -> str:
    """The run's newest checkpoint; AssertionError unless it is of the last step that was logged."""
    run = runs.load(directory) if (directory / "run.json").exists() else None
    logged = run.metrics()[-1]["step"] if run and run.metrics_file.exists() and run.metrics() else 0
    if not logged:
        return "none due"
    assert run.checkpoint_steps()[-1] == logged
    checkpoints.check(run.checkpoint(logged))
    return f"step {logged}"


def last_only(found: dict[str, object]) -> dict[str, object]:
    """Without the checkpoints on the way: an interruption leaves more of them."""
    def kept(name: str) -> bool:
        return "checkpoints/" not in name or "/00000008/" in name or "night/" in name

    return {name: content for name, content in found.items() if kept(name)}


def bisecting(directory: Path, moment: str):
    """Whether a search in `directory` has come so far."""
    there = {"good": "harness-bisect-*/runs/*/metrics.jsonl",
             "bisect": ".git/worktrees/*/BISECT_LOG"}[moment]
    return lambda: any(directory.glob(there))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "moment", "said", "number", "to"), rows())
def test_stopped_it_saves_and_goes_on_to_the_same_bits(
    inputs, tmp_path, name, moment, said, number, to
):
    command = COMMANDS[name]
    whole = inputs.whole(name)
    directory = inputs.place(command, tmp_path / "place")
    come = bisecting(directory, moment) if name == "bisect" else moment
    ended = struck(command.argv(inputs), come, number, to, cwd=directory, TMPDIR=str(directory))
    outcome = [name, number.name, to.__name__.removeprefix("to_"), said, str(ended.returncode)]
    checkpoint = same = "?"
    try:
        assert ended.returncode in (0, 75), ended.stderr
        assert {TERM, INT} <= ended.caught or name == "bisect" or "launch" in moment
        assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
        if ended.returncode == 75:
            last = ended.stderr.strip().splitlines()[-1]
            assert last.startswith("harness: ") and "run the same command again" in last
        checkpoint = saved(directory / "run") if name.startswith("train") else "none is made"
        if ended.returncode == 75:
            found = inputs.go_on(name, directory)
        else:
            found = left(command, directory, ended.stdout)
        assert not list(directory.glob("harness-bisect-*")) and not list(
            directory.glob(".git/worktrees/*")), "the search leaves its work tree"
        assert list(last_only(found)) == list(last_only(whole))
        same = "yes" if last_only(found) == last_only(whole) else "NO"
        assert same == "yes"
    finally:
        if table := os.environ.get("SIGNALS_TABLE"):
            last = (ended.stderr.strip().splitlines() or [""])[-1]
            with open(table, "a") as file:
                file.write(f"| {' | '.join([*outcome, checkpoint, same])} | {last}\n")


