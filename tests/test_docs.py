"""What the README, CONTRIBUTING and docs/ show of the command line is what it takes and says."""

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.cli import COMMANDS, root
from harness.configs.shipped_names import shipped
from tests import cli_page

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


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
    for text, value in (('"$@"', "digits_tiny"), ('"$SLURM_NNODES"', "2"), ('"$count"', "2"),
                        ('"$steps"', "2")):
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
    readme = README.read_text()
    for name in COMMANDS:
        assert f"harness {name}" in readme, name
    for name in shipped():
        assert f"`{name}`" in readme, name


def test_keys_are_spelled_as_the_schema_has_them():
    """Not least those that stand for PaddleMIX's flags."""
    from harness.configs.schema import Config

    sections = set(Config.model_fields)
    named = {
        (section, key) for page in (README, ROOT / "docs" / "from-paddlemix.md")
        for section, key in re.findall(r"`(\w+)\.(\w+)(?:`| =)", page.read_text())
        if section in sections
    }
    assert len(named) > 20
    for section, key in named:
        assert key in Config.model_fields[section].annotation.model_fields, f"{section}.{key}"


def test_every_make_target_that_is_shown_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"


def test_the_page_of_options_is_what_help_says():
    assert (ROOT / "docs" / "cli.md").read_text() == cli_page.page(), "run `make docs-cli`"


def test_a_person_reads_the_readme_to_its_end():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize(
    ("heading", "page", "first"),
    [("Speed", "speed.md", 1), ("What is promised", "reproducibility.md", 0)],
)
def test_the_readmes_rows_are_rows_of_the_whole_table(heading, page, first):
    """As they stand there, `first` being the first of the columns that the README has."""
    shown = rows(README.read_text().partition(f"## {heading}")[2].partition("\n## ")[0])
    whole = rows((ROOT / "docs" / page).read_text())
    assert len(shown) == 10  # with the heads
    for row in shown[2:]:
        assert row in [there[first : first + len(row)] for there in whole], row


def rows(text):
    """The cells of each line of a page's tables."""
    lines = re.findall(r"^\| (.*) \|$", text, re.M)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_chinese_readme_keeps_step():
    """Commands, headings, links and the tables' figures are those of README.md."""
    ours, theirs = (path.read_text() for path in (README, ROOT / "README.zh.md"))

    def shape(text):
        blocks = re.findall(r"^ {4}(.*?)(?: {2,}.*)?$", text, re.M)
        links = re.findall(r"\]\(([^)]*)\)", text)
        # What is not translated in a table: names, commands, numbers.
        cells = [[cell for cell in row if re.match(r"^[`\d]", cell)] for row in rows(text)]
        levels = re.findall(r"^#+", text, re.M)
        return levels, blocks, sorted(links)[1:], [row for row in cells if row], len(rows(text))

    english = shape(ours.replace("README.zh.md", ""))
    for one, other in zip(english, shape(theirs.replace("README.md", "")), strict=True):
        assert one == other


def test_every_link_leads_somewhere():
    for page in (*PAGES, ROOT / "CHANGELOG.md"):
        for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def anchors(page):
    """The anchors that a forge gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
