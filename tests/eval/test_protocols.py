"""Protocols: pinned by name, renamed by any override, compared in full."""

import dataclasses

import pytest

from eval import protocols
from harness.base.errors import UsageError


def test_the_pinned_coco_protocols_are_the_published_setting():
    coco = protocols.get("coco-ddim50")
    assert (coco.n_samples, coco.sampler, coco.num_inference_steps) == (30_000, "ddim", 50)
    assert (coco.eta, coco.guidance_scale, coco.features) == (0.0, 2.0, "inception")
    assert protocols.get("coco-ddim50-10k").n_samples == 10_000
    dpm = protocols.get("coco-dpm50")
    assert dpm == dataclasses.replace(coco, name="coco-dpm50", sampler="dpm")
    assert all(protocols.is_pinned(p) for p in protocols.PROTOCOLS.values())


@pytest.mark.parametrize("override, name", [
    ({"n_samples": 24}, "coco-ddim50+n24"),
    ({"guidance_scale": 1.5, "n_samples": 24}, "coco-ddim50+n24+g1.5"),
    ({"sampler": "dpm"}, "coco-ddim50+dpm"),
    ({"seed": 1}, "coco-ddim50+s1"),
    ({"caption_seed": 1}, "coco-ddim50+captions1"),
    ({"clip": True}, "coco-ddim50+clip"),
    ({"num_inference_steps": 10, "eta": 0.5}, "coco-ddim50+steps10+eta0.5"),
])
def test_an_override_changes_the_name(override, name):
    found = protocols.get("coco-ddim50", **override)
    assert found.name == name
    assert not protocols.is_pinned(found)


def test_every_field_can_only_be_overridden_under_another_name():
    base = protocols.get("coco-ddim50")
    other = {
        "features": "digits", "n_samples": 7, "sampler": "dpm", "num_inference_steps": 9,
        "eta": 0.25, "guidance_scale": 3.0, "dtype": "bfloat16", "seed": 5, "caption_seed": 6,
        "loss_images": 8, "clip": True, "tome": 0.5,
        "also": ("clip",),
    }
    assert set(other) | {"tome_mlp"} == {f.name for f in dataclasses.fields(base)} - {"name"}
    names = {protocols.get("coco-ddim50", **{key: value}).name for key, value in other.items()}
    names.add(protocols.get("coco-ddim50", tome=0.5, tome_mlp=True).name)
    assert len(names) == len(other) + 1 and "coco-ddim50" not in names


def test_the_pinned_value_is_no_override():
    assert protocols.get("coco-ddim50", n_samples=30_000, eta=None) == protocols.get("coco-ddim50")


def test_reseeding_says_so():
    coco = protocols.get("coco-ddim50")
    assert protocols.reseeded(coco, 1234) is coco
    assert protocols.reseeded(coco, 1235) == protocols.get("coco-ddim50", seed=1235)


@pytest.mark.parametrize("arguments, said", [
    ({"name": "coco-ddim5"}, "did you mean 'coco-ddim50'"),
    ({"name": "coco-ddim50", "n_samples": 0}, "n_samples is 0"),
    ({"name": "coco-ddim50", "sampler": "euler"}, "sampler 'euler'"),
    ({"name": "coco-ddim50", "eta": 1.5}, "eta 1.5"),
    ({"name": "coco-ddim50", "tome_mlp": True}, "--tome RATIO with --tome-mlp"),
    ({"name": "coco-dpm50", "eta": 0.5}, "eta belongs to ddim"),
    ({"name": "coco-ddim50", "guidance_scale": float("nan")}, "guidance_scale nan"),
    ({"name": "coco-ddim50", "guidance_scale": float("inf")}, "guidance_scale inf"),
])
def test_impossible_protocols_are_refused(arguments, said):
    with pytest.raises(UsageError) as error:
        protocols.get(**arguments)
    assert said in str(error.value)


def described(**changes):
    values = {
        "captions": {"split": "val", "seed": 1, "sha256": "aa"}, "latent_scale": 0.2301,
        "features": {"network": "x", "sha256": "bb"}, "vae_sha256": "cc",
        "reference": {"sha256": "dd", "path": "/one"},
    }
    return protocols.describe(protocols.get("coco-ddim50"), **values | changes)


def test_any_part_that_differs_is_named():
    assert protocols.differences(described(), described()) == {}
    moved = described(reference={"sha256": "dd", "path": "/other"})
    assert protocols.differences(described(), moved) == {}  # where a file lies changes no figure
    other = described(reference={"sha256": "ee", "path": "/one"}, vae_sha256="ff")
    assert protocols.differences(described(), other) == {
        "reference.sha256": ("dd", "ee"), "vae_sha256": ("cc", "ff"),
    }
