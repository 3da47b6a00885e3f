"""Arguments and options that several commands share."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from harness.base import kernel_choice
from harness.configs.shipped_names import shipped


class ConfigName(click.ParamType):
    """A shipped config's name or a TOML file's path; completes both in the shell."""

    name = "config"

    def shell_complete(self, ctx, param, incomplete):
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name) for name in shipped() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class NetworkName(click.ParamType):
    """NAME or NAME=FOLDER of a feature network -> (name, folder or None)."""

    name = "network"

    def __init__(self, *names: str):
        self.names = names

    def get_metavar(self, param):
        return f"[{'|'.join(self.names)}][=FOLDER]"

    def convert(self, value, param, ctx):
        name, given, folder = value.partition("=") if isinstance(value, str) else value
        if name not in self.names:
            self.fail(f"{name!r} is not one of {', '.join(self.names)}.", param, ctx)
        return name, Path(folder) if given else None


class RunPath(click.Path):
    """A run's directory; completes the runs in the folder that is typed, or those in runs/."""

    def shell_complete(self, ctx, param, incomplete):
        from click.shell_completion import CompletionItem

        folder = incomplete[: incomplete.rfind("/") + 1] or "runs/"
        names = sorted(path.parent.name for path in Path(folder).glob("*/run.json"))
        found = [CompletionItem(folder + n) for n in names if (folder + n).startswith(incomplete)]
        return found or super().shell_complete(ctx, param, incomplete)


class Suggesting(click.Group):
    """A group that names the command which a misspelt one is like."""

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                error.message += f" Did you mean {near[0]!r}?"
            raise


config_argument = click.argument("config", type=ConfigName(), metavar="CONFIG")
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Change one value of the config; the run is then marked as not pinned.",
)
kernels_option = click.option(
    "--kernels", type=click.Choice(kernel_choice.CHOICES["kernels"]),
    help="Whose compute the network: paddle's own, or the harness's, for float32 on a CPU.  "
    "[default: fused on a CPU, paddle on a GPU]",
)
execution_option = click.option(
    "--execution", type=click.Choice(kernel_choice.CHOICES["execution"]),
    help="static: as a graph, by paddle.jit.to_static and paddle's kernels.  [default: eager]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def format_option(*more: str):
    """--format of another tool: baselines.result_formats.FORMATS (a test holds them equal)."""
    forms = ["tipc", "bmf", "gha-bigger", "gha-smaller", "openmetrics", "junit", *more]
    return click.option(
        "--format", "form", type=click.Choice(forms),
        help="Print the runs' figures in the form of another tool, and nothing else.",
    )


def directory_option(*names: str, **settings):
    """An option that takes a directory's path (which need not exist)."""
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option(*names, type=kind, **settings)


def file_option(*names: str, **settings):
    """An option that takes a file's path (which need not exist)."""
    return click.option(*names, type=click.Path(dir_okay=False, path_type=Path), **settings)
