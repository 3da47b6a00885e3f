"""Bundles: the same bytes, what is found in a changed one, and hostile ones refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile

import pytest
from click.testing import CliRunner

from harness.base.errors import DataError, HarnessError, NewerFile
from harness.commands.study import command
from harness.studies import bundle_check, study_bundle
from tests.command import assert_one_line_error, harness
from tests.harness.studies import made_studies

RUN = "cells/digits_tiny-s1"
STEP = f"{RUN}/checkpoints/00000200"
RESULT = f"{RUN}/eval/00000200-coco-ddim50/result.json"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_studies.study(
        tmp_path_factory.mktemp("study"), without=("digits_tiny_deep-s3",))


@pytest.fixture(scope="module")
def bundle(study):
    study_bundle.write(study, study.parent / "bundle.tar")
    return study.parent / "bundle.tar"


@pytest.fixture(scope="module")
def content(bundle):
    """Name -> bytes of everything in the bundle."""
    with tarfile.open(bundle) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}


def write(path, content, *, listed=True):
    """`content` as a bundle; `listed`: with an index that is right, whatever it says there."""
    content = dict(content)
    if listed:
        index = json.loads(content["bundle.json"])
        index["files"] = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
                          for name, data in content.items() if name != "bundle.json"}
        content["bundle.json"] = json.dumps(index).encode()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_bundle_is_the_same_bytes_every_time_and_right(study, bundle, content, tmp_path):
    assert study_bundle.write(study, tmp_path / "again.tar") == hashlib.sha256(
        bundle.read_bytes()).hexdigest()
    assert not any(name.endswith(".safetensors") for name in content)
    for name in (f"{RUN}/metrics.jsonl", f"{RUN}/run.json", f"{STEP}/manifest.json", "study.json"):
        assert content[name] == (study / name).read_bytes()
    assert {"locks/paddle2.6-cpu.lock", "tables/table.csv", "tables/study.tex",
            "state/digits_tiny-s1.json"} <= content.keys()
    report = bundle_check.check(bundle)
    assert report["findings"] == [] and report["cells"] == 7
    assert report["files"] == len(content) - 1
    assert bundle_check.check(write(tmp_path / "by_hand.tar", content))["findings"] == []


def test_weights_are_there_when_asked_for_and_checked_without_being_unpacked(study, tmp_path):
    study_bundle.write(study, tmp_path / "whole.tar", weights=True)
    assert bundle_check.check(tmp_path / "whole.tar")["findings"] == []
    with tarfile.open(tmp_path / "whole.tar") as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}
    assert found[f"{STEP}/ema.safetensors"] == (study / STEP / "ema.safetensors").read_bytes()
    weights = bytearray(found[f"{STEP}/ema.safetensors"])
    weights[-1] ^= 1
    found[f"{STEP}/ema.safetensors"] = bytes(weights)
    (one,) = bundle_check.check(write(tmp_path / "flipped.tar", found))["findings"]
    assert one == {"where": f"{STEP}/ema.safetensors",
                   "what": "does not match its SHA-256 in the manifest"}


def replaced(name, old, new):
    def change(content):
        assert old in content[name]
        return {**content, name: content[name].replace(old, new, 1)}

    return change


def better_loss(content):
    """The last loss of a run halved, decimal and hex alike."""
    name = f"{RUN}/metrics.jsonl"
    *lines, last = content[name].decode().splitlines()
    line = json.loads(last)
    line["loss"] /= 2
    line["loss_hex"] = line["loss"].hex()
    return {**content, name: "\n".join([*lines, json.dumps(line), ""]).encode()}


def better_fid(content):
    """A figure lowered in the result, and nowhere else."""
    name = RESULT
    result = json.loads(content[name])
    result["metrics"]["fid"] -= 1
    return {**content, name: json.dumps(result).encode()}


def without(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


CHANGED = {
    "a mean of the table": (
        replaced("tables/table.csv", b",4,4,0.8", b",4,4,0.9"), "tables/table.csv line 5", "mean"),
    "a verdict": (replaced("tables/study.md", b"is better", b"is worse"), "tables/study.md", "it"),
    "a loss and its hex": (better_loss, "tables/cells.csv", "value"),
    "a loss alone": (replaced(f"{RUN}/metrics.jsonl", b'"loss": 0.', b'"loss": 1.'),
                     f"{RUN}/metrics.jsonl", "not the same number"),
    "a figure": (better_fid, "tables/cells.csv", "value"),
    "a result of other weights": (
        replaced(RESULT, b'"ema_sha256": "', b'"ema_sha256": "0'), "result.json", "other weights"),
    "a rate in run.json": (replaced(f"{RUN}/run.json", b'"lr": 0.', b'"lr": 1.'), "the bundle", ""),
    "a table less": (without("tables/comparisons.csv"), "tables/comparisons.csv", "missing"),
    "a table more": (lambda content: {**content, "tables/more.csv": b"fid\n1\n"},
                     "tables/more.csv", "no table"),
    "a state": (lambda content: {**content, "state/digits_tiny_deep-s3.json": b"{}"}, "", None),
    "a cell less": (without(f"{RUN}/run.json"), "tables/cells.csv", ""),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_is_found_even_with_an_index_that_fits(what, content, tmp_path):
    change, where, said = CHANGED[what]
    path = write(tmp_path / "changed.tar", change(content))
    if where == "the bundle":  # without any digest that differs, it cannot be read at all
        with pytest.raises(DataError, match="does not match its digest|another config"):
            bundle_check.check(path)
        return
    findings = bundle_check.check(path)["findings"]
    if said is None:  # says what was so without it
        assert findings == []
        return
    assert any(where in one["where"] and said in one["what"] for one in findings), findings
    assert all(str(tempfile.gettempdir()) not in one["what"] for one in findings)


def test_what_does_not_match_the_index_is_found(content, tmp_path):
    change, *_ = CHANGED["a mean of the table"]
    findings = bundle_check.check(write(tmp_path / "a.tar", change(content), listed=False))
    assert {"where": "tables/table.csv", "what": "does not match its SHA-256 in the index"
            } in findings["findings"]


def member(name, kind=tarfile.REGTYPE, *, data=b"", link="", size=None, **more):
    """One member as raw bytes, its header whatever is asked for."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if size is None else size
    for key, value in more.items():
        setattr(info, key, value)
    header = info.tobuf(tarfile.GNU_FORMAT)
    return header + data + bytes(-len(data) % 512)


def test_a_newer_bundle_is_said_to_be_one_whatever_files_it_has(content, tmp_path):
    index = json.dumps(json.loads(content["bundle.json"]) | {"schema": 2}).encode()
    path = write(tmp_path / "newer.tar", {
        **content, "bundle.json": index, "cells/digits_tiny-s1/of_then.json": b"{}"})
    with pytest.raises(NewerFile, match="newer harness.*update the harness"):
        bundle_check.check(path)


END = bytes(1024)


def added(raw):
    """A sound bundle with one more member in front."""
    return lambda good, content: raw + good


def listing(**change):
    def made(good, content):
        index = json.loads(content["bundle.json"]) | change
        return member("bundle.json", data=json.dumps(index).encode()) + END

    return made


def with_lines(name, data):
    """A bundle whose index fits, with other lines in one file."""
    def made(good, content, tmp_path):
        return write(tmp_path / "lines.tar", {**content, name: data}).read_bytes()

    made.lays_out = True
    return made


_PAX = b"29 path=../../tmp/hostile_1\n" + b"30 GNU.sparse.size=999999999\n"
HOSTILE = {
    "path outside": (added(member("../evil.json")), "outside its directory"),
    "absolute path": (added(member("/tmp/evil.json")), "outside its directory"),
    "backslashes": (added(member("cells\\..\\evil")), "outside its directory"),
    "dots inside": (added(member("cells/x/../../study.json")), "outside its directory"),
    "symbolic link": (added(member("study.json", tarfile.SYMTYPE, link="/etc/passwd")), "a link"),
    "hard link": (added(member("study.json", tarfile.LNKTYPE, link="/etc/passwd")), "a link"),
    "device": (added(member("study.json", tarfile.CHRTYPE, devmajor=1, devminor=5)), "device"),
    "pipe": (added(member("state/a.json", tarfile.FIFOTYPE)), "device"),
    "directory": (added(member("cells", tarfile.DIRTYPE)), "odd file"),
    "sparse bomb": (added(member("study.json", tarfile.GNUTYPE_SPARSE, data=b"0" * 512)),
                    "odd file"),
    "long name": (added(member("././@LongLink", tarfile.GNUTYPE_LONGNAME, data=b"a" * 9999)),
                  "odd file"),
    "extended header": (added(member("pax", tarfile.XHDTYPE, data=_PAX)), "odd file"),
    "size beyond the end": (added(member("study.json", size=1 << 40)), "cut off"),
    "large log": (added(member(f"{RUN}/metrics.jsonl", data=bytes((64 << 20) + 1))), "bytes"),
    "size below nought": (added(member("study.json", size=-512)), "cut off"),
    "a file twice": (added(member("study.json", data=b"{}")), "twice"),
    "a file of another kind": (added(member("cells/x/model.pkl", data=b"x")), "which no bundle"),
    "hidden file": (added(member("cells/.ssh/run.json", data=b"{}")), "which no bundle"),
    "not listed": (added(member("state/extra.json", data=b"{}")), "there and not listed"),
    "listed and not there": (listing(), "is listed and not there"),
    "no index": (lambda good, content: member("study.json", data=b"{}") + END,
                 "has no bundle.json"),
    "index of names outside": (
        listing(files={"../x": {"sha256": "0" * 64, "size": 1}}), "no index of a bundle"),
    "index too deep": (lambda good, content: member(
        "bundle.json", data=b"[" * 100_000) + END, "not JSON"),
    "a newer bundle": (listing(schema=2), "newer harness"),
    "cut off": (lambda good, content: good[: len(good) // 2], "cut off"),
    "more behind the end": (lambda good, content: good + b"x" * 512, "cut off or goes on"),
    "damaged header": (lambda good, content: b"x" + good[1:], "no tar archive"),
    "compressed": (lambda good, content: b"\x1f\x8b\x08" + bytes(5000), "no tar archive"),
    "empty": (lambda good, content: b"", "cut off"),
    "losses of another form": (
        with_lines(f"{RUN}/metrics.jsonl", b'{"step": 1, "loss_hex": "0x1p99999"}\n'),
        "no loss_hex"),
    "times of another form": (
        with_lines(f"{RUN}/timing.jsonl",
                   b'{"step": 1, "step_ms": 1.0, "steps_timed": "x"}\n'), "not as"),
    "a figure beyond all numbers": (
        with_lines(RESULT, json.dumps({
            "schema": 1, "step": 200, "n_samples": 500, "protocol": {"name": "x"},
            "ema_sha256": "", "metrics": {"fid": 10**400},
        }).encode()), "64 bits"),
    "a study of another form": (with_lines("study.json", b'{"schema": 1, "study": []}'), "study"),
    "a run of another form": (with_lines(f"{RUN}/run.json", b'{"schema": 1, "config": []}'), "run"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_bundle_is_refused_in_one_line_and_nothing_written(
    what, bundle, content, tmp_path, monkeypatch
):
    make, said = HOSTILE[what]
    lays_out = getattr(make, "lays_out", False)
    good = bundle.read_bytes()
    raw = make(good, content, tmp_path) if lays_out else make(good, content)
    path, place = tmp_path / "hostile.tar", tmp_path / "temporary"
    path.write_bytes(raw)
    # What is refused by its headers is refused before there is any place to write to.
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    if lays_out:
        place.mkdir()
    with pytest.raises(HarnessError) as caught:
        bundle_check.check(path)
    assert type(caught.value) is (NewerFile if "newer" in said else DataError)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(place) not in str(caught.value)
    assert not lays_out or not any(place.iterdir())


def test_the_command_says_it_in_one_line_with_its_exit_code(bundle, content, tmp_path):
    hostile = tmp_path / "hostile.tar"
    hostile.write_bytes(member("../evil.json") + bundle.read_bytes())
    assert_one_line_error(harness("study", "check", hostile), 4, "outside its directory")
    changed = write(tmp_path / "changed.tar", CHANGED["a verdict"][0](content))
    ended = harness("study", "check", changed)
    assert_one_line_error(ended, 3, "does not hold what it says")
    assert "tables/study.md line" in ended.stdout


def test_the_commands_write_what_they_say(study, tmp_path):
    def run(*words):
        ended = CliRunner().invoke(command, [str(word) for word in words])
        assert ended.exit_code == 0, ended.output
        return ended.output

    said = run("bundle", study, "-o", tmp_path / "made.tar").strip()
    assert said == hashlib.sha256((tmp_path / "made.tar").read_bytes()).hexdigest()
    said = run("report", study, "-o", tmp_path / "report")
    assert "is better in FID by" in said
    assert said.splitlines()[-1] == str(tmp_path / "report" / "study.html")
    assert (tmp_path / "report" / "study.html").is_file()
    assert json.loads(run("check", tmp_path / "made.tar", "--json"))["findings"] == []
