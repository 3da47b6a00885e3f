"""Writes small artefacts of one version, for later versions to read: tests/corpus/COMMIT/.

    python tests/corpus/make.py [CHECKOUT]

CHECKOUT (this one unless given) does the work, by its own command line in processes of their
own; nothing of it is imported here, so that this script outlives what moves in it.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
EVALUATION = ("--fid", "--protocol", "digits-ddim20-200", "--n-samples", "3", "--steps", "2")
CONFIG = """\
name = "corpus"

[model]
sample_size = 8
patch_size = 2
num_layers = 2
num_attention_heads = 1
attention_head_dim = 4
clip_dim = 8
num_text_tokens = 4

[data]
num_workers = 0

[optim]
warmup_steps = 4

[train]
max_steps = 6
global_batch_size = 4
micro_batch_size = 4
log_steps = 1
save_steps = 3
keep_checkpoints = 2
image_steps = 0
eval_steps = 0

[ema]
decay = 0.9

[eval]
batch_size = 2
decode_batch_size = 2
"""
STUDY = """\
name = "corpus-study"
question = "Does a lower rate help?"
configs = ["./corpus.toml"]
seeds = [1, 2]
protocols.quick = { protocol = "digits-ddim20-200", n_samples = 3, num_inference_steps = 2 }
variants = { base = [], slow = ["optim.lr=1e-5"] }
comparisons = [{ axis = "variant", against = "base", metrics = ["fd_digits", "train_loss"] }]
"""


def write_data(directory: Path) -> None:
    """Four images a split, with one or two captions each, in coco256_features' format."""
    draw = np.random.Generator(np.random.Philox(17))
    for split in ("train", "val"):
        (directory / split).mkdir(parents=True)
        for image in range(4):
            _save(directory / split / f"{image}.npy", draw.standard_normal((8, 8, 8)))
            for caption in range(1 + image % 2):
                _save(directory / split / f"{image}_{caption}.npy", draw.standard_normal((4, 8)))
    _save(directory / "empty_context.npy", np.zeros((4, 8)))


def _save(path: Path, array: np.ndarray) -> None:
    np.save(path, array.astype(np.float32))


def evaluation_data(data: Path, reference: Path, checkout: Path, place: Path) -> Path:
    """A data directory that an evaluation can use: `data` with VAE, classifier and reference."""
    (features,) = checkout.glob("harness/**/features.safetensors")
    shutil.copytree(data, place)
    shutil.copytree(checkout / "tests" / "assets" / "vae", place / "vae")
    shutil.copyfile(features, place / "features.safetensors")
    shutil.copyfile(reference, place / "reference.npz")
    return place


def lay_out_study(folder: Path) -> None:
    """The study of a version's folder: its bundle as it was written, and all that is in it."""
    bundle = folder / "bundle.tar"
    bundle.write_bytes(gzip.decompress((folder / "bundle.tar.gz").read_bytes()))
    with tarfile.open(bundle) as tar:
        tar.extractall(folder / "study", filter="data")


def make(checkout: Path, place: Path) -> None:
    """Have `checkout` write the artefacts into `place`."""
    def python(*arguments: str, source: Path = checkout) -> int:
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=place,
            env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        ).returncode

    def harness(*arguments: str, source: Path = checkout) -> None:
        if code := python("harness", *arguments, source=source):
            sys.exit(f"harness {arguments[0]} ended with {code}")

    write_data(place / "data")
    (place / "corpus.toml").write_text(CONFIG)
    harness("data", "check", "data", "--full", "--latent-scale", "0.6")  # for its digest.json
    harness("data", "pack", "data", "-o", "packed")
    harness("data", "digits", "digits")  # for its reference.npz: statistics of real images
    shutil.copyfile(place / "digits" / "reference.npz", place / "reference.npz")
    evaluation_data(place / "data", place / "reference.npz", checkout, place / "whole")
    runs = [f"run{number}" for number in range(3)]
    for run in runs:
        harness("train", "corpus.toml", "--data", "data", "--output-dir", run)
        harness("eval", run, *EVALUATION, "--data", "whole")
    shutil.copytree(place / "run0", place / "run")
    for run in runs:
        call_pinned(place / run / "run.json")
    harness("report", "run", "-o", "report")
    harness("baseline", "record", *runs, "--name", "baseline", "--dir", ".")
    (place / "study.toml").write_text(STUDY)
    harness("study", "run", "study.toml", "-o", "study", "--data", "whole", "--jobs", "1")
    harness("study", "bundle", "study", "-o", "bundle.tar", source=without_locks(checkout, place))
    night = ("--smoke", "--configs", "digits_tiny", "--data", "digits", "--out", "nightly")
    if (code := python("baselines.nightly", *night)) not in (0, 3):  # any verdict will do
        sys.exit(f"the night ended with {code}")
    (place / "nightly" / "history").rename(place / "history")
    harness("history", "build", "history", "-o", "site")  # for figures.json
    (one,) = (path.name for path in (place / "history").iterdir())
    harness("history", "note", "history", one, "--config", "digits_tiny")


def without_locks(checkout: Path, place: Path) -> Path:
    """A clone of `checkout` without the locks that a bundle holds, which are too large to keep."""
    clone = place / "clone"
    for words in (("clone", "--quiet", "--shared", "--no-checkout", str(checkout), str(clone)),
                  ("-C", str(clone), "sparse-checkout", "set", "--no-cone", "/*", "!/locks/"),
                  ("-C", str(clone), "checkout", "--quiet")):
        subprocess.run(["git", *words], check=True)
    return clone


def call_pinned(path: Path) -> None:
    """Have run.json say what a shipped config's does: those runs are too large to keep, and the
    gate takes no others."""
    path.write_text(json.dumps({**json.loads(path.read_text()), "pinned": True}))


def main(checkout: Path) -> Path:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=checkout, check=True, capture_output=True,
                              text=True).stdout.strip()

    if git("status", "--porcelain", "--untracked-files=no"):
        sys.exit(f"{checkout} has changes that are not committed: a folder is named after a commit")
    folder = HERE / git("rev-parse", "--short=7", "HEAD")
    if folder.exists():
        sys.exit(f"{folder} is there already")
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        place = Path(temporary)
        make(checkout, place)
        folder.mkdir()
        for name in ("corpus.toml", "reference.npz", "baseline.json", "study.toml"):
            shutil.copyfile(place / name, folder / name)
        bundle = (place / "bundle.tar").read_bytes()
        (folder / "bundle.tar.gz").write_bytes(gzip.compress(bundle, mtime=0))
        for name in ("data", "packed", "run", "history"):
            unneeded = shutil.ignore_patterns("lock", ".*")
            shutil.copytree(place / name, folder / name, ignore=unneeded)
        (folder / "report").mkdir()  # of its report the list of files alone: that is read again
        shutil.copyfile(place / "report" / "report.json", folder / "report" / "report.json")
    return folder


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1]).resolve()))
