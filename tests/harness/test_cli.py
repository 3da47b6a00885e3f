"""The command line as users meet it: in processes of its own."""

import json
import os
import re
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete

from harness.base import fingerprint
from harness.cli import COMMANDS, root
from harness.configs.shipped_names import shipped
from tests.command import ROOT, assert_one_line_error, environment, harness

HEAVY = ("paddle", "torch", "pandas", "numpy", "ppdiffusers", "paddlenlp", "scipy", "matplotlib")
WATCH = """
import sys
sys.argv[0] = "harness"
from harness.base import fingerprint
from harness.cli import main
try:
    main()
except SystemExit:
    pass
print(",".join(sorted(n for n in {heavy!r} if n in sys.modules)), file=sys.stderr)
"""


def loaded_by(*arguments):
    code = WATCH.format(heavy=HEAVY)
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
        env=environment(), cwd=ROOT,
    )
    return process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("nonsense",),
        ("train",),
        ("train", "--nonsense"),
        *((command, "--help") for command in COMMANDS),
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    assert loaded_by(*arguments) == ""


def test_help_names_every_command():
    process = harness("--help")
    assert process.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in process.stdout


def test_version_names_the_commit_where_it_is_known(tmp_path):
    process = harness("--version")
    assert process.returncode == 0
    commit = fingerprint.git_commit()
    assert process.stdout.startswith("harness ")
    assert process.stdout.endswith(f" (commit {commit})\n" if commit else "\n")
    without_git = harness("--version", PATH=str(tmp_path))
    assert without_git.returncode == 0 and "commit" not in without_git.stdout


def test_every_command_is_a_click_command_with_help():
    for name in COMMANDS:
        command = root.get_command(click.Context(root), name)
        assert isinstance(command, click.Command) and command.help, name


@pytest.mark.parametrize("words, meant", [
    (["trian"], "train"), (["runs", "lst"], "list"), (["data", "chek"], "check"),
    (["config", "shw"], "show"), (["baseline", "recrod"], "record"),
    (["study", "statsu"], "status"),
])
def test_a_misspelt_command_suggests_the_right_one(words, meant):
    with pytest.raises(click.UsageError, match=f"Did you mean '{meant}'"):
        root.main(words, standalone_mode=False)


def test_alone_it_shows_the_commands_to_begin_with():
    """Three of them, which are taken as they stand."""
    process = harness()
    assert process.returncode == 0
    shown = re.findall(r"^  harness (\w+) (.*?)\s+# ", process.stdout, re.M)
    assert [name for name, _ in shown] == ["data", "train", "report"]
    for name, rest in shown:
        command = root.get_command(click.Context(root), name)
        command.make_context(name, rest.split())
    assert "harness --help" in process.stdout


def test_an_unknown_config_is_a_usage_error():
    assert_one_line_error(harness("train", "smal"), 2, "did you mean 'small'")


def test_config_list_show_validate(tmp_path):
    rows = json.loads(harness("config", "list", "--json").stdout)
    assert [row["name"] for row in rows] == shipped()
    shown = harness("config", "show", "small").stdout
    assert "(pinned)" in shown and "num_layers = 12" in shown
    path = tmp_path / "mine.toml"
    path.write_text(shown)
    assert "valid" in harness("config", "validate", path).stdout
    path.write_text(shown.replace("num_layers", "num_layer"))
    assert_one_line_error(harness("config", "validate", path), 2, "did you mean 'model.num_layers'")
    for key in ("protocol", "train_protocol"):
        refused = harness("config", "validate", "small", "--set", f"eval.{key}=coco-ddim5")
        assert_one_line_error(refused, 2, f"eval.{key}", "did you mean 'coco-ddim50'", "coco-dpm50")
    shown = json.loads(harness("config", "show", "small", "--json", "--set", "ema.decay=0").stdout)
    assert shown["ema"]["decay"] == 0.0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_knows_commands_and_configs(shell):
    source = harness(_HARNESS_COMPLETE=f"{shell}_source")
    assert "_HARNESS_COMPLETE" in source.stdout
    words = {"COMP_WORDS": "harness train small_", "COMP_CWORD": "2"}
    if shell == "fish":
        words = {"COMP_WORDS": "harness train small_", "COMP_CWORD": "small_"}
    found = harness(**words, _HARNESS_COMPLETE=f"{shell}_complete")
    assert "small_deep" in found.stdout


@pytest.mark.parametrize("typed, completed", [
    ("ru", ["runs/small-s1", "runs/small-s2"]), ("runs/small-s2", ["runs/small-s2"]),
    ("night/", ["night/small-s3"]),
])
def test_runs_are_completed_in_the_folder_that_is_typed(typed, completed, tmp_path, monkeypatch):
    for name in ("runs/small-s1", "runs/small-s2", "night/small-s3", "runs/report"):
        (tmp_path / name).mkdir(parents=True)
        if "small" in name:
            (tmp_path / name / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    for words in (["eval"], ["diff", "runs/small-s1"], ["baseline", "record", "runs/small-s1"]):
        found = ShellComplete(root, {}, "harness", "").get_completions(words, typed)
        assert [one.value for one in found] == completed, words
    (found,) = ShellComplete(root, {}, "harness", "").get_completions(["eval"], "elsewhere/x")
    assert found.type == "file"


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_by_the_line_that_the_readme_gives(tmp_path):
    (line,) = re.findall(r"`(eval .*?)`", (ROOT / "README.md").read_text())
    script = tmp_path / "harness"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    script.chmod(0o755)
    typed = 'COMP_WORDS=(harness train small_); COMP_CWORD=2; _harness_completion harness'
    done = subprocess.run(
        ["bash", "-c", f'{line}; {typed}; echo "${{COMPREPLY[@]}}"'], text=True,
        capture_output=True, cwd=ROOT, env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
    )
    assert done.stdout.split() == ["small_deep"], done.stderr


def shell(command):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m harness {command}"],
        capture_output=True, text=True, env=environment(), cwd=ROOT,
    )


def test_a_reader_that_goes_away_is_no_error():
    for _ in range(3):  # which of the two is quicker is chance
        process = shell("config show small | head -1")
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr and "digest" in process.stdout
    assert shell("--help | true").returncode == 0


def test_a_full_disk_under_stdout_is_an_expected_error():
    assert_one_line_error(shell("config list > /dev/full"), 5, "No space left on device")
    assert shell("train smal 2> /dev/full").returncode == 2


SWALLOWED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's tests ignore it
from harness import cli
from harness.distributed import program
def importing(prog_name):
    try:
        signal.raise_signal(signal.SIG{name})
    except BaseException:
        raise {error}("initialization failed")
cli.root = importing
cli.main()
"""


@pytest.mark.parametrize("name", ["INT", "TERM"])
@pytest.mark.parametrize(
    "error", ["ImportError", "BaseException", "program.HarnessError"], ids=lambda name: name
)
def test_a_signal_that_an_import_turns_into_another_error_ends_with_75(name, error):
    process = subprocess.run(
        [sys.executable, "-c", SWALLOWED.format(name=name, error=error)],
        capture_output=True, text=True, env=environment(), cwd=ROOT,
    )
    assert process.returncode == 75, process.stderr
    assert process.stderr == f"harness: SIG{name}: stopped; run the same command again\n"


DROPPED = """
import signal, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)
from harness import cli
class Thing:
    pass
def callback(_):
    signal.raise_signal(signal.SIG{name})
def importing(prog_name):
    thing = Thing()
    reference = weakref.ref(thing, callback)
    del thing
    print("dropped", flush=True)
    try:
        time.sleep(30)
    finally:
        time.sleep(1)  # it is on its way: nothing comes between
        print("cleared up", flush=True)
cli.root = importing
cli.main()
"""


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_that_a_callback_drops_comes_again(name):
    process = subprocess.run(
        [sys.executable, "-c", DROPPED.format(name=name)],
        capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=25,
    )
    assert process.returncode == 75, process.stderr
    assert process.stdout == "dropped\ncleared up\n"
    assert process.stderr.endswith(f"harness: SIG{name}: stopped; run the same command again\n")


def test_doctor_reports_each_part():
    process = harness("doctor", "--json")
    found = {row["what"]: row for row in json.loads(process.stdout)}
    assert {"python", "paddle", "fid", "inception weights", "memory", "disk"} <= found.keys()
    for row in found.values():
        assert row["status"] == "ok" or row["remedy"], row
    missing = any(row["status"] == "missing" for row in found.values())
    assert process.returncode == (5 if missing else 0)
