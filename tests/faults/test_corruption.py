"""Checkpoint files damaged in every way a disk or a hand can: never loaded silently."""

import random
import shutil

import pytest

from harness.runs.checkpoints import PARTS
from tests.faults import saving

FILES = [*(f"{part}.safetensors" for part in PARTS), "state.json", "manifest.json"]


def damage(folder, draw):
    """Change checkpoint 3 of `folder` in one random way; says how."""
    here = folder / "00000003"
    name = draw.choice(FILES)
    path = here / name
    data = bytearray(path.read_bytes())
    kind = draw.choice(["bit", "64 bytes", "truncated", "deleted", "swapped", "another step"])
    if kind == "bit":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    elif kind == "64 bytes":
        at = draw.randrange(max(1, len(data) - 64))
        data[at : at + 64] = draw.randbytes(len(data[at : at + 64]))
        path.write_bytes(data)
    elif kind == "truncated":
        path.write_bytes(data[: draw.randrange(len(data))])
    elif kind == "deleted":
        path.unlink()
    elif kind == "swapped":
        other = here / draw.choice([n for n in FILES if n != name])
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif draw.random() < 0.2:
        shutil.rmtree(here)
        shutil.copytree(folder / "00000002", here)
    else:
        name = draw.choice([n for n in FILES if n != "state.json"])  # that is the same at all
        shutil.copyfile(folder / "00000002" / name, here / name)
    return f"{name} {kind}"


def corrupt(tmp_path, count, seed):
    draw = random.Random(seed)
    sound = tmp_path / "sound"
    for step in (2, 3):
        saving.save(sound, step)
    before = {name: (sound / "00000003" / name).read_bytes() for name in FILES}
    for number in range(count):
        here = tmp_path / "here"
        shutil.copytree(sound, here)
        said = f"seed {seed}, corruption {number}: {damage(here, draw)}"
        broken = here / "00000003"
        if all((broken / n).is_file() and (broken / n).read_bytes() == before[n] for n in FILES):
            shutil.rmtree(here)  # 64 random bytes can be the ones that were there
            continue
        warnings = []
        found = saving.newest(here, warnings)
        assert found is not None and found.step == 2, said
        assert saving.same(found, saving.checkpoint(2)), said
        assert len(warnings) == 1 and "step 3 is passed over" in warnings[0], said
        assert str(broken) in warnings[0] and "\n" not in warnings[0], said
        shutil.rmtree(here)


def test_100_corruptions_are_all_noticed(tmp_path):
    corrupt(tmp_path, 100, seed=random.randrange(10**6))


@pytest.mark.faults
def test_1000_corruptions_are_all_noticed(tmp_path):
    corrupt(tmp_path, 1000, seed=random.randrange(10**6))
