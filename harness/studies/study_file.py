"""`study.toml`: what a table is of, checked strictly, and the cells that follow from it.

    name = "digits-depth"
    question = "Does depth help on the digits?"
    configs = ["digits_tiny", "digits_tiny_deep"]   # shipped names, or TOML files beside this one
    seeds = [1, 2, 3]

All else may be left out; docs/studies.md has every key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from harness import configs, files
from harness.base.errors import DataError, UsageError
from harness.configs.load import parse_toml, read_toml
from harness.configs.schema import Config, PositiveInt, Section
from harness.configs.wrong_keys import explain
from harness.studies.study_sections import ANY, SOME, Comparison, ProtocolChoice, Seed

AXES = ("config", "variant", "stack", "kernels")
MOST_CELLS = 100_000
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=_NAME)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


@dataclass(frozen=True)
class StudyCell:
    """One run of a study. `axes`: everything but the seed, by the names in AXES."""

    id: str
    axes: dict[str, str]
    seed: int


class StudyFile(Section):
    """What a study's file says. A study's bits depend on `threads`, `nproc` and `nnodes` too."""

    name: Name
    question: Annotated[str, Field(min_length=1, max_length=1000)]
    configs: Any
    seeds: Annotated[tuple[Seed, ...], SOME]
    # To which step each cell is trained.  [default: its config's train.max_steps]
    steps: PositiveInt | None = None
    # The steps after which it is evaluated.  [default: the last]
    evaluate: Annotated[tuple[PositiveInt, ...], ANY] | None = None
    protocols: dict[Name, ProtocolChoice] = Field(default={"own": ProtocolChoice()})
    variants: dict[Name, Annotated[tuple[Text, ...], ANY]] = Field(default={"base": ()})
    # Interpreters; "" is the one that runs the study.
    stacks: dict[Name, str] = Field(default={"this": ""})
    kernels: Annotated[tuple[Literal["default", "fused", "paddle"], ...], SOME] = ("default",)
    threads: Annotated[int, Field(gt=0, le=1024)] = 1  # of each process that computes
    nproc: Annotated[int, Field(gt=0, le=64)] = 1  # workers, and devices, of a cell on a node
    nnodes: Annotated[int, Field(gt=0, le=1024)] = 1
    comparisons: Annotated[tuple[Comparison, ...], ANY] = ()

    @field_validator("seeds", "evaluate", "kernels")
    @classmethod
    def _once(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError("one is there twice")
        return values

    @field_validator("protocols", "variants", "stacks")
    @classmethod
    def _some(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise ValueError("is empty: leave it out, or name one")
        return values


class Study(StudyFile):
    """A study with its configs complete: nothing of it lies elsewhere."""

    configs: Annotated[dict[Name, Config], Field(min_length=1)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the study's canonical JSON, the configs' values included."""
        return files.json_digest(self.resolved())

    def resolved(self) -> dict[str, Any]:
        """All values as plain JSON, defaults filled in; `from_values` takes it."""
        return self.model_dump(mode="json")

    def values_of(self, axis: str) -> tuple[str, ...]:
        """The names along an axis, in the file's order."""
        names: dict[str, Iterable[str]] = {
            "config": self.configs, "variant": self.variants, "stack": self.stacks,
            "kernels": self.kernels,
        }
        return tuple(names[axis])

    @cached_property
    def varied(self) -> list[str]:
        """The axes with more than one value, and always the config."""
        return [axis for axis in AXES if axis == "config" or len(self.values_of(axis)) > 1]

    def cells(self) -> list[StudyCell]:
        """Every cell: seeds are what varies fastest, then kernels, stacks, variants, configs."""
        found = []
        for chosen in itertools.product(*map(self.values_of, AXES)):
            axes = dict(zip(AXES, chosen, strict=True))
            name = "-".join(axes[axis] for axis in self.varied)
            found += [StudyCell(f"{name}-s{seed}", axes, seed) for seed in self.seeds]
        return found

    def config(self, axes: dict[str, str]) -> Config:
        """What a cell trains: its config with its variant's changes."""
        return self.trained[axes["config"], axes["variant"]]

    @cached_property
    def trained(self) -> dict[tuple[str, str], Config]:
        """(config, variant) -> what is trained."""
        return {
            (name, variant): configs.overridden(
                config, changes, source=f"{name} with variant {variant}")
            for name, config in self.configs.items() for variant, changes in self.variants.items()
        }

    def last_step(self, axes: dict[str, str]) -> int:
        """The step to which a cell is trained."""
        return self.steps or self.config(axes).train.max_steps

    def evaluated_steps(self, axes: dict[str, str]) -> tuple[int, ...]:
        """The steps after which a cell is evaluated, ascending."""
        last = (self.last_step(axes),)
        return last if self.evaluate is None else tuple(sorted(self.evaluate))

    def pairs(self, comparison: Comparison) -> list[tuple[str, str]]:
        """(one, against which) along the comparison's axis."""
        if comparison.pairs is not None:
            return [(pair[0], pair[1]) for pair in comparison.pairs]
        names = self.values_of(comparison.axis)
        return [(one, comparison.against or "") for one in names if one != comparison.against]


def load(path: Path | str) -> Study:
    """The study that a file asks for; UsageError says what is wrong where.

    Paths of configs are taken from the file's own folder.
    """
    path = Path(path)
    source = f"study {path}"
    values = parse_toml(read_toml(path, "study"), source)
    named = values.get("configs")
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UsageError(f"{source}: configs is no list of names",
                         remedy='write configs = ["digits_tiny"]')
    found: dict[str, Config] = {}
    for name in named:
        config = configs.load(_beside(name, path.parent))
        if config.name in found:
            raise UsageError(f"{source}: two configs are called {config.name}")
        found[config.name] = config
    try:
        return _checked({**values, "configs": found})
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error, _KEYS)}") from error
    except UsageError as error:
        raise UsageError(f"{source}: {error.message}", remedy=error.remedy) from error


def from_values(values: Any, *, source: str) -> Study:
    """The study that was recorded earlier (`Study.resolved`); DataError if it is not one."""
    try:
        return _checked(values)
    except ValidationError as error:
        raise DataError(f"study recorded in {source}: {explain(error, _KEYS)}") from error
    except UsageError as error:
        raise DataError(f"study recorded in {source}: {error.message}") from error


def _beside(name: str, folder: Path) -> str:
    is_path = name.endswith(".toml") or "/" in name
    return str(folder / name) if is_path else name


def _checked(values: Any) -> Study:
    study = Study.model_validate(values)
    for problem in _problems(study):
        raise UsageError(problem)
    return study


def _problems(study: Study) -> Iterator[str]:
    """What each value allows and all of them together do not."""
    count = len(study.seeds)
    for axis in AXES:
        count *= len(study.values_of(axis))
    if count > MOST_CELLS:
        yield f"{count:,} cells are more than {MOST_CELLS:,}"
    cells = study.cells()
    if long := next((one.id for one in cells if len(one.id) > 200), None):
        yield f"the cell {long[:40]}... has a name of more than 200 characters"
    if len({one.id for one in cells}) < len(cells):
        yield "two cells have the same name: a name of an axis ends as another begins"
    seen: dict[tuple[str, str], str] = {}
    for (name, variant), config in study.trained.items():
        digest = configs.digest(config)
        if other := seen.get((name, digest)):
            yield f"variants {other!r} and {variant!r} make the same of {name}"
        seen[name, digest] = variant
        yield from _too_far(study, {"config": name, "variant": variant})
        for choice in study.protocols.values():
            choice.of(config)
    for comparison in study.comparisons:
        known = study.values_of(comparison.axis)
        if len(known) < 2:
            yield f"nothing to compare along {comparison.axis}: there is {known[0]!r} alone"
        for one in {name for pair in study.pairs(comparison) for name in pair}:
            if one not in known:
                yield f"comparisons: no {comparison.axis} {one!r}; there are: {', '.join(known)}"


def _too_far(study: Study, axes: dict[str, str]) -> Iterator[str]:
    config, last = study.config(axes), study.last_step(axes)
    if last > config.train.max_steps:
        yield (f"steps {last:,} is more than the {config.train.max_steps:,} of {axes['config']}'s "
               "train.max_steps")
    if study.evaluate and max(study.evaluate) > last:
        yield f"evaluate: step {max(study.evaluate):,} is after the last, {last:,}"


_KEYS = [
    prefix + key
    for prefix, kind in (
        ("", StudyFile), ("protocols.", ProtocolChoice), ("comparisons.", Comparison))
    for key in kind.model_fields
]
