"""pytest tests/measure/test_statistics.py: quantiles and intervals are scipy's, and cover what they promise."""

import numpy as np
import pytest
from scipy import stats

from experiments.beside import verdict
from minilora.measure.statistics import (
    Interval,
    items_interval,
    paired_interval,
    smallest_visible,
    t_quantile,
)

pytestmark = pytest.mark.host


@pytest.mark.parametrize(
    "df, precision", [*((n, 1e-9) for n in (1, 2, 3, 9, 29, 199)), (1.3, 1e-4), (2.6, 1e-8), (5000, 1e-7)]
)
def test_quantiles_are_those_of_scipy(df, precision):
    probabilities = [0.001, 0.1, 0.5, 0.6, 0.8, 0.975, 0.99, 0.999, 0.99995]
    ours = [t_quantile(probability, df) for probability in probabilities]
    assert ours == pytest.approx(stats.t.ppf(probabilities, df), rel=precision, abs=precision)


@pytest.mark.parametrize("count, comparisons", [(2, 1), (3, 1), (3, 12), (10, 4)])
def test_differences_by_seed_have_the_interval_of_the_paired_t_test(count, comparisons):
    ours, theirs = np.random.default_rng(count).normal(size=(2, count))
    interval = paired_interval(ours - theirs, comparisons=comparisons)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(1 - 0.05 / comparisons)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert interval.mean == pytest.approx((ours - theirs).mean()) and interval.count == count


def test_one_seed_decides_nothing():
    one = paired_interval([0.5])
    assert one.show(2) == "+0.50 (one seed)" and not one.excludes(0)
    assert verdict(one, -1, 1) == "undecided" and smallest_visible(one) == np.inf
    none = paired_interval([])
    assert none.show(2) == "no seed of both" and not none.excludes(0) and none.count == 0
    assert paired_interval([-0.0001]).show(3) == "+0.000 (one seed)"


def test_what_did_not_come_to_a_number_decides_nothing():
    diverged = paired_interval([0.5, 0.4, np.nan])
    assert not diverged.excludes(0) and verdict(diverged, -1, 1) == "undecided" and diverged.show(3) == "diverged"


@pytest.mark.parametrize("seeds, scatter", [(1, 0.0), (3, 0.0), (3, 0.02), (3, 0.1), (5, 0.04)])
def test_intervals_over_seeds_and_questions_cover_the_truth(seeds, scatter):
    """With one seed, the truth is that seed's. scatter: of the seeds; questions scatter by 0.25, answers by 0.3."""
    rng, inside, repetitions, corrected = np.random.default_rng(seeds), 0, 1000, 0
    for _ in range(repetitions):
        answers = rng.normal(0, 0.25, (1, 200)) + rng.normal(0, 0.3, (seeds, 200))
        answers += rng.normal(0, scatter, (seeds, 1))
        inside += not items_interval(answers).excludes(0)
        corrected += not items_interval(answers, comparisons=10).excludes(0)
    assert 0.93 < inside / repetitions < 0.99 and corrected / repetitions > 0.98


def test_answers_from_a_grid_are_no_surer_for_being_equal():
    equal, scattered = paired_interval([1.0] * 4, rounding=0.5), paired_interval([0.9, 1.0, 1.1], rounding=0.5)
    assert (equal.low, equal.high) == (0.5, 1.5) and smallest_visible(equal) == 0.5
    exact = paired_interval([0.9, 1.0, 1.1])
    assert scattered.high == pytest.approx(exact.high + 0.5)
    assert smallest_visible(scattered) == pytest.approx(smallest_visible(exact) + 0.5)


def test_questions_weigh_less_where_there_are_more():
    answers = np.random.default_rng(0).normal(0.1, 0.3, (3, 600))
    few, many = items_interval(answers[:, :100]), items_interval(answers)
    assert many.error < few.error and many.count == 3
    seeds, questions = np.array([[0.0], [1.0], [11.0]]), answers[:1]
    of_seeds, of_questions = seeds.std(ddof=1) / np.sqrt(3), questions.std(ddof=1) / np.sqrt(600)
    for differences, error, df in (
        (np.tile(seeds, 600), of_seeds, 2),  # of all questions alike
        (np.tile(questions, (3, 1)), of_questions, 599),  # seeds that agree in all
        (seeds + questions, np.hypot(of_seeds, of_questions), 2.0),
    ):
        interval = items_interval(differences)
        assert (interval.error, interval.df) == pytest.approx((error, df), rel=1e-3)


@pytest.mark.parametrize("df, comparisons", [(2, 1), (2, 10), (9, 1), (29, 3)])
def test_the_smallest_visible_effect_is_seen_four_times_of_five(df, comparisons):
    count = df + 1
    rng = np.random.default_rng(df)
    alpha = 0.05 / comparisons
    half = stats.t.ppf(1 - alpha / 2, df) / np.sqrt(count)  # of differences that scatter by exactly 1
    effect = smallest_visible(Interval(0.0, -half, half, count, 1 / np.sqrt(count), df))
    samples = rng.normal(effect, 1, (40_000, count))
    seen = stats.ttest_1samp(samples, 0, axis=1).pvalue < alpha
    assert seen.mean() == pytest.approx(0.8, abs=0.02)
    assert effect == pytest.approx(smallest_visible(Interval(3.0, 3 - half, 3 + half, count, 1 / np.sqrt(count), df)))


@pytest.mark.parametrize(
    "low, high, word",
    [(0.95, 1.2, "shown"), (0.9, 1.0, "shown"), (0.5, 0.8, "refuted"), (0.85, 1.2, "undecided")],
)
def test_a_verdict_needs_the_whole_interval(low, high, word):
    assert verdict(Interval(1.0, low, high, 3, 0.1, 2), 0.9, np.inf) == word


def test_an_interval_is_written_with_its_signs():
    assert paired_interval([0.01, 0.02, 0.03]).show(3) == "+0.020 (−0.005 to +0.045)"
    assert paired_interval([0.01, 0.02, 0.03]).in_words(3) == "+0.020 (−0.005 to +0.045; 0.033 would have been seen)"
    assert paired_interval([0.02, 0.021, 0.022]).in_words(3) == "+0.021 (+0.019 to +0.023)"
    assert paired_interval([1.0, 3.0]).show(0) == "+2 (−11 to +15)"
