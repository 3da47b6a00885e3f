"""Sampling from `small` with DDIM and guidance, per image of 50 steps.

A few whole denoising steps are timed and scaled to 50: each costs the same. Two images at a time,
so that the network, which computes both predictions of guidance in one pass, runs at four.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, faster

PART, IMAGES, TIMED, STEPS = "sampling", 2, 2, 50


def rows(options: Options) -> Iterator[Row]:
    """Seconds an image against ppdiffusers and PyTorch."""

    def draw(worker):
        return worker.sample(images=IMAGES, steps=TIMED, guidance_scale=2.0)

    with sides.three(options, batch=IMAGES) as workers:
        told = sides.series(workers, draw, options.rounds)
    # ppdiffusers gives its network other timesteps (one off), so only these two are the same.
    both = [np.array(told[name][0]["latents"]) for name in (sides.OURS, sides.TORCH)]
    np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-3)
    took = {
        name: [one["seconds"] * STEPS / TIMED / IMAGES for one in each]
        for name, each in told.items()
    }
    name = f"sample small, {STEPS} steps, guided ({TIMED} steps timed)"
    for side, what, target in (
        (sides.PPDIFFUSERS, "ppdiffusers, paddle's defaults", 2.0), (sides.TORCH, "PyTorch", 1.0),
    ):
        yield faster(PART, name, what, took[sides.OURS], took[side], unit="s/image", target=target)
