"""Imports go one way, and what is heavy is loaded late (shared rules of the layout)."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "models", "eval", "reports", "baselines")
# A module may import modules of its own level and below.
LEVELS = {
    "harness.cli": 4, "harness.__main__": 4, "harness.commands": 4,
    "harness.train": 3, "harness.launch": 3, "harness.hooks": 3, "harness.digits": 3,
    "harness.saving": 3, "harness.stopping": 3,
    "eval": 3, "reports": 3, "baselines": 3,
    "models": 1,
    "harness.step": 2, "harness.data": 2, "harness.checkpoints": 2, "harness.measure": 2,
    "harness.optim": 2, "harness.parallel": 2, "harness.reduction": 2,
    "harness.stacks": 0,
    "harness.errors": 0, "harness.machine": 0, "harness.files": 0, "harness.seeds": 0, "harness.configs": 0,
    "harness.runs": 0, "harness.environment": 0, "harness.fingerprint": 0,
    "harness.progress": 0, "harness.unpickle": 0, "harness.compare": 1, "harness.lines": 0,
    "harness.lock": 0, "harness.tensor_files": 0,
    "harness.fold": 1, "harness.lifeline": 1, "harness.rank_reports": 1,
}


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def level(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (found := LEVELS.get(".".join(parts[:length]))) is not None:
            return found
    return 3 if parts[0] == "harness" and len(parts) > 1 else None


def imported(path, *, top_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_import_points_up():
    wrong = []
    for name, path in modules():
        own = level(name)
        for target in imported(path):
            if target.split(".")[0] in PACKAGES and own is not None:
                there = level(target)
                if there is not None and there > own:
                    wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_models_know_nothing_of_runs_files_or_the_command_line():
    allowed = {"harness.errors", "harness.unpickle", "harness.files", "harness.seeds"}
    for name, path in modules():
        if name.split(".")[0] == "models":
            ours = {t for t in imported(path) if t.startswith("harness.")}
            strangers = {t for t in ours if ".".join(t.split(".")[:2]) not in allowed}
            assert not strangers, name


def test_only_reports_import_pandas_at_module_level():
    for name, path in modules():
        if "pandas" in set(imported(path, top_only=True)):
            assert name.split(".")[0] == "reports", name


def test_commands_import_nothing_heavy_at_module_level():
    heavy = {"paddle", "numpy", "torch", "pandas", "pydantic", "scipy", "ppdiffusers", "paddlenlp"}
    for name, path in modules():
        if name.startswith(("harness.commands", "harness.cli")):
            assert not heavy & set(imported(path, top_only=True)), name


def test_torch_and_paddle_never_meet_in_one_module():
    for name, path in modules():
        found = {target.split(".")[0] for target in imported(path)}
        assert not {"torch", "paddle"} <= found, name
