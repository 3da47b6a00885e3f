"""The report's first screen: what is shown of each run, and how it is said to stand."""

import pytest

from reports import build
from reports.output import first_screen
from tests.reports import fabricate


def made(root, **others):
    """A report of a reference and one other run, which differs in these."""
    runs = []
    for name, speed, fid, interval in (
        ("reference", 100.0, 10.0, (9.0, 11.0)),
        ("other", others.get("speed", 100.0), others.get("fid", 10.0),
         others.get("interval", (9.0, 11.0))),
    ):
        run = fabricate.run(root / name, images_per_second=speed)
        fabricate.evaluate(run, 200, {
            "fid": fid, "fid_interval": list(interval) if interval else None})
        runs.append(run)
    return build.build(runs)


def verdict(report):
    table = first_screen.table(report)
    return {row[0].shown: row[-1].shown for row in table.rows}["other"]


@pytest.mark.parametrize("others, said", [
    ({}, "as fast, as much memory, FID the same within intervals"),
    ({"speed": 112.0}, "12 % faster, as much memory, FID the same within intervals"),
    ({"speed": 50.0, "fid": 15.0, "interval": (14.0, 16.0)},
     "50 % slower, as much memory, FID worse"),
    ({"fid": 5.0, "interval": (4.0, 6.0)}, "as fast, as much memory, FID better"),
])
def test_it_is_said_in_words(tmp_path, others, said):
    assert verdict(made(tmp_path, **others)).split("\n") == said.split(", ")


def test_the_best_is_marked_by_more_than_colour_and_only_where_it_is_known(tmp_path):
    def marked(report):
        return {(row[0].shown, head.text) for row in first_screen.table(report).rows
                for head, cell in zip(first_screen.table(report).heads, row, strict=True)
                if "best" in cell.under and cell.tone == "best"}

    apart = marked(made(tmp_path / "apart", speed=90.0, fid=5.0, interval=(4.0, 6.0)))
    assert {("reference", "Images/s"), ("other", "FID")} <= apart
    near = marked(made(tmp_path / "near", speed=90.0, fid=9.9))
    assert ("reference", "Images/s") in near and not any(head == "FID" for _, head in near)


def test_one_run_is_set_against_nothing(tmp_path):
    run = fabricate.run(tmp_path / "alone")
    table = first_screen.table(build.build([run]))
    assert [head.text for head in table.heads] == ["Run", "Images/s", "Host memory, GiB"]
    assert first_screen.quality(build.build([run])) is None
