import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from harness import data
from harness.base.errors import DataError, EnvironmentFault, HarnessError, UsageError
from harness.data.preparation import fetch, unpack
from harness.files.download import Patience
from tests import command
from tests.fixtures import write_features
from tests.harness.data.preparation.server import serve

HASTE = Patience(attempts=4, pause=0.0, connect_timeout=5, read_timeout=1)
SHAPES = {"moments_shape": (8, 8, 8), "context_shape": (4, 16)}


@pytest.fixture(scope="module")
def archives(features, tmp_path_factory):
    """The published files of `features`: name -> bytes."""
    folder = tmp_path_factory.mktemp("archives")
    found = {"empty_context.npy": (features / "empty_context.npy").read_bytes()}
    for name in ("train", "val", "run_vis"):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            tar.add(features / name, arcname=name)
        found[f"{name}.tar"] = (folder / f"{name}.tar").read_bytes()
    return found


@pytest.fixture
def site(archives):
    with serve() as site:
        site.files = dict(archives)
        yield site


def sources(site, *, known=True, **changes):
    """Sources of `site`; `known`: with sizes and checksums."""
    files_ = []
    for name, content in site.files.items():
        entry = {"name": name, "url": f"{site.base}/{name}"}
        if known:
            entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if name in ("train.tar", "val.tar"):
            entry |= {"images": 20, "captions": 40}
        files_.append(entry | changes.get(name.split(".")[0], {}))
    archives = tuple(
        fetch.Archive(**({"bytes": None, "sha256": None, "about_bytes": 0} | e)) for e in files_
    )
    return fetch.Sources("test", SHAPES["moments_shape"], SHAPES["context_shape"], archives)


def same(directory, features):
    for name in ("train", "val", "run_vis"):
        there = {p.name: p.read_bytes() for p in (directory / name).iterdir()}
        assert there == {p.name: p.read_bytes() for p in (features / name).iterdir()}
    expected = (features / "empty_context.npy").read_bytes()
    assert (directory / "empty_context.npy").read_bytes() == expected


def test_everything_arrives_and_archives_are_removed(site, features, tmp_path, capsys):
    lines = fetch.fetch(tmp_path / "d", sources(site), patience=HASTE)
    same(tmp_path / "d", features)
    assert len(lines) == 4 and all("as published" in line for line in lines)
    assert not list((tmp_path / "d" / ".fetch").glob("*.tar*"))
    assert "at most" in capsys.readouterr().err  # what it will take was said
    assert len(data.open_split(tmp_path / "d", "train", **SHAPES)) == 20


def test_a_second_call_fetches_nothing_and_a_lost_part_alone(site, features, tmp_path):
    fetch.fetch(tmp_path, sources(site), patience=HASTE)
    site.log.clear()
    fetch.fetch(tmp_path, sources(site), patience=HASTE)
    assert site.log == []
    for path in (tmp_path / "val").iterdir():
        path.unlink()
    (tmp_path / "val").rmdir()
    fetch.fetch(tmp_path, sources(site), patience=HASTE)
    assert {path for _, path, _ in site.log} == {"/val.tar"}
    same(tmp_path, features)


# What the server does with one file, in order, and whether a whole download comes of it.
HEALED = {
    "connection broken again and again": ["break 5000"] * 3 + ["break 20000", "break 1"],
    "broken, then the range is not honoured": ["break 30000", "ignore_range"],
    "broken, then a part from elsewhere": ["break 30000", "wrong_range", "break 9000"],
    "broken, then another file under the name": ["break 30000", "status 503", "status 500"],
    "no ETag, broken": ["no_validator 30000", "no_validator 40000"],
    "stalls": ["stall 10000"],
    "length too long": ["long_length"],
    "server errors": ["status 500", "status 429", "status 503"],
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("deeds", HEALED.values(), ids=HEALED)
def test_what_can_be_healed_ends_right(site, features, tmp_path, deeds, known):
    if known and deeds == ["long_length"]:
        pytest.skip("a length that is known to be wrong is an error, see WRONG")
    site.misdeeds["train.tar"] = list(deeds)
    fetch.fetch(tmp_path, sources(site, known=known), patience=HASTE)
    same(tmp_path, features)


def test_a_broken_download_goes_on_where_it_stopped(site, tmp_path):
    site.misdeeds["train.tar"] = ["break 50000"]
    fetch.fetch(tmp_path, sources(site), patience=HASTE, only=("train",))
    first, second = site.gets("train.tar")
    assert first is None and 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 50000


def test_a_later_call_goes_on_where_the_last_stopped(site, tmp_path):
    site.misdeeds["train.tar"] = ["break 50000"] + ["status 500"] * 10
    with pytest.raises(EnvironmentFault, match="run the same command again"):
        fetch.fetch(tmp_path, sources(site), patience=HASTE, only=("train",))
    assert not (tmp_path / "train").exists()
    site.misdeeds.clear()
    site.log.clear()
    fetch.fetch(tmp_path, sources(site), patience=HASTE, only=("train",))
    assert len(site.gets("train.tar")) == 1 and site.gets("train.tar")[0].startswith("bytes=")


def test_a_file_that_changed_in_between_is_fetched_anew(site, features, tmp_path):
    """The ETag tells: nothing of the first file may be left in the second."""
    good = site.files["train.tar"]
    site.files["train.tar"] = bytes(reversed(good))
    site.misdeeds["train.tar"] = ["break 50000", "changed"]  # turns it round again
    found = sources(site, known=False)
    fetch.fetch(tmp_path, found, patience=HASTE)
    same(tmp_path, features)


# What cannot be healed: what the server always does, and the error.
WRONG = {
    "short file": ("no_validator 20000", True, EnvironmentFault),
    "wrong bytes": ("wrong_bytes", True, DataError),
    "length too short": ("short_length", True, DataError),
    "length too short, nothing known": ("short_length 30000", False, DataError),
    "length too long": ("long_length", True, DataError),
    "wrong bytes, nothing known": ("wrong_bytes", False, DataError),
    "gone": ("status 404", True, EnvironmentFault),
    "encoded": ("encoded", True, EnvironmentFault),
}


@pytest.mark.parametrize(("deed", "known", "error"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_an_error_and_nothing_bad_is_kept(site, tmp_path, deed, known, error):
    site.always["train.tar"] = deed
    with pytest.raises(error):
        fetch.fetch(tmp_path, sources(site, known=known), patience=HASTE, only=("train",))
    assert not (tmp_path / "train").exists()
    site.always.clear()
    fetch.fetch(tmp_path, sources(site, known=known), patience=HASTE, only=("train",))
    assert len(data.open_split(tmp_path, "train", **SHAPES)) == 20


def test_pieces_that_do_not_fit_together_are_fetched_anew(site, features, tmp_path):
    """A resumed download with the wrong bytes: once more, in one piece."""
    site.misdeeds["train.tar"] = ["break 50000", "wrong_bytes"]
    fetch.fetch(tmp_path, sources(site), patience=HASTE)
    assert site.gets("train.tar")[2] is None
    same(tmp_path, features)


def test_no_length_at_all(site, features, tmp_path):
    site.always["train.tar"] = "no_length"
    fetch.fetch(tmp_path, sources(site, known=False), patience=HASTE)
    same(tmp_path, features)


def test_another_size_than_published_is_refused_before_it_is_fetched(site, tmp_path):
    wanted = sources(site, train={"bytes": 12345})
    with pytest.raises(DataError, match="expected 12345"):
        fetch.fetch(tmp_path, wanted, patience=HASTE, only=("train",))
    assert not list((tmp_path / ".fetch").glob("*.part"))


def test_an_incomplete_archive_is_refused(site, tmp_path):
    with pytest.raises(DataError, match="holds 20 images, expected 21"):
        fetch.fetch(tmp_path, sources(site, train={"images": 21}), patience=HASTE)
    assert not (tmp_path / "train").exists()


def test_archives_brought_by_hand_stay(archives, site, features, tmp_path):
    hand = tmp_path / "hand"
    hand.mkdir()
    for name, content in archives.items():
        (hand / name).write_bytes(content)
    fetch.fetch(tmp_path / "d", sources(site), by_hand=hand, patience=HASTE)
    same(tmp_path / "d", features)
    assert {p.name for p in hand.iterdir()} == set(archives) and site.log == []
    (hand / "val.tar").unlink()
    with pytest.raises(EnvironmentFault, match=r"val\.tar is missing"):
        fetch.fetch(tmp_path / "e", sources(site), by_hand=hand, patience=HASTE)
    bad = bytearray(archives["train.tar"])
    bad[9000] ^= 1
    (hand / "train.tar").write_bytes(bad)
    with pytest.raises(DataError, match="SHA-256"):
        fetch.fetch(tmp_path / "e", sources(site), by_hand=hand, only=("train",))
    assert (hand / "train.tar").exists() and not (tmp_path / "e" / "train").exists()


def test_too_small_a_disk_is_said_before_anything_is_fetched(site, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage())
    with pytest.raises(EnvironmentFault, match="are needed"):
        fetch.fetch(tmp_path, sources(site), patience=HASTE)
    assert site.gets("train.tar") == []


class _Usage:
    free = 1 << 20


def add(tar, name, content=b"", **changes):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in changes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def features_tar(*extra):
    """A tar of two sound images, then `extra` members: (name, content, changes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, shape in (("0", (8, 8, 8)), ("0_0", (4, 16)), ("1", (8, 8, 8)), ("1_0", (4, 16))):
            array = io.BytesIO()
            np.save(array, np.ones(shape, np.float32))
            add(tar, f"./train/{name}.npy", array.getvalue())
        for name, content, changes in extra:
            add(tar, name, content, **changes)
    return buffer.getvalue()


HOSTILE = {
    "above": ("../evil.npy", b"x", {}),
    "above, deep": ("train/../../evil.npy", b"x", {}),
    "absolute": ("/tmp/evil.npy", b"x", {}),
    "symbolic link": ("train/2.npy", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
    "hard link": ("train/2.npy", b"", {"type": tarfile.LNKTYPE, "linkname": "train/0.npy"}),
    "device": ("train/2.npy", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}),
    "pipe": ("train/2.npy", b"", {"type": tarfile.FIFOTYPE}),
    "pickle": ("train/2.npy", b"\x93NUMPY garbage", {}),
}


@pytest.mark.parametrize("member", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_whole(tmp_path, member):
    hand = tmp_path / "a" / "hand"
    hand.mkdir(parents=True)
    (hand / "train.tar").write_bytes(features_tar(member))
    archive = fetch.Archive("train.tar", "http://127.0.0.1/none", None, 0, None)
    wanted = fetch.Sources("test", *SHAPES.values(), (archive,))
    with pytest.raises(DataError):
        fetch.fetch(tmp_path / "a" / "d", wanted, by_hand=hand)
    assert {p.name for p in (tmp_path / "a" / "d").iterdir()} == {".fetch"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"hand", "d"}


@pytest.mark.parametrize("cut", [1, 512, 1500, 6000])
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path, cut):
    """tarfile itself takes an archive that ends after a member for a whole one."""
    whole = features_tar()
    size = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # up to the end of the last member
    (tmp_path / "train.tar").write_bytes(whole[: size + 512 - cut])
    archive = fetch.Archive("train.tar", "http://127.0.0.1/none", None, 0, None)
    with pytest.raises(DataError):
        fetch.fetch(tmp_path / "d", fetch.Sources("test", *SHAPES.values(), (archive,)),
                    by_hand=tmp_path)
    assert not (tmp_path / "d" / "train").exists()


def test_other_files_in_an_archive_are_passed_over(tmp_path):
    extra = [("train/.DS_Store", b"x", {}), ("train/._0.npy", b"x", {}), ("LICENSE", b"x", {})]
    (tmp_path / "train.tar").write_bytes(features_tar(*extra))
    archive = fetch.Archive("train.tar", "http://127.0.0.1/none", None, 0, None)
    fetch.fetch(tmp_path / "d", fetch.Sources("test", *SHAPES.values(), (archive,)),
                by_hand=tmp_path)
    names = {p.name for p in (tmp_path / "d" / "train").iterdir()}
    assert names == {"0.npy", "0_0.npy", "1.npy", "1_0.npy"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from harness.data.preparation import fetch, unpack
unpack._EVERY = 8
count, real = 0, unpack._extract
def extract(*arguments):
    global count
    count += 1
    if count == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
unpack._extract = extract
fetch.fetch(Path(sys.argv[1]), fetch.read_sources(Path(sys.argv[2])), by_hand=Path(sys.argv[3]))
"""


def test_a_killed_unpacking_goes_on(archives, features, tmp_path, monkeypatch):
    for name, content in archives.items():
        (tmp_path / name).write_bytes(content)
    entries = [{"name": n, "url": f"http://127.0.0.1/{n}"} for n in archives]
    listed = {"name": "t", "moments_shape": [8, 8, 8], "context_shape": [4, 16], "files": entries}
    (tmp_path / "sources.json").write_text(json.dumps(listed))
    arguments = [tmp_path / "d", tmp_path / "sources.json", tmp_path]
    done = subprocess.run([sys.executable, "-c", _KILLED, *map(str, arguments)],
                          env=command.environment(), capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "d" / "train").exists()
    extracted = []
    real = unpack._extract
    monkeypatch.setattr(unpack, "_extract", lambda *a: extracted.append(a[2].name) or real(*a))
    fetch.fetch(tmp_path / "d", fetch.read_sources(tmp_path / "sources.json"), by_hand=tmp_path)
    same(tmp_path / "d", features)
    assert 60 < len(extracted) <= 122 - 16  # 122 arrays in all; the first 16 were there


def test_unsound_sources_are_a_usage_error(tmp_path):
    path = tmp_path / "sources.json"
    for text in ("{", "[]", '{"files": [{"name": "../x.tar", "url": "http://127.0.0.1"}]}'):
        path.write_text(text)
        with pytest.raises(UsageError):
            fetch.read_sources(path)
    with pytest.raises(UsageError, match="has no 'nonsense'"):
        fetch.fetch(tmp_path / "d", fetch.read_sources(), only=("nonsense",))
    local = fetch.Archive("train.tar", "file:///etc/passwd", None, 0, None)
    with pytest.raises(HarnessError, match="not an http"):
        fetch.fetch(tmp_path / "d", fetch.Sources("t", *SHAPES.values(), (local,)), patience=HASTE)


def test_the_shipped_sources_are_paddlemixs_four_files():
    shipped = fetch.read_sources()
    assert {a.provides for a in shipped.archives} == {
        "train", "val", "run_vis", "empty_context.npy"
    }
    assert shipped.moments_shape == (8, 32, 32) and shipped.context_shape == (77, 768)
    assert sum(a.about_bytes for a in shipped.archives) == pytest.approx(151e9, rel=0.01)


def test_the_command_fetches_from_other_addresses(site, features, tmp_path):
    entries = [{"name": n, "url": f"{site.base}/{n}"} for n in site.files]
    listed = {"name": "t", "moments_shape": [8, 8, 8], "context_shape": [4, 16], "files": entries}
    (tmp_path / "sources.json").write_text(json.dumps(listed))
    done = command.harness("data", "fetch", tmp_path / "d", "--sources", tmp_path / "sources.json")
    assert done.returncode == 0, done.stderr
    same(tmp_path / "d", features)
    assert len(done.stdout.splitlines()) == 4
    write_features(tmp_path / "e")
    done = command.harness("data", "fetch", tmp_path / "e", "--sources", tmp_path / "sources.json")
    assert done.returncode == 0 and "was there" in done.stdout
