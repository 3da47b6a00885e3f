"""Curves beside training: what the libraries read back is what the run logged, once each."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import runs
from harness.base.errors import EnvironmentFault
from harness.training.curves import beside, points, writers
from tests import command, fixtures
from tests.baselines import made
from tests.browser import needs_chromium
from tests.command import assert_one_line_error, harness

LOSS = "train/loss"


def of_visualdl(folder):
    """Curve -> [(step, value)] as VisualDL reads it."""
    from visualdl import LogReader

    (path,) = (folder / "visualdl").iterdir()
    reader = LogReader(file_path=str(path))
    tags = [key.partition(".log/")[2].replace("%", "/")
            for key, kind in reader.tags().items() if kind == "scalar"]
    return {tag: [(one.id, one.value) for one in reader.get_data("scalar", tag)] for tag in tags}


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)]
            for tag in read.Tags()["scalars"]}


def of_wandb(folder):
    datastore = pytest.importorskip("wandb.sdk.internal.datastore")
    from wandb.proto import wandb_internal_pb2

    (path,) = (folder / "wandb").glob("wandb/offline-run-*/*.wandb")
    store = datastore.DataStore()
    store.open_for_scan(str(path))
    found: dict[str, list[tuple[int, float]]] = {}
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json)
               for i in record.history.item}
        for tag in row.keys() - {"step", "samples"}:
            if "/" in tag:
                found.setdefault(tag, []).append((row["step"], row[tag]))
    return found


READERS = {"visualdl": of_visualdl, "tensorboard": of_tensorboard, "wandb": of_wandb}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with an evaluation and a grid, and its curves by all that are installed."""
    folder = made.run(tmp_path_factory.mktemp("live") / "run", fid=20.0).directory
    (folder / "samples").mkdir(exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(runs.load(folder).sample_grid(100))
    kinds = [kind for kind in READERS if importlib.util.find_spec(kind)]
    chosen = [word for kind in kinds for word in ("--report-to", kind)]
    ended = harness("runs", "curves", folder, *chosen)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(folder / "live" / kind) for kind in kinds]
    return folder


@pytest.mark.parametrize("kind", READERS)
def test_every_library_reads_back_what_was_logged(written, kind):
    found = READERS[kind](written / "live")
    run = runs.load(written)
    wanted = [(line["step"], line["loss"]) for line in run.metrics()]
    assert [step for step, _ in found[LOSS]] == [step for step, _ in wanted]
    assert np.allclose([v for _, v in found[LOSS]], [v for _, v in wanted], rtol=1e-6)
    assert {"train/learning_rate", "speed/images_per_second", "memory/host_bytes"} <= set(found)
    (result,) = run.results()
    name = result["protocol"]["name"]
    assert found[f"{name}/fid"] == [(result["step"], pytest.approx(result["metrics"]["fid"]))]


def test_a_step_that_is_logged_again_is_given_once(tmp_path):
    run = made.run(tmp_path / "run")
    reader = points.Reader(run)
    whole = [one for one in reader.new() if one.tag == LOSS]
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text("".join(lines[:-2]) + '{"step": 1')  # a kill, and a torn line
    assert not list(reader.new())
    run.metrics_file.write_text("".join(lines) + lines[-1].replace(
        f'"step": {whole[-1].step}', f'"step": {whole[-1].step + 10}'))
    assert [one.step for one in reader.new() if one.tag == LOSS] == [whole[-1].step + 10]


def test_killed_three_times_the_curves_have_every_step_once(features, tmp_path):
    config = fixtures.write_tiny_config(tmp_path / "tiny.toml")
    line = ("train", config, "--data", features, "--output-dir", tmp_path / "run", "--report-to",
            "visualdl", "--report-to", "tensorboard", "--set", "train.max_steps=40")
    for kill_at in (7, 19, 23):
        process = command.start(*line)
        wait_for(lambda at=kill_at: steps(tmp_path / "run") >= at)
        process.kill()
        assert process.wait() == -9
        process.communicate()
    logged = [line["step"] for line in runs.load(tmp_path / "run").metrics()]
    wait_for(lambda: curve(tmp_path / "run") == logged)  # it outlives a kill by its last look
    ended = harness(*line)
    assert ended.returncode == 0 and "warning" not in ended.stderr, ended.stderr
    for read in (of_visualdl, of_tensorboard):
        assert [step for step, _ in read(tmp_path / "run/live")[LOSS]] == list(range(1, 41))


def curve(folder):
    with contextlib.suppress(Exception):  # whatever its reader says of what is not there yet
        return [step for step, _ in of_tensorboard(folder / "live")[LOSS]]
    return []


def steps(folder):
    with contextlib.suppress(OSError):
        return len((folder / "metrics.jsonl").read_bytes().splitlines())
    return 0


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("fault, said", [
    ("import os; os._exit(7)", "ended with 7"),
    ("import time; time.sleep(60)", "took more than 0.5 s"),
])
def test_a_writer_that_breaks_or_hangs_ends_nothing(fault, said, tmp_path, monkeypatch, capsys):
    run = made.run(tmp_path / "run")
    (tmp_path / "sitecustomize.py").write_text(fault)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{command.ROOT}")
    monkeypatch.setattr(beside, "_LAST_LOOK", 0.5 if "sleep" in fault else 30)
    with beside.reporting(run, ("visualdl",)):
        pass
    error = capsys.readouterr().err
    assert said in error and "harness runs curves" in error


def test_what_is_not_installed_is_said_before_anything_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="--report-to wandb: the package wandb"):
        writers.require(("wandb",))
    assert_one_line_error(harness("runs", "curves", tmp_path), 2, "not a run")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(kind, folder):
    """The library's own server over `folder`; yields its address."""
    port = free_port()
    tool = Path(sys.executable).with_name(kind)
    server = subprocess.Popen(
        [tool, "--logdir", folder, "--port", str(port), "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        def answers():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        wait_for(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(server.pid)], check=False)
        server.wait()


# A drawing as wide as a curve, wherever the library draws it.
DRAWN = """[...document.querySelectorAll("canvas, svg")].some(
    one => one.getBoundingClientRect().width > 150)"""


@needs_chromium
@pytest.mark.parametrize("kind, page", [("visualdl", "/app/scalar"), ("tensorboard", "/")])
def test_a_browser_shows_the_curves(kind, page, written, browser, tmp_path):
    screen = browser.new_page(viewport={"width": 1280, "height": 900})
    with served(kind, written / "live" / kind) as address:
        screen.goto(address + page)
        screen.get_by_text("train", exact=True).first.wait_for(timeout=60_000)
        screen.wait_for_function(DRAWN, timeout=60_000)
        folder = Path(os.environ.get("HARNESS_SCREENSHOTS", tmp_path))
        screen.screenshot(path=folder / f"{kind}.png")
    screen.close()
