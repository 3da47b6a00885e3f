import json
import os
import shutil

import numpy as np
import pytest

from harness.base.errors import EnvironmentFault
from harness.data import features, identity
from harness.data.preparation import check, pack
from tests import command, file_schemas
from tests.fixtures import write_features

MOMENTS, CONTEXT = (8, 8, 8), (4, 16)


@pytest.fixture
def directory(tmp_path):
    """Sound data of which scaled latents have a standard deviation near 1."""
    return sound(tmp_path / "data")


def sound(directory, images=20):
    write_features(directory, images=images)
    for name in ("train", "val"):
        lines = []
        for image in range(images):
            path = directory / name / f"{image}.npy"
            np.save(path, np.load(path) * np.float32(2.5))
            lines += [json.dumps({"image": image, "caption": k, "text": "a"}) for k in range(2)]
        (directory / name / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def save(path, array):
    np.save(path, array)


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def infinite(path):
    array = np.load(path)
    array.flat[5] = -np.inf
    np.save(path, array)


def link(path):
    path.unlink()
    path.symlink_to("nowhere.npy")


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def prompt(path, *entry):
    array = np.empty(len(entry), dtype=object)
    array[:] = entry
    np.save(path, array, allow_pickle=True)


def log_variance(path):
    array = np.load(path)
    array[6, 3, 3] = 25.0
    np.save(path, array)


# What is planted: a file, what is done to it, and what the check must say of it.
PLANTED = [
    ("train/3.npy", lambda p: p.unlink(), "is missing"),
    ("train/5_0.npy", lambda p: p.unlink(), "is missing"),
    ("val/7.npy", lambda p: p.unlink(), "is missing"),
    ("train/0.npy", lambda p: save(p, np.ones((4, 8, 8), "f4")), "shape [4, 8, 8]"),
    ("train/1_1.npy", lambda p: save(p, np.ones((5, 16), "f4")), "shape [5, 16]"),
    ("train/2.npy", lambda p: save(p, np.load(p).astype("f8")), "float64"),
    ("train/4_0.npy", lambda p: save(p, np.load(p).astype("f2")), "float16"),
    ("val/1.npy", lambda p: save(p, np.load(p).astype(">f4")), ">f4"),
    ("train/6.npy", lambda p: cut(p, 12), "truncated: 12 bytes"),
    ("val/2_1.npy", lambda p: p.write_bytes(b""), "not a .npy"),
    ("train/8_1.npy", lambda p: p.write_bytes(p.read_bytes() + b"xyz"), "3 bytes beyond"),
    ("train/9.npy", lambda p: save(p, np.full(MOMENTS, np.nan, "f4")), "NaN or infinite"),
    ("val/3_0.npy", infinite, "NaN or infinite"),
    ("train/10_1.npy", lambda p: save(p, np.zeros(CONTEXT, "f4")), "0 everywhere"),
    ("train/11.npy", log_variance, "log variance above 20"),
    ("train/012.npy", lambda p: p.write_bytes(b"x"), "not a feature file's name"),
    ("train/99999.npy", lambda p: save(p, np.ones(MOMENTS, "f4")), "out of the numbering"),
    ("val/4.npy", link, "cannot be read"),
    ("val/5.npy", pickled, "pickled"),
    ("val/6_0.npy", lambda p: (p.unlink(), p.mkdir()), "not a regular file"),
    ("val/8_0.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\xff" * 30), ".npy"),
    ("val/captions.jsonl", lambda p: cut(p, 60), "lines"),
    ("empty_context.npy", infinite, "NaN or infinite"),
    ("run_vis/0.npy", lambda p: prompt(p, "a cat", np.zeros((5, 16), "f4")), "shape [5, 16]"),
    ("run_vis/1.npy", lambda p: prompt(p, os.getcwd), "not a plain pickle"),
]


def plant(directory, planted):
    for name, damage, _ in planted:
        damage(directory / name)


def found(report):
    return dict(report.faults)


def test_sound_data_has_no_faults_and_a_digest(directory):
    report = check.check(directory, full=True)
    assert report.faults == []
    assert report.splits["train"]["images"] == 20 and report.splits["train"]["captions"] == 40
    assert report.splits["train"]["read"] == 20
    assert len(report.digest) == 64 and len(report.sampled_digest) == 64


def test_every_planted_fault_is_found_and_nothing_else(directory):
    plant(directory, PLANTED)
    report = check.check(directory, full=True, moments_shape=MOMENTS, context_shape=CONTEXT)
    said = found(report)
    assert set(said) == {str(directory / name) for name, _, _ in PLANTED}
    assert len(report.faults) == len(PLANTED)
    for name, _, expected in PLANTED:
        assert expected in said[str(directory / name)]
    assert report.digest is None and not (directory / identity.RECORD).exists()


@pytest.mark.parametrize("number", range(len(PLANTED)))
def test_a_fault_alone_is_found_alone_without_being_told_the_shapes(directory, number):
    plant(directory, PLANTED[number : number + 1])
    for full in (True, False):  # so few images that the sample is all of them
        report = check.check(directory, full=full)
        assert set(found(report)) == {str(directory / PLANTED[number][0])}


def test_whole_sets_that_do_not_fit(directory):
    for path in (directory / "train").glob("*.npy"):
        if "_" not in path.name:
            moments = np.load(path)
            moments[:4] *= 10
            np.save(path, moments)
    assert "standard deviation" in str(check.check(directory, full=True).faults)
    assert not check.check(directory, full=True, latent_scale=0.02301).faults[1:]
    shutil.rmtree(directory / "train")
    report = check.check(directory)
    assert found(report) == {str(directory / "train"): "is missing"}
    with pytest.raises(EnvironmentFault):
        check.check(directory / "nothing")


def test_latents_are_held_against_the_scale_that_the_data_set_states(directory):
    stated = directory / "dataset.json"
    stated.write_text(json.dumps({"dataset": "digits", "latent_scale": 0.0023}))
    assert "scaled by 0.0023" in str(check.check(directory).faults)
    assert not check.check(directory, latent_scale=0.2301).faults
    stated.write_text('{"latent_scale": 40}')
    assert "scaled by 40" in str(check.check(directory).faults)
    for useless in ("true", "-1", "1e6", '"1"', "null"):
        stated.write_text('{"latent_scale": ' + useless + "}")
        assert not check.check(directory).faults


def test_the_empty_context_is_held_against_a_text_encoders(directory):
    expected = np.zeros(CONTEXT, np.float32)
    assert not check.check(directory, empty_caption=expected).faults
    report = check.check(directory, empty_caption=expected + 0.5)
    assert "0.5 from the text encoder's" in report.faults[0][1]
    report = check.check(directory, empty_caption=np.zeros((5, 16), np.float32))
    assert "the text encoder makes [5, 16]" in report.faults[0][1]


def test_cocos_count_of_captions_is_known(directory, monkeypatch):
    monkeypatch.setitem(check.COCO, "train", (20, 41))
    report = check.check(directory)
    assert found(report) == {str(directory / "train"): "has 40 captions, MS-COCO 2014 has 41"}


def test_the_digest_is_of_the_content(directory, tmp_path):
    """Plain and packed agree, a copy agrees, one changed bit does not; a change is noticed."""
    digest = check.check(directory, full=True).digest
    pack.pack(directory, tmp_path / "packed")
    assert check.check(tmp_path / "packed", full=True).digest == digest
    shutil.copytree(directory, tmp_path / "copy")
    assert check.check(tmp_path / "copy", full=True).digest == digest
    assert identity.recorded(directory) == digest
    file_schemas.check(directory / identity.RECORD)
    file_schemas.check(tmp_path / "packed" / "packed.json")
    path = directory / "train" / "19_1.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert identity.recorded(directory) is None
    assert check.check(directory).digest is None
    assert check.check(directory, full=True).digest != digest


def test_a_quick_check_reads_a_sample_of_many_images(tmp_path, monkeypatch):
    directory = sound(tmp_path / "data", images=40)
    monkeypatch.setattr("harness.data.preparation.check_files.SAMPLED", 10)
    monkeypatch.setattr("harness.data.identity._SAMPLED", 5)
    report = check.check(directory)
    assert 10 <= report.splits["train"]["read"] <= 15 and not report.faults
    infinite(directory / "train" / "1.npy")  # not in the sample
    assert not check.check(directory).faults
    cut(directory / "train" / "1.npy", 4)  # but sizes are looked at everywhere
    assert set(found(check.check(directory))) == {str(directory / "train" / "1.npy")}


def test_packed_data_every_damaged_row_is_listed(directory, tmp_path):
    target = tmp_path / "packed"
    pack.pack(directory, target)
    assert not check.check(target, full=True).faults
    shard = target / "val" / "contexts-00000.npy"
    content = bytearray(shard.read_bytes())
    size = 4 * 4 * 16
    for row in (3, 10, 39):
        content[128 + row * size + 7] ^= 0x10
    shard.write_bytes(content)
    said = found(check.check(target, full=True))
    assert sorted(name.split(": ")[1] for name in said) == ["19_1", "1_1", "5_0"]
    assert all("checksum" in what for what in said.values())


def test_packed_data_with_damaged_shards(directory, tmp_path):
    target = tmp_path / "packed"
    pack.pack(directory, target, shard_bytes=5 * 8 * 8 * 8 * 4)
    cut(target / "train" / "moments-00001.npy", 1)
    (target / "train" / "moments-00003.npy").unlink()
    (target / "val" / "moments-xxh3.npy").unlink()
    report = check.check(target)
    assert len(report.faults) == 3
    assert ["00001" in str(f) for f in report.faults] == [True, False, False]


def test_the_command_lists_faults_on_stdout_and_fails(directory):
    plant(directory, PLANTED[:4])
    done = command.harness("data", "check", directory, "--full")
    command.assert_one_line_error(done, 4, "4 faults")
    for name, _, expected in PLANTED[:4]:
        assert f"{directory / name}: " in done.stdout and expected in done.stdout


def test_one_fault_is_told_in_the_singular(directory):
    plant(directory, PLANTED[:1])
    done = command.harness("data", "check", directory, "--full")
    command.assert_one_line_error(done, 4, f"{directory} has 1 fault;")


def test_the_command_prints_json(directory):
    done = command.harness("data", "check", directory, "--full", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["faults"] == [] and said["digest"] == identity.recorded(directory)


def test_numbering_of_odd_names(tmp_path):
    odd = ["00.npy", "x.npy", "1_2_3.npy", "987654321.npy"]
    names = ["0.npy", "2.npy", "0_0.npy", "2_1.npy", *odd]
    listing = features.listing_of(tmp_path, names)
    assert listing.images.tolist() == [0, 2, 987654321]
    assert features.missing_files(listing) == ["1.npy", "1_0.npy", "2_0.npy"]
    assert features.strays(listing) == ["987654321.npy"]
