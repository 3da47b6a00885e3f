"""How fast training data is read: PaddleMIX's way against ours, on COCO's shapes.

    python -m tests.bench.bench_data [--images 2000] [--dir DIR] [--json]

Makes a fixture of 2,000 images with five captions each (2.4 GB, and 2.4 GB packed),
warms the page cache, then reads shuffled samples from one process:

- PaddleMIX: its MSCOCOFeatureDataset.__getitem__, np.load of two files a sample
  (ppdiffusers/examples/text_to_image_mscoco_uvit/ldm/text_to_image_dataset.py).
- packed: `PackedSplit.read_moments` and `read_context`, into memory that is there, as
  the loader does it; on one thread and on two; checking checksums (a process's first
  pass) and after.
- batches of 32 as training takes them: PaddleMIX's np.load and np.stack against
  `harness.data.prefetch`, which also draws latents, noise and timesteps.

Rates are the best of --repeats rounds that take turns, so that a busy machine is
less in the way. Peak resident memory is of a fresh process each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from harness import configs, data, measure
from harness.data import pack

SHAPES = {"moments_shape": (8, 32, 32), "context_shape": (77, 768)}
CAPTIONS = 5
# What 8 A100s can take at the very most, from the arithmetic of one sample of `small`:
# training FLOPs of a step at batch 4, counted (FACTS: 0.36 TFLOP), over A100's bf16 peak.
SMALL_TFLOP = 0.36 / 4
A100_TFLOPS = 312.0
UTILISATION = 0.5  # of peak; more than small models reach


def make(directory: Path, images: int) -> None:
    """Random features of COCO's shapes: train/, and no more val/ than packing needs."""
    (directory / "train").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for image in range(images):
        folder = directory / "train"
        np.save(folder / f"{image}.npy", draw.standard_normal((8, 32, 32), np.float32))
        for caption in range(CAPTIONS):
            context = draw.standard_normal((77, 768), np.float32)
            np.save(folder / f"{image}_{caption}.npy", context)
    np.save(directory / "empty_context.npy", np.zeros((77, 768), np.float32))


def paddlemix(root: Path, order: list[int]) -> int:
    """MSCOCOFeatureDataset's reading, two np.load a sample; returns how many samples."""
    for index in order:
        z = np.load(os.path.join(root, f"{index}.npy"))
        k = random.randint(0, CAPTIONS - 1)
        c = np.load(os.path.join(root, f"{index}_{k}.npy"))
    assert z.nbytes + c.nbytes == 4 * (8 * 32 * 32 + 77 * 768)
    return len(order)


def paddlemix_batches(root: Path, order: list[int]) -> int:
    """The same, collated in batches of 32 (np.stack, as paddle.io's default collate)."""
    for at in range(0, len(order) - 31, 32):
        pairs = []
        for index in order[at : at + 32]:
            k = random.randint(0, CAPTIONS - 1)
            pairs.append((np.load(os.path.join(root, f"{index}.npy")),
                          np.load(os.path.join(root, f"{index}_{k}.npy"))))
        z, c = (np.stack(part) for part in zip(*pairs, strict=True))
    assert z.shape[0] == c.shape[0] == 32
    return len(order) // 32 * 32


def packed(split: data.Split, order: list[int], threads: int) -> int:
    """Our reading of the same samples, into batches' memory."""

    def read(part: list[int]) -> None:
        z = np.empty((32, 8, 32, 32), np.float32)
        c = np.empty((32, 77, 768), np.float32)
        for row, index in enumerate(part):
            split.read_moments(index, z[row % 32])
            split.read_context(index, random.randint(0, CAPTIONS - 1), c[row % 32])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, (order[k::threads] for k in range(threads))))
    return len(order)


def drawn(source: data.Source, count: int, workers: int) -> int:
    """Whole training batches of 32: features read, latents and noise drawn."""
    steps = count // 32
    parts = ((step, range(32 * step, 32 * step + 32)) for step in range(steps))
    for _ in data.prefetch(source, parts, workers):
        pass
    return 32 * steps


def rate(function, *arguments) -> float:
    began = time.perf_counter()
    count = function(*arguments)
    return count / (time.perf_counter() - began)


def measure_all(plain: Path, packed_dirs: dict[str, Path], images: int, repeats: int) -> dict:
    order = np.random.default_rng(1).permutation(images).tolist()
    opened = {n: data.open_split(d, "train", **SHAPES) for n, d in packed_dirs.items()}
    config = configs.load("small")
    sources = {"plain": data.open_source(config, 1, plain)}
    sources |= {n: data.open_source(config, 1, d) for n, d in packed_dirs.items()}
    first = {n: rate(packed, s, order * CAPTIONS, 1) for n, s in opened.items()}
    paddlemix(plain / "train", order)  # warms the cache for the other side
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(repeats):
        note("PaddleMIX, samples", rate(paddlemix, plain / "train", order))
        for name, split in opened.items():
            for threads in (1, 2):
                label = f"{name}, samples, {threads} thread" + "s" * (threads > 1)
                note(label, rate(packed, split, order, threads))
        note("PaddleMIX, batches of 32", rate(paddlemix_batches, plain / "train", order))
        for name, source in sources.items():
            note(f"{name}, drawn training batches, 2 workers", rate(drawn, source, images, 2))
    rates = {name: max(values) for name, values in found.items()}
    rates |= {f"{n}, samples, checking checksums": value for n, value in first.items()}
    return rates


def peak(directory: Path, workers: int, count: int) -> int:
    """Peak resident bytes that drawing `count` samples adds to a fresh process."""
    script = (
        "import sys; from pathlib import Path\n"
        "from harness import configs, data, measure\n"
        "from tests.bench import bench_data\n"
        "before = measure.peak_host_bytes()\n"
        "source = data.open_source(configs.load('small'), 1, Path(sys.argv[1]))\n"
        "bench_data.drawn(source, int(sys.argv[3]), int(sys.argv[2]))\n"
        "print(before, measure.peak_host_bytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory), str(workers), str(count)],
        check=True, capture_output=True, text=True,
    )
    before, after = map(int, done.stdout.split())
    return after - before


def arithmetic() -> str:
    each = UTILISATION * A100_TFLOPS / SMALL_TFLOP
    size = 4 * (8 * 32 * 32 + 77 * 768)
    return (
        f"`small` takes {SMALL_TFLOP:.2f} TFLOP a training sample; an A100 has {A100_TFLOPS:.0f} "
        f"TFLOP/s in bf16, at {UTILISATION:.0%} of it {each:,.0f} images/s, 8 of them "
        f"{8 * each:,.0f} images/s ({8 * each * size / 1e9:.1f} GB/s), {each:,.0f} for each of the "
        "8 processes that train"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="keep the fixture here and use it again")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    root = options.dir or Path(tempfile.mkdtemp(prefix="bench-data-"))
    try:
        plain = root / "plain"
        if not plain.is_dir():
            make(plain, options.images)
        dirs = {"packed": root / "packed", "packed float16": root / "packed16"}
        for name, directory in dirs.items():
            if not directory.is_dir():
                pack.pack(plain, directory,
                          context_dtype="float16" if "16" in name else "float32")
        rates = measure_all(plain, dirs, options.images, options.repeats)
        memory = {
            f"{n}, {w} workers": peak(d, w, 2 * options.images)
            for n, d in (("plain", plain), ("packed", dirs["packed"])) for w in (4, 16)
        }
    finally:
        if not options.dir:
            shutil.rmtree(root, ignore_errors=True)
    report(rates, memory, as_json=options.json)


def report(rates: dict[str, float], memory: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"samples_per_second": rates, "peak_bytes": memory}, indent=2))
        return
    base = {"samples": rates["PaddleMIX, samples"], "batches": rates["PaddleMIX, batches of 32"]}
    for name, value in rates.items():
        against = base["batches" if "batches" in name else "samples"]
        print(f"{name:<52} {value:>10,.0f} samples/s  {value / against:>6.1f} x PaddleMIX's")
    for name, value in memory.items():
        print(f"{'loader memory: ' + name:<52} {value / 1e6:>10,.0f} MB")
    print(arithmetic())
    print(f"peak of this process {measure.peak_host_bytes() / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
