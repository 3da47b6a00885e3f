"""Every command that the README and docs/ show is one that the command line takes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import COMMANDS, root
from harness.configs.names import shipped

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page):
    """Lines of indented or fenced blocks that start with `harness`, joined where they go on."""
    text = page.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        bare = line.strip().removeprefix("$ ").removeprefix("srun ")
        if line != line.lstrip() or "`" not in line:
            synopsis = " [" in bare or " ... " in bare
            if re.match(r"harness [a-z]", bare) and not synopsis:
                yield bare.split(" #")[0]


SHOWN = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{p}: {c}"[:70] for p, c in SHOWN])
def test_a_shown_command_is_taken(page, line):
    # What a batch script leaves to the scheduler and to its own arguments.
    for text, value in (('"$@"', "digits_tiny"), ('"$SLURM_NNODES"', "2")):
        line = line.replace(text, value)
    arguments = shlex.split(line)[1:]
    command, context = root, click.Context(root)
    while isinstance(command, click.Group):
        name, *arguments = arguments
        child = command.get_command(context, name)
        assert child is not None, f"{page}: no command {name!r}"
        command = child
    # Parses arguments and options, and calls nothing.
    command.make_context(command.name, arguments)


def test_the_pages_do_show_commands():
    assert len(SHOWN) > 15


def test_the_readme_names_every_command_and_config():
    readme = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"harness {name}" in readme, name
    for name in shipped():
        assert f"`{name}`" in readme, name


def test_the_readme_gives_every_options_place():
    """Each of the config's keys that replaces a PaddleMIX flag is spelled as the schema has it."""
    from harness.configs.schema import Config

    sections = {name for name in Config.model_fields}
    for section, key in re.findall(r"`(\w+)\.(\w+)(?:`| =)", (ROOT / "README.md").read_text()):
        if section in sections:
            assert key in Config.model_fields[section].annotation.model_fields, f"{section}.{key}"


def test_every_make_target_that_is_shown_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"
