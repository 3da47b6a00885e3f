"""Runs with names and prompts of people who are not us: many, long, from right to left."""

from __future__ import annotations

from pathlib import Path

from tests.reports import fabricate

ARABIC = "قطة رمادية نائمة على كرسي أحمر (صورة 12)، بجانب نافذة."
HEBREW = "ילד רוכב על אופניים כחולים, 3 כלבים רצים אחריו!"
LONG = "a photograph of a very crowded street market in the rain, seen from above, " * 8
UNBROKEN = "a_prompt_without_a_single_blank_" * 10
PROMPTS = (ARABIC, LONG, HEBREW, UNBROKEN)
NAMES = (
    "small-lr2e-4-warmup5000-bs256-ema0.9999-bf16-fused-kernels-seed1234-second-attempt-after-the-"
    "power-cut-of-tuesday", "تدريب-نموذج-صغير", "אימון ארוך, ניסיון 3", "plain",
)


def runs(root: Path, count: int) -> list[Path]:
    """`count` runs with figures, two evaluations and samples each; the first four are NAMES."""
    made = []
    for i in range(count):
        name = NAMES[i] if i < len(NAMES) else f"run {i}, of a sweep over learning rates 1e-{i}"
        config = ("small", "small_deep", "mid")[i % 3]
        directory = fabricate.run(
            root / name, config, seed=i, images_per_second=130.0 - 3 * i, steps=60,
            device="NVIDIA A100-SXM4-80GB", device_bytes=int((9 + i / 4) * 1e9),
            driver=f"550.{i}",
        )
        for step in (30, 60):
            fabricate.evaluate(directory, step, {
                "fid": 9 + i / 3 + 60 / step, "kid": 0.002, "precision": 0.7, "recall": 0.6,
                "clip_score": 0.3, "val_loss": 0.1,
            }, n_samples=10_000 if i % 5 == 4 else 30_000)  # fmt: skip
            fabricate.samples(directory, step, noise=30 / step / 2, prompts=PROMPTS)
        made.append(directory)
    return made
