"""`harness plan`: will a config fit a machine, and what will it take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.base.wording import size
from harness.commands.options import (
    config_argument,
    directory_option,
    json_option,
    overrides_option,
)

_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("s", 1.0))


class Days(click.ParamType):
    """A length of time, `3d` or `12h`, in days."""

    name = "time"

    def convert(self, value, param, ctx):
        number, unit = str(value)[:-1], str(value)[-1:]
        try:
            days = float(number) * {"d": 1.0, "h": 1 / 24}[unit]
        except (KeyError, ValueError):
            self.fail(f"{value!r} is no time: 3d, 12h", param, ctx)
        if not 0 < days < 1e6:
            self.fail(f"{value} is out of range", param, ctx)
        return days


@click.command("plan")
@config_argument
@click.option("--device", required=True, metavar="DEVICE",
              help="a100-80g, h100, l4, rtx4090, cpu, ...: an unknown one lists them all.")
@click.option("--devices", type=click.IntRange(1, 4096), default=1, show_default=True,
              help="Of them, on each node.")
@click.option("--nodes", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--target", type=Days(),
              help="In place of --devices: be done in this time (3d, 12h).")
@click.option("--price", type=click.FloatRange(0, min_open=True),
              help="Of one device for an hour.")
@directory_option("--from", "run", help="A run whose measured speed is taken.")
@overrides_option
@json_option
def command(
    config: str, device: str, devices: int, nodes: int, target: float | None,
    price: float | None, run: Path | None, overrides: tuple[str, ...], as_json: bool,
) -> None:
    """Say whether CONFIG fits, with which micro-batch, and how long it takes, before it is begun.

    Times are ranges: by the device's data sheet and what published training reached of it, or
    with --from by a run of your own. If it does not fit as it is, smaller micro-batches, a sharded
    optimizer and recomputation are tried, in this order.
    """
    from harness import configs
    from harness.plan import devices as known
    from harness.plan import plan

    made = plan.make(
        configs.load(config, overrides), known.find(device), devices=devices * nodes, nodes=nodes,
        price=price, run=run, target=target,
    )
    if as_json:
        click.echo(json.dumps(made, indent=2))
    else:
        for line in lines(made):
            click.echo(line)


def lines(made: dict[str, Any]) -> list[str]:
    """What `plan.make` found, for a terminal."""
    chosen = made["choice"]
    where = f"{made['devices']} x {made['device']}"
    if made["nodes"] > 1:
        where += f" in {made['nodes']} nodes"
    found = [
        f"{made['config']} ({made['parameters'] / 1e6:,.0f} M parameters) on {where}", "",
        f"fits           {_fits(made)}",
        f"with           {_how(made)}",
        "memory         " + ", ".join(
            f"{part} {size(held)}" for part, held in chosen["memory"].items()),
        f"speed          {_range(chosen['images_per_second'])} images/s, "
        f"{_span(chosen['step_seconds'])} a step",
        f"the run        {made['steps']:,} steps: {_range(made['days'])} days, "
        f"{_range(made['device_hours'])} device-hours",
    ]
    if made["cost"] is not None:
        found.append(f"cost           {_range(made['cost'])}")
    if made["evaluations"]:
        found.append(f"of that        {made['evaluations']} evaluations of "
                     f"{_span([3600 * hours for hours in made['evaluation_hours']])} each")
    found += [
        f"then           one evaluation by the config's protocol: "
        f"{_span([3600 * hours for hours in made['final_evaluation_hours']])}",
        f"on disk        {size(made['checkpoints_bytes'])} at most, "
        f"{size(made['checkpoint_bytes'])} a checkpoint",
        f"by             {made['rate']}", "",
        f"{'devices':>7} {'micro-batch':>11} {'memory':>9} {'fits':>5} {'images/s':>15} "
        f"{'days':>15}",
    ]
    for one in made["table"]:
        found.append(
            f"{one['devices']:>7} {one['micro_batch']:>11} {size(one['bytes']):>9} "
            f"{'yes' if one['fits'] else 'no':>5} {_range(one['images_per_second']):>15} "
            f"{_range(one['days']):>15}"
        )
    return found


def _fits(made: dict[str, Any]) -> str:
    chosen = made["choice"]
    said = f"{size(chosen['bytes'])} of {size(made['memory_of_device'])} on each"
    if not chosen["fits"]:
        return f"no: {said}, with all that could be saved"
    return f"yes, as it is: {said}" if made["as_pinned"] else f"yes, changed: {said}"


def _how(made: dict[str, Any]) -> str:
    chosen = made["choice"]
    said = [f"train.micro_batch_size={chosen['micro_batch']}"]
    said += [f"train.{key}=true" for key in ("recompute", "shard_optimizer") if chosen[key]]
    return ", ".join(said)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(pair: list[float] | tuple[float, float]) -> str:
    return f"{_number(pair[0])} to {_number(pair[1])}"


def _span(seconds: list[float] | tuple[float, float]) -> str:
    unit, seconds_each = next(((u, s) for u, s in _UNITS if seconds[0] >= s), ("ms", 1e-3))
    return f"{_range([one / seconds_each for one in seconds])} {unit}"
