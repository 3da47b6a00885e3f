"""What a figure of quality depends on, and which figures may stand in one column.

Two figures are of one kind when their metric, number of samples and whole
protocol are equal. Everything else about them (run, step) is what is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from eval.protocols import without_paths
from harness import configs, files

# +1: more is better, -1: less is better. Unknown metrics are shown without a verdict.
_BETTER = {
    "fid": -1, "fd": -1, "kid": -1, "loss": -1, "val": -1,
    "accuracy": 1, "precision": 1, "recall": 1, "clip": 1, "is": 1, "inception": 1,
    "density": 1, "coverage": 1, "cmmd": -1,
}  # fmt: skip
_NAMES = {
    "fid": "FID", "fd": "FD", "kid": "KID", "fd_digits": "FD (digits)", "accuracy": "Accuracy",
    "precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage",
    "cmmd": "CMMD", "fd_dinov2": "FD (DINOv2)", "fd_dinov2_infinity": "FD (DINOv2, infinite N)",
    "fd_clip": "FD (CLIP)", "fd_clip_infinity": "FD (CLIP, infinite N)",
    "val_loss": "Validation loss", "fid_infinity": "FID (infinite N)",
    "fd_digits_infinity": "FD (digits, infinite N)",
    "clip_score": "CLIP score", "is": "Inception score",
}  # fmt: skip
SHARES = ("accuracy", "precision", "recall", "coverage")


def better(metric: str) -> int:
    """+1 if more of `metric` is better, -1 if less is, 0 if that is not known."""
    return _BETTER.get(metric, _BETTER.get(metric.split("_")[0], 0))


def heading(metric: str) -> str:
    """The metric's name as people write it."""
    return _NAMES.get(metric, metric.replace("_", " "))


def is_distance(metric: str) -> bool:
    """Whether it is the Frechet distance at N."""
    return (metric == "fid" or metric.startswith("fd_")) and not metric.endswith("_infinity")


def is_headline(metric: str) -> bool:
    """Whether it is set against throughput and drawn in the Markdown report."""
    return is_distance(metric) or metric in ("accuracy", "val_loss", "clip_score")


@dataclass(frozen=True)
class Protocol:
    """One way to make a figure. Equal exactly when everything it depends on is equal."""

    digest: str  # SHA-256 over N and the whole protocol
    n_samples: int
    name: str
    values: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, values: dict[str, Any], n_samples: int, *, fallback: str = "") -> Protocol:
        """The protocol recorded in a result.json; `fallback` names one that has no name."""
        values = without_paths(values)
        content = {"n_samples": n_samples, "protocol": values}
        digest = files.json_digest(content)
        return cls(digest, n_samples, _name(values) or fallback or "unnamed", values)


def labels(protocols: Iterable[Protocol]) -> dict[str, str]:
    """Digest -> a short label, unambiguous among `protocols`: 'coco-ddim50, N=30000'.

    Protocols that share a name and N are told apart by the beginning of their digest.
    """
    unique = {p.digest: p for p in protocols}
    plain = {d: f"{p.name}, N={p.n_samples}" for d, p in unique.items()}
    texts = list(plain.values())
    return {d: t if texts.count(t) == 1 else f"{t}, #{d[:6]}" for d, t in plain.items()}


def differences(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """Key -> (in a, in b) of everything in which two protocols differ, N included."""
    return configs.differences(
        {"n_samples": a.n_samples, **a.values}, {"n_samples": b.n_samples, **b.values}
    )


def _name(values: dict[str, Any]) -> str:
    for key in ("name", "protocol"):
        if isinstance(values.get(key), str):
            return values[key]
    sampler, steps = values.get("sampler"), values.get("num_inference_steps")
    scale = values.get("guidance_scale")
    parts = [f"{sampler}{steps}" if sampler and steps else "", f"g{scale}" if scale else ""]
    return "-".join(part for part in parts if part)
