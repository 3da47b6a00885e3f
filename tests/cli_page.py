"""docs/cli.md, from click's own help: `make docs-cli`, or `python -m tests.cli_page`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from harness.cli import root

INTRODUCTION = """\
# Every command and option

Made from the commands' own `--help` by `make docs-cli`; a test holds the two equal.

Commands, options, configs and runs are completed by the shell after a line in its file of settings:

| shell | file | line |
| --- | --- | --- |
| bash | `~/.bashrc` | `eval "$(_HARNESS_COMPLETE=bash_source harness)"` |
| zsh | `~/.zshrc` | `eval "$(_HARNESS_COMPLETE=zsh_source harness)"` |
| fish | `~/.config/fish/config.fish` | `_HARNESS_COMPLETE=fish_source harness \\| source` |
"""


def helps(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """(full name, help text) of `command` and of all beneath it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=96,
                            **command.context_settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None, child
            yield from helps(found, child, context)


def page() -> str:
    """The whole page."""
    parts = [f"## {name}\n\n```\n{text}\n```\n" for name, text in helps(root, "harness")]
    return "\n".join([INTRODUCTION, *parts])


if __name__ == "__main__":
    print(page(), end="")
