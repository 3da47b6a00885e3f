"""docs/architecture.md says of the tree what is so: its rooms, arrows, paths and names."""

import re
from pathlib import Path

import pytest

from tests.test_layers import LAYERS, ROOT, arrows, modules, package

PAGE = (ROOT / "docs" / "architecture.md").read_text()
DRAWING = PAGE.partition("```mermaid")[2].partition("```")[0]
PATH = re.compile(r"`((?:harness|models|eval|reports|baselines|tests|docs|locks)/[\w./-]*)"
                  r"(?:::(\w+))?`")


def imports():
    """Room -> the rooms that its modules import from."""
    found = modules()
    rooms = {name: package(name, path) for name, path in found.items()}
    graph = {room: set() for room in LAYERS}
    for name, targets in arrows(found).items():
        graph[rooms[name]] |= {rooms[target] for target in targets} - {rooms[name]}
    return graph


def reachable(graph):
    """Room -> every room that its arrows lead to; rooms are lowest first in LAYERS."""
    reach = {}
    for room in LAYERS:
        reach[room] = set(graph[room]).union(*(reach[there] for there in graph[room]))
    return reach


def drawn(arrow="-->"):
    name = dict(re.findall(r'(\w+)\["([\w.]+)"\]', DRAWING))
    graph = {room: set() for room in LAYERS}
    for one, other in re.findall(rf"(\w+) {re.escape(arrow)} (\w+)", DRAWING):
        graph[name[one]].add(name[other])
    return graph


def test_every_room_is_drawn_and_described():
    boxes = re.findall(r'\w+\["([\w.]+)"\]', DRAWING)
    rows = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.M)
    assert sorted(boxes) == sorted(LAYERS)
    assert sorted(rows) == sorted(LAYERS)


def test_the_arrows_are_the_imports():
    """Every arrow is an import, and every import is an arrow or follows from several."""
    shown, real = drawn(), imports()
    assert {room: there - real[room] for room, there in shown.items() if there - real[room]} == {}
    reach = reachable(shown)
    missing = {room: there - reach[room] for room, there in real.items() if there - reach[room]}
    assert missing == {}, "draw these arrows"


def test_no_arrow_is_drawn_that_follows_from_others():
    shown = drawn()
    reach = reachable(shown)
    for room, targets in shown.items():
        for target in targets:
            assert not any(target in reach[other] for other in targets - {target}), (room, target)


def test_what_goes_by_name_is_the_commands():
    from harness.cli import COMMANDS

    assert {room: there for room, there in drawn("-.->").items() if there} == {
        "harness": {"harness.commands"}
    }
    assert all(module.startswith("harness.commands.") for module, _ in COMMANDS.values())


NAMED = sorted(set(PATH.findall(PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{p}::{n}" for p, n in NAMED])
def test_what_is_named_is_there(path, name):
    assert (ROOT / path).exists(), path
    if name:
        there = rf"^\s*(?:def|class) {name}\b|^{name}\b.*="
        assert re.search(there, Path(ROOT / path).read_text(), re.M), f"{path}::{name}"


def test_every_path_is_looked_at():
    """Whatever looks like a file of ours stands in the form that is checked."""
    for text in re.findall(r"`([^`\n]+)`", PAGE):
        if re.search(r"\.(py|toml|md)\b", text):
            assert PATH.fullmatch(f"`{text}`"), text


def test_the_glossary_has_each_word_once_in_order():
    words = re.findall(r"^\| ([\w-]+(?:, \w+)?) \| ", PAGE.partition("## Words")[2].partition(
        "\n## ")[0], re.M)
    words.remove("word")
    assert len(words) > 25
    assert [w.lower() for w in words] == sorted({w.lower() for w in words})
