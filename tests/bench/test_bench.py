"""The benchmark's own machinery, and every part of it at sizes that say nothing about speed."""

import json
import math
from types import SimpleNamespace

import pytest

from tests.bench import __main__ as bench
from tests.bench import rows, sides, table
from tests.bench.options import Options
from tests.bench.worker import Worker, WorkerFailed


class Echo:
    """A worker's object: what is asked of it comes back."""

    def say(self, text):
        print("not an answer")
        return text

    def fail(self):
        raise ValueError("broken")


def test_a_row_takes_the_median_of_its_rounds_ratios():
    row = rows.faster("p", "n", "them", [1.0, 2.0, 4.0], [3.0, 4.0, 6.0], target=2.0)
    assert (row.ours, row.theirs, row.ratio, row.low, row.high) == (2.0, 4.0, 2.0, 1.5, 3.0)
    assert row.met
    row = rows.share("p", "n", "limit", [1.0, 3.0], [2.0, 2.0], target=0.9)
    assert row.ratio == 1.0 and row.met is False
    assert rows.share("p", "n", "x", [1.0], [2.0]).met is None


def test_a_growth_finds_the_exponent_it_was_made_with():
    xs = [1.0, 2.0, 4.0, 8.0]
    assert math.isclose(rows.Growth("p", "n", xs, [3 * x**1.5 for x in xs], "s").exponent, 1.5)


def test_results_come_back_from_json():
    items = [rows.share("p", "n", "x", [1.0], [2.0], target=1.0),
             rows.Growth("p", "g", [1, 2], [1.0, 2.0], "s"), rows.Skipped("p", "n", "y", "why")]
    assert [rows.from_json(json.loads(json.dumps(rows.to_json(i)))) for i in items] == items


def test_the_table_says_what_changed_and_what_was_met():
    item = rows.share("p", "n", "x", [1.0], [2.0], target=0.4)
    text = table.terminal([item], {item.key: 0.25})
    assert "NOT MET" in text and "0.25 (+100%)" in text
    assert "| 0.5 |" in table.markdown([item])


def test_a_row_that_cannot_be_had_says_why():
    item = rows.Skipped("p", "n", "x", "no C++ compiler")
    assert "skipped: no C++ compiler" in table.terminal([item], {})
    assert "| skipped: no C++ compiler |" in table.markdown([item])


def test_pytorch_is_not_compiled_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in sides.lacking(sides.COMPILED, Options())
    assert not sides.lacking(sides.TORCH, Options())
    told = {sides.OURS: [1.0], sides.TORCH: [2.0]}
    found = list(sides.against(
        [sides.TORCH, sides.COMPILED], Options(), "p", "n", told, {sides.TORCH: 1.5}
    ))
    assert found[0].met and found[1] == rows.Skipped(
        "p", "n", sides.COMPILED, "no C++ compiler (no-such-compiler)"
    )


def test_a_worker_answers_whatever_its_libraries_print():
    with Worker("tests.bench.test_bench:Echo", threads=1) as worker:
        assert worker.say(text="x") == "x"
        with pytest.raises(WorkerFailed, match="broken"):
            worker.fail()
        assert worker.say(text="still there") == "still there"


def test_results_are_kept_compared_and_printed(tmp_path, monkeypatch, capsys):
    out = tmp_path / "bench.json"
    given = iter([2.0, 3.0])

    def module(name):
        if name.endswith("step"):
            raise OSError("no such part")
        row = rows.share("report", "n", "x", [next(given)], [1.0])
        return SimpleNamespace(rows=lambda _: [row])

    monkeypatch.setattr(bench.importlib, "import_module", module)
    arguments = ["--only", "report", "--only", "step", "--out", str(out)]
    assert bench.main(arguments) == 1  # a part failed; the other's figures are there
    assert bench.main([*arguments[:2], *arguments[4:]]) == 0
    assert "2 (+50%)" in capsys.readouterr().out
    assert bench.main(["--markdown", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| report | n | x |" in printed and "torch 2" in printed
    assert "paddle's products by " in printed


def test_another_size_of_run_is_not_compared_with(tmp_path):
    path = tmp_path / "bench.json"
    row = rows.share("p", "n", "x", [1.0], [2.0])
    path.write_text(json.dumps({
        "schema": bench.SCHEMA, "quick": True, "machine": {"device": "cpu"},
        "items": [rows.to_json(row)],
    }))
    assert bench.earlier(path, Options(quick=True)) == [row]
    assert bench.earlier(path, Options()) == []
