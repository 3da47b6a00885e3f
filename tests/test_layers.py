"""Imports go one way, from package to package, and never in a circle; what is heavy comes late."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lowest first: a module imports from its own package and from those above it in this list.
# A package's own modules are those of its folder; a folder in it is a package of its own.
LAYERS = (
    "harness.base",
    "harness.files",
    "harness.files.foreign_weights",
    "models.cpu", "models.pretrained", "models",
    "harness.configs",
    "harness.runs",
    "harness.distributed",
    "harness.cells",
    "harness.training.curves",
    "harness.data",
    "eval", "eval.sampling", "eval.metrics", "eval.features", "eval.evaluation",
    "harness.data.preparation",
    "harness.digits",
    "harness.training",
    "harness.conversion",
    "harness.reproduction",
    "reports.reading", "reports.tables", "reports.output", "reports",
    "harness.plan",
    "baselines",
    "baselines.nights",
    "harness.studies",
    "harness.doctor",
    "harness.commands",
    "harness",
)
TOP = {layer.split(".")[0] for layer in LAYERS}


def modules(root=ROOT):
    """Name -> path of every module of the product."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for top in sorted(TOP) for path in sorted((root / top).rglob("*.py"))
    }


def package(name, path):
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def imported(path, *, top_only=False):
    """Dotted names that a file imports: of modules, and of what is taken from them."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(found):
    """Module -> the modules of ours that it imports."""
    def target(name):
        return name if name in found else name.rpartition(".")[0]

    return {
        name: {target(t) for t in imported(path) if target(t) in found} - {name}
        for name, path in found.items()
    }


def upward(found):
    levels = {name: LAYERS.index(package(name, path)) for name, path in found.items()}
    return [
        f"{name} imports {there}"
        for name, targets in arrows(found).items() for there in sorted(targets)
        if levels[there] > levels[name]
    ]


def circles(found):
    """Modules that import each other, however long the way round, at any time."""
    graph, circle = arrows(found), []
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    for name in graph:
        if name in reach[name]:
            circle.append(name)
    return circle


def test_every_package_has_its_layer():
    found = modules()
    assert {package(name, path) for name, path in found.items()} == set(LAYERS)


def test_no_import_points_up():
    assert upward(modules()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(modules()) == []


@pytest.mark.parametrize(
    "planted, found_by",
    [
        ({"harness/base/a.py": "from harness.runs import b", "harness/runs/b.py": ""}, upward),
        ({"harness/runs/a.py": "def f():\n    from harness.runs import b",
          "harness/runs/b.py": "from harness.runs import c",
          "harness/runs/c.py": "import harness.runs.a"}, circles),
    ],
    ids=["an arrow that points up", "a circle of three"],
)
def test_what_is_planted_is_found(tmp_path, planted, found_by):
    for name, text in planted.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert found_by(modules(tmp_path))


def test_no_two_modules_have_the_same_name():
    """Commands are named after what they call; a package's `__init__` has no name of its own."""
    names = {}
    for name, path in modules().items():
        if path.name not in ("__init__.py", "__main__.py") and "commands" not in name:
            names.setdefault(path.stem, []).append(name)
    assert {stem: some for stem, some in names.items() if len(some) > 1} == {}


def test_only_reports_import_pandas_at_module_level():
    for name, path in modules().items():
        if "pandas" in {t.split(".")[0] for t in imported(path, top_only=True)}:
            assert name.split(".")[0] == "reports", name


def test_commands_import_nothing_heavy_at_module_level():
    heavy = {"paddle", "numpy", "torch", "pandas", "pydantic", "scipy", "ppdiffusers", "paddlenlp"}
    for name, path in modules().items():
        if name.startswith(("harness.commands", "harness.cli")):
            assert not heavy & {t.split(".")[0] for t in imported(path, top_only=True)}, name


def test_torch_and_paddle_never_meet_in_one_module():
    for name, path in modules().items():
        found = {target.split(".")[0] for target in imported(path)}
        assert not {"torch", "paddle"} <= found, name
