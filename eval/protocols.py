"""Named, pinned ways to measure; whatever is changed gets another name.

A figure means nothing without how it was made. `Protocol` holds what can be chosen; `describe`
adds what was found when it ran (digests of captions, reference, feature weights and VAE), and that
is what result.json carries and what two figures must have in common before they are compared.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, NoReturn

from harness import configs
from harness.base.errors import UsageError

# Feature networks that a protocol may ask for beside its own, in the order that they are named in.
ALSO = ("dinov2", "clip")
# Of the official code's images: (x + 1) / 2 clipped to [0, 1], then torchvision.save_image's
# mul(255).add(0.5).clamp(0, 255).to(uint8).
QUANTISATION = "uint8(clip((x + 1) / 2, 0, 1) * 255 + 0.5)"


def _check(p: Protocol) -> None:
    def refuse(what: str, remedy: str | None = None) -> NoReturn:
        raise UsageError(f"protocol {p.name}: {what}", remedy=remedy)

    for key in ("n_samples", "num_inference_steps", "loss_images"):
        if getattr(p, key) < 1:
            refuse(f"{key} is {getattr(p, key)}, at least 1 is needed")
    choices = {
        "features": ("inception", "digits"), "sampler": ("ddim", "dpm"),
        "dtype": ("float32", "float16", "bfloat16"),
    }
    for key, allowed in choices.items():
        if getattr(p, key) not in allowed:
            refuse(f"{key} {getattr(p, key)!r} is not one of {', '.join(allowed)}")
    if not 0.0 <= p.eta <= 1.0:
        refuse(f"eta {p.eta} is not within 0..1")
    if p.eta and p.sampler != "ddim":
        refuse("eta belongs to ddim", "leave it at 0")
    if not math.isfinite(p.guidance_scale):
        refuse(f"guidance_scale {p.guidance_scale} is not a number")
    if not 0.0 <= p.tome <= 0.75:
        refuse(f"a token merging ratio {p.tome} is not within 0..0.75")
    if p.tome_mlp and not p.tome:
        refuse("nothing is merged around the MLP without a token merging ratio",
               "give --tome RATIO with --tome-mlp")
    if tuple(n for n in ALSO if n in p.also) != p.also:
        refuse(f"{', '.join(map(str, p.also))} are not some of {', '.join(ALSO)}, each once and in "
               "this order")
    if p.seed < 0 or p.caption_seed < 0:
        refuse("seeds are not negative")


@dataclass(frozen=True)
class Protocol:
    """How samples are drawn and judged.

    `caption_seed` fixes which captions, `seed` the noise; `guidance_scale` g is the standard one,
    uncond + g (cond - uncond): 2.0 here is the official code's `scale=1`. `eta` is DDIM's.
    `loss_images` (but no more than `n_samples`) is over how many val images the validation loss is.
    `tome` is the ratio of image tokens merged around attention, with `tome_mlp` around the MLP too.
    With `clip` the CLIP score is measured as well. The same images go through the networks of
    `also` too, each with figures of its own.
    """

    name: str
    features: str  # "inception" or "digits"
    n_samples: int
    sampler: str = "ddim"  # or "dpm": DPM-Solver++ as in the official code
    num_inference_steps: int = 50
    eta: float = 0.0
    guidance_scale: float = 2.0
    dtype: str = "float32"
    seed: int = 1234
    caption_seed: int = 1234
    loss_images: int = 1024
    tome: float = 0.0
    tome_mlp: bool = False
    clip: bool = False
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self)


_COCO = Protocol("coco-ddim50", "inception", 30_000)
_DIGITS = Protocol("digits-ddim50", "digits", 500, loss_images=64)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _COCO,
        dataclasses.replace(_COCO, name="coco-ddim50-10k", n_samples=10_000),
        # What the published 5.95 (small) and 5.48 (small_deep) were made with.
        dataclasses.replace(_COCO, name="coco-dpm50", sampler="dpm"),
        _DIGITS,
        dataclasses.replace(_DIGITS, name="digits-ddim20", num_inference_steps=20),
        dataclasses.replace(
            _DIGITS, name="digits-ddim20-200", num_inference_steps=20, n_samples=200
        ),
    )
}

# Field -> its abbreviation in the name of a protocol that differs from a pinned one.
_SHORT = {
    "features": "", "n_samples": "n", "sampler": "", "num_inference_steps": "steps",
    "eta": "eta", "guidance_scale": "g", "dtype": "", "seed": "s", "caption_seed": "captions",
    "loss_images": "loss", "tome": "tome", "tome_mlp": "mlp", "clip": "clip",
    "also": "also-",
}


def get(name: str, **overrides: Any) -> Protocol:
    """The protocol called `name`, with `overrides` (None: not given) and then another name.

    `get("coco-ddim50", n_samples=24).name` is "coco-ddim50+n24"; overriding with the pinned
    value changes nothing. UsageError for an unknown name or an impossible value.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown protocol {name!r}", remedy=f"{hint}there are: {', '.join(PROTOCOLS)}"
        )
    base = PROTOCOLS[name]
    changed = {
        key: value for key, value in overrides.items()
        if value is not None and value != getattr(base, key)
    }
    if not changed:
        return base
    suffix = "".join(f"+{_SHORT[key]}{_text(changed[key])}" for key in _SHORT if key in changed)
    return dataclasses.replace(base, name=name + suffix, **changed)


def reseeded(protocol: Protocol, seed: int) -> Protocol:
    """The same protocol with noise from another seed, under a name that says so."""
    if seed == protocol.seed:
        return protocol
    return dataclasses.replace(protocol, name=f"{protocol.name}+s{seed}", seed=seed)


def resized(protocol: Protocol, n_samples: int) -> Protocol:
    """The same protocol for another N, under the name that `get` would give it."""
    fields = {**dataclasses.asdict(protocol), "n_samples": n_samples}
    return get(fields.pop("name").partition("+")[0], **fields)


def network_calls(protocol: Protocol) -> int:
    """How often the network is asked about one image: twice a step, once where g = 1."""
    return protocol.num_inference_steps * (1 if protocol.guidance_scale == 1.0 else 2)


def is_pinned(protocol: Protocol) -> bool:
    """Whether this is, in every field, the protocol that its name says."""
    return PROTOCOLS.get(protocol.name) == protocol


def describe(
    protocol: Protocol, *, captions: dict[str, Any], features: dict[str, Any],
    reference: dict[str, Any], latent_scale: float, vae_sha256: str | None,
    clip: dict[str, Any] | None = None, also: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Everything that a figure made by `protocol` depends on, as plain JSON values.

    `also`: for each further network what is said of its features and of its reference.
    """
    fields = dataclasses.asdict(protocol)
    if not protocol.tome:  # without it, figures are what they were before it could be chosen
        del fields["tome"], fields["tome_mlp"]
    if not protocol.clip:
        del fields["clip"]
    del fields["also"]
    return {
        **fields,
        "features": features,
        "captions": captions,
        "reference": reference,
        **({"clip": clip} if clip else {}),
        **({"also": also} if also else {}),
        "weights": "ema",
        "latent_scale": latent_scale,
        "vae_sha256": vae_sha256,
        "quantisation": QUANTISATION,
        "pinned": is_pinned(protocol),
    }


def without_n(described: dict[str, Any]) -> dict[str, Any]:
    """A described protocol less all that the number of its samples decides.

    The captions of N samples are the first N of a longer list, so that the samples of two
    evaluations which differ in nothing else are the same as far as both go.
    """
    decided = ("name", "n_samples", "pinned")
    found = {key: value for key, value in described.items() if key not in decided}
    captions = {k: v for k, v in described["captions"].items() if k != "sha256"}
    return {**found, "captions": captions}


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value in a, value in b) wherever two described protocols differ.

    Empty means that figures made by them may be compared.
    """
    return configs.differences(without_paths(a), without_paths(b))


def without_paths(described: dict[str, Any]) -> dict[str, Any]:
    """A described protocol less every nested `path`: where a file lay does not change a figure."""
    return {
        key: {k: v for k, v in without_paths(value).items() if k != "path"}
        if isinstance(value, dict) else value
        for key, value in described.items()
    }


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(value)
    if value is True:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
