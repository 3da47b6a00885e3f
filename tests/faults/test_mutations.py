"""Shipped configs changed at random: accepted, or refused in one line; never a traceback."""

import random

import pytest

from harness import configs
from harness.base.errors import UsageError
from harness.configs.shipped_names import FOLDER, shipped

VALUES = (
    "0", "-1", "1", "2", "1e308", "1e999", "-0.0", "nan", "inf", "9999999999999999999999", "true",
    '""', '"x"', "[]", "[1, [2]]", "{}", "{a = 1}", "1979-05-27", "07:32:00", "0x10", "'''a'''",
    '"\\u0000"', "3.5", "65536", '"on"', '"../../etc"',
)


def mutated(text: str, draw: random.Random) -> bytes:
    """`text` with one to three random changes, of lines, of values, or of bytes."""
    lines = text.splitlines()
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        kind = draw.randrange(7)
        key = lines[at].partition(" = ")[0]
        if kind == 0:
            lines[at] = f"{key} = {draw.choice(VALUES)}"
        elif kind == 1:
            del lines[at]
            lines.append("")
        elif kind == 2:
            lines.insert(draw.randrange(len(lines)), lines[at])
        elif kind == 3:
            spot = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:spot] + chr(draw.randrange(1, 0x3000)) + lines[at][spot:]
        elif kind == 4:
            other = draw.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 5:
            lines[at] = f"{key}x = {draw.choice(VALUES)}"
        else:
            lines[at] = f"{key} = {draw.randrange(-10, 10**draw.randint(1, 12))}"
    data = bytearray("\n".join(lines).encode())
    if draw.random() < 0.3:
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def mutate(count: int, seed: int) -> None:
    draw = random.Random(seed)
    texts = [(FOLDER / f"{name}.toml").read_text() for name in shipped()]
    refused = 0
    for number in range(count):
        data = mutated(draw.choice(texts), draw)
        said = f"seed {seed}, mutation {number}: {data!r}"
        try:
            config = configs.parse(data, source="mutated")
        except UsageError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).isprintable(), said
            assert 20 < len(str(error)) < 2000, said
        except Exception as error:
            raise AssertionError(f"{said} gave {error!r}") from error
        else:
            again = configs.parse(configs.describe(config).encode(), source="again")
            assert configs.digest(again) == configs.digest(config), said
    assert count // 4 < refused < count  # both kinds were seen


def test_500_mutations_of_the_shipped_configs():
    mutate(500, seed=random.randrange(10**6))


@pytest.mark.faults
def test_10000_mutations_of_the_shipped_configs():
    mutate(10_000, seed=random.randrange(10**6))
