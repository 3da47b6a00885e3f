"""Sampling from `small` with DDIM and guidance, per image of 50 steps.

A few whole denoising steps are timed and scaled to 50: each costs the same. Two images at a time,
so that the network, which computes both predictions of guidance in one pass, runs at four.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.bench import sides
from tests.bench.options import Options
from tests.bench.rows import Row, Skipped

PART, IMAGES, TIMED, STEPS = "sampling", 2, 2, 50


def rows(options: Options) -> Iterator[Row | Skipped]:
    """Seconds an image against each peer of `tests.bench.sides`."""

    def draw(worker):
        return worker.sample(images=IMAGES, steps=TIMED, guidance_scale=2.0)

    name = f"sample small, {STEPS} steps, guided ({TIMED} steps timed)"
    targets = {
        sides.PPDIFFUSERS: sides.target(2.4, 5.0), sides.TORCH: sides.target(1.1, 2.0),
    }
    for group in sides.GROUPS:
        with sides.beside(group, options, batch=IMAGES) as workers:
            told = sides.series(workers, draw, options.rounds)
        # ppdiffusers gives its network other timesteps (one off): its latents are others.
        for side in told:
            if not side.startswith("ppdiffusers"):
                both = [np.array(told[one][0]["latents"]) for one in (sides.OURS, side)]
                np.testing.assert_allclose(*both, rtol=1e-3, atol=1e-3)
        took = {
            side: [one["seconds"] * STEPS / TIMED / IMAGES for one in each]
            for side, each in told.items()
        }
        yield from sides.against(group, options, PART, name, took, targets, unit="s/image")
