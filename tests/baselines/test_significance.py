"""The gate's statistics: what they call real, by simulation and by other people's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from baselines import significance

MINIMUM = math.log(1.03)


def pairs(count, runs, noise, slowdown=0.0, seed=0, draw="normal"):
    """`count` pairs of (baseline, check) logarithms of step times, `runs` = (n, m) a pair."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        both = [scatter(random, n, noise, draw) for n in runs]
        yield list(np.log(both[0])), list(np.log(both[1] * (1 + slowdown)))


def scatter(random, n, noise, draw):
    if draw == "normal":
        return np.maximum(0.2, 1 + noise * random.standard_normal(n))
    times = 1 + 0.2 * noise * random.standard_normal(n)  # quiet, but every fourth run is hit
    return times + (random.random(n) < 0.25) * random.exponential(3 * noise, n)


def share(found, verdict):
    return sum(one == verdict for one in found) / len(found)


def judge(some):
    compared = [significance.compare(a, b, minimum=MINIMUM) for a, b in some]
    return [significance.verdicts([one])[0] for one in compared]


@pytest.mark.parametrize("runs", [(5, 5), (5, 3), (5, 1), (3, 1), (10, 10)])
def test_identical_runs_at_5_percent_noise_raise_no_alarm(runs):
    found = judge(pairs(1000, runs, 0.05))
    # True rates are below 0.8 %; only for the case that the gate is specified for is 1 % asked
    # of a thousand draws, the others may draw badly.
    allowed = 0.01 if runs == (5, 5) else 0.015
    assert share(found, "worse") <= allowed
    assert share(found, "better") <= allowed


def test_a_slowdown_of_7_percent_at_2_percent_noise_is_found():
    assert share(judge(pairs(1000, (5, 5), 0.02, 0.07)), "worse") >= 0.95


@pytest.mark.parametrize("noise", [0.002, 0.01, 0.02, 0.03, 0.04, 0.1])
def test_no_level_of_noise_raises_alarms(noise):
    assert share(judge(pairs(1000, (5, 5), noise, seed=3)), "worse") <= 0.015


def test_outliers_raise_no_alarm():
    found = judge(pairs(1000, (5, 5), 0.05, draw="outliers"))
    assert share(found, "worse") + share(found, "better") <= 0.01


def test_a_noisy_machine_is_neither_red_nor_green():
    identical = judge(pairs(300, (5, 5), 0.08))
    slower = judge(pairs(300, (5, 5), 0.08, 0.10))
    assert share(identical, "inconclusive") >= 0.95
    assert share(slower, "same") <= 0.01


def test_a_quiet_machine_answers_with_one_run():
    assert share(judge(pairs(300, (5, 1), 0.002)), "same") == 1
    assert share(judge(pairs(300, (5, 1), 0.005, 0.07)), "worse") >= 0.99


def test_what_is_below_the_minimum_effect_is_the_same_however_sure():
    assert set(judge(pairs(100, (10, 10), 0.001, 0.02))) == {"same"}


def test_an_improvement_is_better():
    assert share(judge(pairs(300, (5, 5), 0.01, -0.10)), "better") >= 0.99


def test_disturbed_runs_are_inconclusive_unless_noise_cannot_explain_it():
    a, b = next(iter(pairs(1, (5, 5), 0.002, 0.02)))
    compared = significance.compare(a, b, minimum=MINIMUM)
    assert significance.verdicts([compared], disturbed=[True]) == [
        "inconclusive"
    ]
    a, b = next(iter(pairs(1, (5, 5), 0.002, 0.5)))
    compared = significance.compare(a, b, minimum=MINIMUM)
    assert significance.verdicts([compared], disturbed=[True]) == ["worse"]


def test_without_the_prior_it_is_student_s_t(monkeypatch):
    monkeypatch.setattr(significance, "PRIOR_DEGREES", 0)
    random = np.random.default_rng(1)
    a, b = random.normal(0, 1, 6), random.normal(0.8, 1, 4)
    found = significance.compare(list(a), list(b), minimum=0.1)
    expected = scipy.stats.ttest_ind(b, a)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.p == pytest.approx(expected.pvalue / 2)


def test_holm_as_by_hand():
    assert significance.holm([0.001, 0.2, 0.004], alpha=0.015) == [True, False, True]
    assert significance.holm([0.006, 0.2, 0.3], alpha=0.015) == [False, False, False]  # 0.015 / 3
    assert significance.holm([0.009], alpha=0.015) == [False]  # never above ALPHA
    assert significance.holm([math.nan, 0.001], alpha=0.015) == [False, True]
    assert significance.holm([]) == []


def test_several_metrics_together_raise_no_more_alarms():
    alarms = 0
    for seed in range(1000):
        drawn = pairs(6, (5, 5), 0.03, seed=seed)
        some = [significance.compare(a, b, minimum=MINIMUM) for a, b in drawn]
        alarms += "worse" in significance.verdicts(some)
    assert alarms / 1000 <= 0.025


def test_medians():
    assert significance.median([3, 1, 2]) == 2
    assert significance.median([4, 1, 2, 3]) == 2.5
    assert significance.median([1, 10, 100], [1, 1, 5]) == 100
    assert significance.robust_spread([1, 2, 3, 4, 100]) == pytest.approx(1.4826)


def test_too_few_values_are_refused():
    with pytest.raises(ValueError, match="1 against 1"):
        significance.compare([1.0], [1.0], minimum=0.03)


@pytest.mark.slow
def test_long_form_of_the_simulation():
    for noise in (0.005, 0.01, 0.02, 0.025, 0.03, 0.04, 0.05, 0.08):
        for runs in ((5, 5), (5, 3), (5, 1), (3, 1)):
            found = judge(pairs(10_000, runs, noise, seed=7))
            assert share(found, "worse") <= 0.0115, (noise, runs)
    assert share(judge(pairs(10_000, (5, 5), 0.02, 0.07, seed=7)), "worse") >= 0.97
