"""`harness config`: list, show, compare, begin and validate configs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.commands.options import (
    ConfigName,
    Suggesting,
    config_argument,
    json_option,
    overrides_option,
)


@click.group("config", cls=Suggesting)
def command() -> None:
    """List, show, compare, begin and validate configs."""


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Names of the shipped configs, with parameters and digests."""
    from harness import configs

    rows = []
    for name in configs.shipped():
        config = configs.load(name)
        rows.append(
            {"name": name, "digest": configs.digest(config), "description": config.description}
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['digest'][:8]}  {row['description']}")


@command.command()
@config_argument
@overrides_option
@json_option
def show(config: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a config complete, with every default filled in (TOML, or JSON)."""
    from harness import configs

    loaded = configs.load(config, overrides)
    if as_json:
        click.echo(json.dumps(configs.resolved(loaded), indent=2))
        return
    pinned = "pinned" if configs.is_pinned(loaded) else "not pinned"
    click.echo(f"# digest {configs.digest(loaded)} ({pinned})")
    click.echo(configs.describe(loaded), nl=False)


@command.command()
@config_argument
@overrides_option
def validate(config: str, overrides: tuple[str, ...]) -> None:
    """Check a config (exit 2 says what is wrong with it) and print its digest."""
    from eval import protocols
    from harness import configs
    from harness.base.errors import UsageError

    loaded = configs.load(config, overrides)
    for key in ("protocol", "train_protocol"):  # whose names configs, below eval, cannot know
        try:
            protocols.get(getattr(loaded.eval, key))
        except UsageError as error:
            raise UsageError(f"eval.{key}: {error.message}", remedy=error.remedy) from None
    click.echo(f"{loaded.name}: valid, digest {configs.digest(loaded)}")


@command.command()
@click.argument("a", type=ConfigName(), metavar="A")
@click.argument("b", type=ConfigName(), metavar="B")
@json_option
def diff(a: str, b: str, as_json: bool) -> None:
    """Values that differ between configs A and B, defaults filled in."""
    from harness import configs

    found = configs.differences(*(configs.resolved(configs.load(one)) for one in (a, b)))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    width = max(map(len, found), default=0)
    for key, (before, after) in found.items():
        click.echo(f"{key:<{width}}  {before} -> {after}")


@command.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.toml")
@click.option("--like", "model", type=ConfigName(), default="small", show_default=True,
              help="The config to begin from.")
def init(path: Path, model: str) -> None:
    """Write a config of your own, with what each value may be beside it."""
    from harness import configs, files
    from harness.base.errors import UsageError

    if path.exists():
        raise UsageError(f"{path} exists", remedy="name another file")
    text = configs.commented(configs.load(model), name=path.stem)
    configs.parse(text.encode(), source=str(path))
    with files.writing(path):
        files.atomic_write_bytes(path, text.encode())
    click.echo(str(path))


@command.command()
def schema() -> None:
    """Print the JSON schema of configs, for editors."""
    from harness.configs.schema import Config

    click.echo(json.dumps(Config.model_json_schema(), indent=2))
