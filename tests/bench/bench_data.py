"""How fast training data is read: PaddleMIX's way against ours, on COCO's shapes.

    python -m tests.bench.bench_data [--images 2000] [--dir DIR] [--json]

Makes a fixture of 2,000 images with five captions each (2.4 GB, packed twice: another
3.6 GB), warms the page cache, then reads shuffled samples from one process:

- PaddleMIX: its MSCOCOFeatureDataset.__getitem__, np.load of two files a sample
  (ppdiffusers/examples/text_to_image_mscoco_uvit/ldm/text_to_image_dataset.py).
- packed, samples: `moments` and `context` of each, as an evaluation takes them.
- packed, into a batch: `read_moments` and `read_context` into a batch's memory, as
  training does it, on one thread and on two.
- batches of 32 as training takes them: PaddleMIX's np.load and np.stack; ours with
  `harness.data.prefetch`, which also draws latents, noise and timesteps.

Rates by the wall clock are the best of --repeats rounds that take turns; a busy
machine is less in the way of the rates by CPU time (one core's worth). Memory is
what a fresh process's VmHWM grows by.
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

from harness import configs, data
from harness.data.preparation import pack

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


def samples(split: data.Split, order: list[int]) -> int:
    """The same samples of ours, each array its own."""
    for index in order:
        z = split.moments(index)
        c = split.context(index, random.randint(0, CAPTIONS - 1))
    assert z.nbytes + c.nbytes == 4 * (8 * 32 * 32 + 77 * 768)
    return len(order)


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


def drawn(source: data.Source, count: int, workers: int, size: int = 32) -> int:
    """Whole training batches: features read, latents and noise drawn."""
    steps = count // size
    parts = ((step, range(size * step, size * step + size)) for step in range(steps))
    for _ in data.prefetch(source, parts, workers):
        pass
    return size * steps


def rate(function, *arguments) -> np.ndarray:
    """Samples per second: by the wall clock, by CPU time."""
    began = time.perf_counter(), time.process_time()
    count = function(*arguments)
    return count / np.array(
        [time.perf_counter() - began[0], max(time.process_time() - began[1], 1e-9)]
    )


def measure_all(plain: Path, packed_dirs: dict[str, Path], images: int, repeats: int) -> dict:
    """Rates (wall, CPU) by name; the best of all rounds."""
    order = np.random.default_rng(1).permutation(images).tolist()
    root = plain / "train"
    opened = {n: data.open_split(d, "train", **SHAPES) for n, d in packed_dirs.items()}
    config = configs.load("small")
    sources = {"plain": data.open_source(config, 1, plain)}
    sources |= {n: data.open_source(config, 1, d) for n, d in packed_dirs.items()}
    first = rate(packed, opened["packed"], order, 1)  # a first pass, which checks checksums
    for split in opened.values():
        packed(split, order, 1)
        for index in order:  # every row is checked once, before what follows is timed
            for caption in range(CAPTIONS):
                split.context(index, caption)
    paddlemix(root, order)
    jobs = {
        "PaddleMIX, samples": (paddlemix, root, order),
        "packed, samples": (samples, opened["packed"], order),
        **{f"{name}, into a batch, {n} thread{'s' * (n > 1)}": (packed, split, order, n)
           for name, split in opened.items() for n in (1, 2)},
        "PaddleMIX, batches of 32": (paddlemix_batches, root, order),
        **{f"{name}, drawn training batches": (drawn, source, images, 2)
           for name, source in sources.items()},
    }
    found: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, (function, *arguments) in jobs.items():
            found[name] = np.maximum(found.get(name, 0), rate(function, *arguments))
    return {**found, "packed, into a batch, checking checksums": first}


def peak(directory: Path, workers: int, count: int, size: int) -> int:
    """Bytes that drawing `count` samples in batches of `size` adds to a fresh process's peak."""
    script = (
        "import sys; from pathlib import Path\n"
        "from harness import configs, data\n"
        "from tests.bench import bench_data\n"
        "config, before = configs.load('small'), bench_data.fresh_high_water()\n"
        "source = data.open_source(config, 1, Path(sys.argv[1]))\n"
        "bench_data.drawn(source, *map(int, sys.argv[2:]))\n"
        "print(bench_data.high_water() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory), str(count), str(workers), str(size)],
        check=True, capture_output=True, text=True,
    )
    return int(done.stdout)


def listing_peak() -> int:
    """Bytes that listing the plain form takes at MS-COCO's size (496,896 files)."""
    script = (
        "from pathlib import Path\n"
        "from harness.data import features\n"
        "from tests.bench import bench_data\n"
        "names = lambda: (f'{i}{k}.npy' for i in range(82783) for k in"
        " ('', '_0', '_1', '_2', '_3', '_4'))\n"
        "before = bench_data.fresh_high_water()\n"
        "counts = features.count_captions(features.listing_of(Path('.'), names()))\n"
        "print(bench_data.high_water() - before)\n"
    )
    return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True,
                              text=True).stdout)


def fresh_high_water() -> int:
    """Start the peak anew from what is resident now (Linux: 5 to clear_refs); that, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return high_water()


def high_water() -> int:
    """Peak resident bytes of this process (ru_maxrss would have its parent's in it)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


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
            f"{n}, {w} workers, batches of {size}": peak(d, w, 2 * options.images, size)
            for n, d in (("plain", plain), ("packed", dirs["packed"]))
            for w, size in ((4, 32), (16, 256))
        }
        memory["listing the plain form of MS-COCO"] = listing_peak()
    finally:
        if not options.dir:
            shutil.rmtree(root, ignore_errors=True)
    report(rates, memory, as_json=options.json)


def report(rates: dict[str, np.ndarray], memory: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        said = {name: {"wall": r[0], "cpu": r[1]} for name, r in rates.items()}
        print(json.dumps({"samples_per_second": said, "peak_bytes": memory}, indent=2))
        return
    print(f"{'samples a second':<46}{'wall':>9}{'x':>7}{'CPU':>10}{'x':>7}")
    for name, found in rates.items():
        base = (
            "PaddleMIX, batches of 32" if "drawn" in name
            else "PaddleMIX, samples, every value read" if "every" in name
            else "PaddleMIX, samples"
        )
        times = found / rates[base]
        print(f"{name:<46}{found[0]:>9,.0f}{times[0]:>7.1f}{found[1]:>10,.0f}{times[1]:>7.1f}")
    for name, value in memory.items():
        print(f"loader memory: {name:<50} {value / 1e6:>6,.0f} MB")
    print(arithmetic())


if __name__ == "__main__":
    main()
