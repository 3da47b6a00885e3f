"""The configs that the promises are tested on: a tiny one, and ones that evaluate and draw grids.

`digits_tiny` is the shipped config, only made shorter. `coco` goes COCO's way with everything
switched on: latents and context of COCO's sizes, a VAE of four channels, Inception (random
weights); network and number of samples are small.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from eval import protocols
from tests import assets, fixtures
from tests.warm import Warm

# Steps; evaluated at the start and after step 8, where a grid is drawn and a checkpoint saved too.
STEPS = 12
SHORT = (f"train.max_steps={STEPS}", "train.save_steps=3", "train.image_steps=8",
         "train.eval_steps=8")

COCO_PROTOCOL = dataclasses.replace(
    protocols.get("coco-ddim50-10k"), name="coco-for-tests", n_samples=4, num_inference_steps=2)
# The shipped ones take thousands of samples; known wherever this module is imported.
protocols.PROTOCOLS[COCO_PROTOCOL.name] = COCO_PROTOCOL

COCO = f"""
name = "coco"

[model]
sample_size = 32
patch_size = 4
num_layers = 2
num_attention_heads = 2
attention_head_dim = 16
clip_dim = 768
num_text_tokens = 77

[train]
global_batch_size = 8
micro_batch_size = 4
log_steps = 1
eval_at_start = true

[eval]
train_protocol = "{COCO_PROTOCOL.name}"
"""


def server(folder: Path) -> Warm:
    """One that knows the protocol above; its commands look for Inception's weights in `folder`."""
    return Warm(folder, "tests.faults.cases", TORCH_HOME=str(folder / "torch"))


@dataclass(frozen=True)
class Case:
    """A config (name or file), its data, and the values that make it short."""

    config: str
    data: Path
    sets: tuple[str, ...]

    def train(self, directory: Path, *more: object) -> tuple[object, ...]:
        """The arguments of `harness` that train it in `directory`."""
        sets = [word for value in self.sets for word in ("--set", value)]
        return ("train", self.config, "--data", self.data, "--output-dir", directory, *sets, *more)


def make(name: str, warm, folder: Path) -> Case:
    """The case called `name`, with its data in `folder`; commands run in `warm`."""
    if name == "tiny":
        config = fixtures.write_tiny_config(folder / "tiny.toml")
        data = fixtures.write_features(folder / "data")
        return Case(str(config), data, (f"train.max_steps={STEPS}", "train.keep_checkpoints=9"))
    if name == "digits_tiny":
        ended = warm.run("data", "digits", folder / "data")
        assert ended.returncode == 0, ended.stderr
        return Case("digits_tiny", folder / "data", SHORT)
    from eval.features import inception_weights
    from eval.metrics import feature_statistics
    from harness.base import seeds
    from tests.eval import peer

    (folder / "coco.toml").write_text(COCO)
    data = fixtures.write_features(folder / "data", size=32, tokens=77, width=768)
    shutil.copytree(assets.VAE, data / "vae")
    features = seeds.generator(0, "reference").standard_normal((8, 2048))
    feature_statistics.save(data / "reference.npz", feature_statistics.of_features(features))
    home = Path(warm.environment["TORCH_HOME"])
    weights = home / "hub" / "checkpoints" / inception_weights.FILE_NAME
    if not weights.exists():
        peer.write_weights(weights)
    return Case(str(folder / "coco.toml"), data, SHORT)


def bits(directory: Path) -> dict[str, object]:
    """Everything of a run that must come out the same, by relative path."""
    found = {p.relative_to(directory): p for part in ("checkpoints", "samples", "eval")
             for p in sorted((directory / part).rglob("*")) if p.is_file()}
    assert not [path for path in found if path.name.startswith(".")]
    read = {str(path): content(file) for path, file in found.items()}
    return {"metrics.jsonl": (directory / "metrics.jsonl").read_bytes(), **read}


def content(path: Path) -> object:
    """What of a file must come out the same; None of a clock's."""
    if path.name.endswith(".seconds.json"):
        return None
    if path.name == "result.json":
        result = json.loads(path.read_text())
        del result["timing"]
        return json.dumps(result)
    return path.read_bytes()
