"""The sections of a study's file: a way to evaluate, a planned comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from baselines.metrics import METRICS
from eval import protocols
from harness.cells.run_cells import given
from harness.configs.schema import Config, Positive, PositiveInt, Section

Seed = Annotated[int, Field(ge=0, lt=2**63)]
# A TOML array as a tuple, its items as strict as ever.
ANY = Field(strict=False, max_length=10_000)
SOME = Field(strict=False, min_length=1, max_length=10_000)


class ProtocolChoice(Section):
    """A way to evaluate, as `harness eval` takes it; what is left out is the protocol's own."""

    protocol: str | None = None  # default: the config's eval.protocol
    n_samples: PositiveInt | None = None
    sampler: Literal["ddim", "dpm"] | None = None
    num_inference_steps: PositiveInt | None = None
    guidance_scale: float | None = None
    eta: float | None = None
    seed: Seed | None = None
    caption_seed: Seed | None = None
    tome: float | None = None
    tome_mlp: bool | None = None

    def of(self, config: Config) -> protocols.Protocol:
        """The protocol of a run of `config`; UsageError if it is impossible."""
        chosen = self.model_dump()
        return protocols.get(chosen.pop("protocol") or config.eval.protocol, **chosen)

    def options(self, config: Config) -> list[str]:
        """The options of `harness eval` that ask for it."""
        return given(**{**self.model_dump(), "protocol": self.protocol or config.eval.protocol})


class Comparison(Section):
    """A planned comparison along one axis: all `against` one, or `pairs` (one, against which).

    `minimum`: the least effect that counts, by metric, on the scale of baselines.metrics.METRICS
    (a share of the value; for accuracy the difference itself), whose own it is where left out.
    """

    axis: Literal["config", "variant", "stack", "kernels"] = "config"
    against: str | None = None
    pairs: Annotated[tuple[Annotated[tuple[str, ...], ANY], ...], SOME] | None = None
    metrics: Annotated[tuple[str, ...], SOME]
    minimum: dict[str, Positive] = Field(default={})

    @model_validator(mode="after")
    def _one_way(self) -> Comparison:
        if (self.against is None) == (self.pairs is None):
            raise ValueError("give either `against` (all against one) or `pairs`")
        for pair in self.pairs or ():
            if len(set(pair)) != 2 or len(pair) != 2:
                raise ValueError(f"{list(pair)} is no pair of two different ones")
        for metric in (*self.metrics, *self.minimum):
            if metric not in METRICS:
                raise ValueError(f"no metric {metric!r}; there are: {', '.join(METRICS)}")
        if unused := sorted(set(self.minimum) - set(self.metrics)):
            raise ValueError(f"minimum of {unused[0]}, which is not among the metrics")
        return self

    def effects(self) -> dict[str, float]:
        """Metric -> the least effect that counts, in the order in which they are compared."""
        return {one: self.minimum.get(one, METRICS[one].minimum) for one in self.metrics}
