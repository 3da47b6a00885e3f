"""The promise's table names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproducibility.md"


def test_every_test_that_the_promise_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+)(?:\[([^\]]+)\])?)?`", PAGE.read_text())
    assert len(named) > 10
    for file, function, parameter in named:
        text = (ROOT / file).read_text()
        assert not function or f"def {function}(" in text, function
        assert not parameter or f'"{parameter}"' in text, parameter
