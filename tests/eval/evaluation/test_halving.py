"""Which points of a sweep go on."""

import pytest

from eval.evaluation import halving
from harness.base.errors import UsageError


def test_a_budget_is_kept_with_as_few_halvings_as_do():
    assert halving.rungs(24, 200, 10, 4800) == [(200, 24)]
    plan = halving.rungs(24, 200, 10, 4799)
    assert plan == [(100, 24), (200, 12)] and halving.samples(plan) == 3600
    plan = halving.rungs(24, 200, 10, 3000)
    assert plan == [(50, 24), (100, 12), (200, 6)] and halving.samples(plan) == 2400
    assert halving.rungs(24, 200, 64, 3599) == [(64, 24), (128, 12), (200, 6)]  # whole blocks


def test_a_budget_below_all_says_the_least_that_does():
    with pytest.raises(UsageError, match="1,500"):
        halving.rungs(24, 200, 1, 1499)
    assert halving.samples(halving.rungs(24, 200, 1, 1500)) == 1500
    with pytest.raises(UsageError, match="too small"):
        halving.rungs(2, 20, 20, 39)


def test_the_cheap_end_of_the_front_is_not_dropped_for_being_cheap():
    distances, calls = [9.0, 1.0, 1.1, 1.2, 5.0, 8.0], [10, 100, 100, 100, 20, 20]
    # The two hundreds beaten by a hundred that is better go; the cheap ones of the front stay.
    assert halving.kept(distances, calls, 3) == [0, 1, 4]
    assert halving.front(distances, calls) == [0, 4, 1]


def test_ties_are_no_front_of_many():
    assert halving.front([1.0, 1.0, 2.0], [10, 10, 5]) == [2, 0]
