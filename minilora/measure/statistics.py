"""Intervals of differences, verdicts, and the smallest effect that an experiment could have seen.

Two methods that share seeds and data are compared by their differences, seed by seed: what a seed does to both cancels.
The mean of a few differences has an interval by Student's t (1908). Of several comparisons each gets a wider interval,
so that all of them hold together with the confidence that is said (Bonferroni's correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, inf, isfinite, lgamma, nan, pi, sqrt, tan
from statistics import NormalDist
from typing import Literal

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)  # of Gauss's rule for integrals from -1 to 1


@dataclass(frozen=True)
class Interval:
    """The mean of differences over `count` seeds, and its bounds, infinite ones if one seed is all, or diverged."""

    mean: float
    low: float
    high: float
    count: int
    error: float = inf  # standard error of the mean
    df: float = 0  # degrees of freedom of the error
    rounding: float = 0  # by which the mean may be off on a grid, whatever the number of seeds

    def excludes(self, value: float) -> bool:
        return self.low > value or self.high < value

    def show(self, digits: int, scale: float = 1.0) -> str:
        """Write `+0.012 (+0.003 to +0.021)`, or `+0.012 (one seed)`; numbers times `scale`."""
        rounded = (round(scale * x, digits) + 0 for x in (self.mean, self.low, self.high))  # + 0: no −0.000
        mean, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in rounded)
        if not self.df:
            return f"{mean} (one seed)" if isfinite(self.mean) else "diverged" if self.count else "no seed of both"
        return f"{mean} ({low} to {high})"

    def in_words(self, digits: int, scale: float = 1.0) -> str:
        """Add to `show`, if the interval holds 0, the smallest difference that would have been seen 4 times of 5."""
        if self.excludes(0) or not self.df or not self.error:
            return self.show(digits, scale)
        return f"{self.show(digits, scale)[:-1]}; {scale * smallest_visible(self):.{digits}f} would have been seen)"


def paired_interval(
    differences: Sequence[float], confidence: float = 0.95, comparisons: int = 1, rounding: float = 0
) -> Interval:
    """Return the interval of the mean of `differences`, one a seed, corrected for so many `comparisons`.

    rounding: how far each difference may be from the true one because it was read from a grid. All seeds share the
    grid, so that the mean may be as far off: the interval becomes wider by it at both ends.
    """
    values = np.asarray(differences, dtype=float)
    error = float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else inf
    mean = float(values.mean()) if len(values) else nan
    one = _interval(mean, error, len(values) - 1, len(values), confidence, comparisons)
    return replace(one, low=one.low - rounding, high=one.high + rounding, rounding=rounding)


def items_interval(differences: np.ndarray, confidence: float = 0.95, comparisons: int = 1) -> Interval:
    """Return the interval of the mean of `differences` (S, N) on N questions after trainings with S seeds.

    Other questions would change the mean, and other seeds: the variances of both add up. Their degrees of freedom are
    N - 1 and S - 1, of which the harmonic mean is taken, weighted by the variances. In simulations with 3 and 5 seeds
    intervals of 95 % so made hold the true mean in 94 to 98 %. One seed tells of other questions alone.
    """
    seeds, questions = differences.shape
    if seeds == 1:
        return replace(paired_interval(differences[0], confidence, comparisons), count=1)
    by_question = differences.mean(axis=0).var(ddof=1) / questions
    by_seed = differences.mean(axis=1).var(ddof=1) / seeds
    variance = float(by_question + by_seed)
    df = variance / float(by_question / (questions - 1) + by_seed / (seeds - 1)) if variance else seeds - 1
    return _interval(float(differences.mean()), sqrt(variance), df, seeds, confidence, comparisons)


def _interval(mean: float, error: float, df: float, count: int, confidence: float, comparisons: int) -> Interval:
    if df <= 0 or not isfinite(mean):
        return Interval(mean, -inf, inf, count)
    half = error * t_quantile(1 - (1 - confidence) / comparisons / 2, df)
    return Interval(mean, mean - half, mean + half, count, error, df)


def smallest_visible(interval: Interval, power: float = 0.8) -> float:
    """Return the true difference of which such an experiment's interval excludes 0 in `power` of all repetitions.

    For a claim with another border than 0 it is the distance of the true difference from the border.

    The mean has to pass the quantile times the error that happens to be measured, whose mean and variance, in units of
    the true error, are those of a chi distribution. For many degrees of freedom it is the usual (1.96 + 0.84) errors.
    """
    if not interval.df:
        return inf
    mean = sqrt(2 / interval.df) * exp(lgamma((interval.df + 1) / 2) - lgamma(interval.df / 2))
    half = interval.high - interval.mean - interval.rounding
    deviation = sqrt(interval.error**2 + half**2 * (1 - mean**2))
    return half * mean + NormalDist().inv_cdf(power) * deviation + interval.rounding


def verdict(interval: Interval, low: float, high: float) -> Literal["shown", "refuted", "undecided"]:
    """Judge the claim that the true mean is from `low` to `high`: shown if all of the interval is, refuted if none."""
    if low <= interval.low and interval.high <= high:
        return "shown"
    return "refuted" if interval.low > high or interval.high < low else "undecided"


@cache
def t_quantile(probability: float, df: float) -> float:
    """Return the value that Student's t with `df` degrees of freedom exceeds with 1 - `probability`.

    With t = √df / tan(angle), the tail beyond t is the integral of sin^(df - 1) up to the angle, over that up to π.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    whole = lgamma(df / 2) + lgamma(1 / 2) - lgamma((df + 1) / 2)  # logarithm of the integral up to π
    low, high = 0.0, pi / 2
    for _ in range(60):  # halves what is open to the last bit
        angle = (low + high) / 2
        powers = np.exp((df - 1) * np.log(np.sin(angle / 2 * (NODES + 1))) - whole)
        low, high = (angle, high) if angle / 2 * (WEIGHTS @ powers) < 1 - probability else (low, angle)
    return sqrt(df) / tan(angle)
