"""What a sweep goes over, as it is written."""

import pytest

from eval.evaluation import sweep_axes
from harness.base.errors import UsageError


def test_values_and_ranges_are_read_without_rounding():
    axes = sweep_axes.parse(["guidance=1..3:0.25", "steps=10,25,50", "sampler=ddim,dpm"])
    assert axes["guidance"] == [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0]
    assert axes["steps"] == [10, 25, 50] and axes["sampler"] == ["ddim", "dpm"]
    assert sweep_axes.parse(["guidance=1..1.6:0.1,4"])["guidance"][3:] == [1.3, 1.4, 1.5, 1.6, 4.0]
    assert sweep_axes.parse(["steps=5,1..3:1,2"])["steps"] == [5, 1, 2, 3]


@pytest.mark.parametrize("texts", [
    ["warmth=1"], ["guidance"], ["guidance="], ["guidance=1..3"], ["guidance=3..1:1"],
    ["guidance=1..3:0"], ["steps=1.5"], ["steps=2", "steps=3"], ["guidance=1..2:1e-9"],
    ["guidance=nan..3:1"], ["guidance=1..inf:1"], ["steps=1..2:0.5"],
])
def test_what_is_no_axis_is_said(texts):
    with pytest.raises(UsageError, match=f"--sweep {texts[-1].partition('=')[0]}"):
        sweep_axes.parse(texts)


def test_checkpoints_are_taken_from_the_newest_back():
    steps = [10, 20, 30, 40, 50]
    assert sweep_axes.checkpoints(None, steps, 50) == [50]
    assert sweep_axes.checkpoints("all", steps, 50) == steps
    assert sweep_axes.checkpoints("every:2", steps, 50) == [10, 30, 50]
    assert sweep_axes.checkpoints("every:9", steps, 50) == [50]
    for text in ("some", "every:0", "every:", "every:2.5"):
        with pytest.raises(UsageError, match="--checkpoints"):
            sweep_axes.checkpoints(text, steps, 50)


def test_points_are_ordinary_protocols_with_their_cost():
    axes = sweep_axes.parse(["guidance=1,2", "steps=20,50"])
    points = sweep_axes.points("digits-ddim20", {"n_samples": None}, axes, [3, 6])
    assert [p.step for p in points] == [3] * 4 + [6] * 4
    assert [p.protocol.name for p in points[:4]] == [
        "digits-ddim20+g1", "digits-ddim20+steps50+g1", "digits-ddim20", "digits-ddim20+steps50"
    ]
    assert [p.calls for p in points[:4]] == [20, 50, 40, 100]  # one call a step where g = 1
    assert points[1].settings == {"guidance": 1.0, "steps": 50}
    with pytest.raises(UsageError, match="eta belongs to ddim"):
        sweep_axes.points("digits-ddim20", {}, {"eta": [0.5], "sampler": ["dpm"]}, [3])
    with pytest.raises(UsageError, match="1,002 points"):
        sweep_axes.points("digits-ddim20", {}, {"steps": range(1, 502)}, [3, 6])
