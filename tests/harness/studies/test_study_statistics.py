"""What studies claim: held by simulation, and against scipy's own tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from harness.studies import study_statistics
from harness.studies.study_statistics import FAMILY_ALPHA, Difference

STUDIES = 1000
# Three standard errors of a share of 5 % in so many studies.
SLACK = 3 * math.sqrt(FAMILY_ALPHA * (1 - FAMILY_ALPHA) / STUDIES)
SPREADS = (0.2, 0.2, 0.3, 0.1)  # of the sizes of a study, whose seeds share 0.1


def studies(effects, *, seeds=5, common=True, seed=0):
    """Values by seed of each of the sizes, `effects[i]` above 20, of STUDIES studies."""
    random = np.random.default_rng(seed)
    for _ in range(STUDIES):
        shared = 0.1 * random.standard_normal(seeds)
        yield [
            dict(enumerate(20 + effect + shared + spread * random.standard_normal(seeds),
                           0 if common else 100 * size))
            for size, (effect, spread) in enumerate(zip(effects, SPREADS, strict=True))
        ]


def judged(study, minimum):
    """All sizes against the first."""
    return study_statistics.judge(
        [study_statistics.compare(study[0], one, minimum=minimum) for one in study[1:]]
    )


@pytest.mark.parametrize("common", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("effects", [(0, 0, 0, 0), (0, 0, 1.0, 0)], ids=["none", "one"])
def test_no_more_studies_than_stated_claim_a_difference_where_there_is_none(common, effects):
    wrong = 0
    for study in studies(effects, common=common):
        found = judged(study, 1e-9)
        wrong += any(one.answer == "different" and not effect
                     for one, effect in zip(found, effects[1:], strict=True))
    assert wrong / STUDIES <= FAMILY_ALPHA + SLACK


@pytest.mark.parametrize("common", [True, False], ids=["paired", "welch"])
def test_no_more_studies_than_stated_claim_equality_where_the_difference_counts(common):
    effects = (0, 0.5, -0.5, 0.5)
    wrong = sum(
        any(one.answer == "equal" for one in judged(study, 0.5))
        for study in studies(effects, common=common)
    )
    assert 0 < wrong / STUDIES <= FAMILY_ALPHA + SLACK


def test_real_effects_and_real_equality_are_found():
    found = [judged(study, 0.6) for study in studies((0, 0, 2.0, -2.0), seeds=8)]
    shares = [np.mean([one[i].answer == answer for one in found])
              for i, answer in enumerate(("equal", "different", "different"))]
    assert min(shares) > 0.9
    assert all(one[1].low > 0 > one[2].high for one in found
               if one[1].answer == one[2].answer == "different")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_cover_the_mean_and_one_more_seed_as_stated(seeds):
    mean = one_more = 0
    for study in studies((0, 0, 0, 0), seeds=seeds + 1, seed=1):
        *values, another = study[0].values()
        around = study_statistics.summary(values)
        mean += around.low <= 20 <= around.high
        around = study_statistics.prediction(values)
        one_more += around.low <= another <= around.high
    assert mean / STUDIES == pytest.approx(0.95, abs=0.02)
    assert one_more / STUDIES == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("common", [True, False], ids=["paired", "welch"])
def test_the_interval_of_a_difference_covers_it_as_stated(common):
    covered = 0
    for study in studies((0, 0, 0.3, 0), common=common, seed=2):
        low, high = study_statistics.compare(study[0], study[2], minimum=1).interval(0.05)
        covered += low <= 0.3 <= high
    assert covered / STUDIES == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("effect, minimum", [(0.3, 0.05), (0.05, 0.35), (0.0, 0.3)])
def test_the_seeds_that_are_asked_for_do_answer(effect, minimum):
    spreads = SPREADS[:2]
    error, degrees = study_statistics._error(spreads, (3, 3))
    needed = Difference(effect, error, degrees, spreads, (3, 3), minimum).needed(0.05)
    random, answers = np.random.default_rng(3), 0
    for _ in range(STUDIES):
        a = dict(enumerate(0.2 * random.standard_normal(needed)))
        b = dict(enumerate(effect + 0.2 * random.standard_normal(needed), 1000))
        compared = study_statistics.compare(a, b, minimum=minimum)
        answers += study_statistics.judge([compared])[0].answer != "cannot say"
    # The power is worked out with Student's t in place of the noncentral one.
    assert 0.76 <= answers / STUDIES <= 0.87


def test_p_values_and_intervals_are_those_of_scipy():
    a, b = {1: 20.1, 2: 20.5, 3: 19.8}, {1: 19.0, 2: 19.9, 3: 18.6}
    paired = study_statistics.compare(a, b, minimum=0.1)
    theirs = scipy.stats.ttest_rel(list(b.values()), list(a.values()))
    assert paired.paired and paired.p_different == pytest.approx(theirs.pvalue)
    bounds = theirs.confidence_interval(0.95)
    assert paired.interval(0.05) == pytest.approx((bounds.low, bounds.high))
    c = {4: 19.0, 5: 19.9, 6: 18.6, 7: 18.0}
    welch = study_statistics.compare(a, c, minimum=0.1)
    theirs = scipy.stats.ttest_ind(list(c.values()), list(a.values()), equal_var=False)
    assert not welch.paired and welch.p_different == pytest.approx(theirs.pvalue)
    bounds = theirs.confidence_interval(0.99)
    assert welch.interval(0.01) == pytest.approx((bounds.low, bounds.high))
    assert study_statistics.compare(a, {1: 20.0}, minimum=0.1) is None


def test_comparisons_that_could_not_be_made_count_among_the_planned():
    border = Difference(1.0, 0.3, 10.0, (1.0, 1.0), (6, 6), 0.1)
    assert 0.005 < border.p_different < 0.025
    assert study_statistics.judge([border, None])[0].answer == "different"
    assert [one.answer for one in study_statistics.judge([border, *[None] * 9])] == [
        "cannot say"] * 10


def test_values_without_any_spread_are_told_apart_and_taken_for_equal():
    same, other = dict.fromkeys(range(3), 7.0), dict.fromkeys(range(3), 8.0)
    answers = [study_statistics.judge([study_statistics.compare(same, one, minimum=0.5)])[0]
               for one in (same, other)]
    assert [one.answer for one in answers] == ["equal", "different"]
    assert (answers[1].low, answers[1].high) == (1.0, 1.0)
