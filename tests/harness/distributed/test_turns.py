"""Two sides take turns; whoever is left goes on alone."""

import os
import threading

import pytest

from harness.base.errors import UsageError
from harness.distributed import turns
from harness.distributed.turns import Turns


def side(given, name, steps, said):
    variables, end = given
    mine = Turns({key: value.replace(str(end), str(os.dup(end))) for key, value in
                  variables.items()})

    def train():
        mine.begin()
        for step in range(steps):
            said.append(f"{name}{step}")
            mine.pass_on()
        mine.close()

    return threading.Thread(target=train, daemon=True)


@pytest.mark.parametrize("late", ["a", "b"])
def test_each_step_of_one_is_followed_by_one_of_the_other(late):
    said: list[str] = []
    with turns.pair() as (first, second):
        both = [side(first, "a", 3, said), side(second, "b", 5, said)]
    for one in reversed(both) if late == "a" else both:
        one.start()
        one.join(0.05)
    for one in both:
        one.join(30)
    assert said == ["a0", "b0", "a1", "b1", "a2", "b2", "b3", "b4"]


def test_a_side_whose_other_never_comes_goes_on_alone():
    said: list[str] = []
    with turns.pair() as (_, second):
        alone = side(second, "b", 2, said)
    alone.start()
    alone.join(30)
    assert said == ["b0", "b1"]


def test_no_turns_where_none_are_asked_for_and_none_among_workers():
    alone = Turns({})
    alone.begin(), alone.pass_on(), alone.close()
    with turns.pair() as (first, _):
        pass
    for variables in (first[0], {key: "first x" for key in first[0]}):
        with pytest.raises(UsageError, match="--turns runs"):
            Turns(variables)
