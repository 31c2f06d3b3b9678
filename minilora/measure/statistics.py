"""Intervals of differences, and the smallest effect that an experiment could have seen.

Two methods that share seeds and data are compared by their differences, seed by seed, because the effect of a seed on
both cancels out. The interval of the mean difference comes from Student's t distribution (1908). If several comparisons
are made, each interval is widened so that all of them hold together with the stated confidence (Bonferroni correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, inf, isfinite, lgamma, nan, pi, sqrt, tan
from statistics import NormalDist

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(60)  # Gauss-Legendre rule for integrals from -1 to 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean difference over `count` seeds and its bounds, infinite if there is only one seed or one diverged."""

    mean: float
    low: float
    high: float
    count: int
    error: float = inf  # standard error of the mean
    df: float = 0  # degrees of freedom of the error
    rounding: float = 0  # amount by which the mean may be off on a grid, whatever the number of seeds

    def excludes(self, value: float) -> bool:
        return self.low > value or self.high < value

    def show(self, digits: int) -> str:
        """Format as `+0.012 (+0.003 to +0.021)`, or `+0.012 (one seed)`."""
        rounded = (round(x, digits) + 0 for x in (self.mean, self.low, self.high))  # + 0: no −0.000
        mean, low, high = (f"{x:+.{digits}f}".replace("-", "−") for x in rounded)
        if not self.df:
            return f"{mean} (one seed)" if isfinite(self.mean) else "diverged" if self.count else "no seed of both"
        return f"{mean} ({low} to {high})"

    def in_words(self, digits: int) -> str:
        """Format as `show` does; if the interval holds 0, add the smallest difference that was likely to be seen."""
        if self.excludes(0) or not self.df or not self.error:
            return self.show(digits)
        return f"{self.show(digits)[:-1]}; {smallest_visible(self):.{digits}f} would have been seen)"


def paired_interval(differences: Sequence[float], comparisons: int = 1, rounding: float = 0) -> Interval:
    """Return the 95 % interval of the mean of `differences`, one per seed, corrected for the number of `comparisons`.

    rounding: how far each difference may be from the true one because it was read from a grid. All seeds share the
    grid, so the mean may be as far off, and the interval is widened by it at both ends.
    """
    values = np.asarray(differences, dtype=float)
    error = float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else inf
    mean = float(values.mean()) if len(values) else nan
    one = _interval(mean, error, len(values) - 1, len(values), comparisons)
    return replace(one, low=one.low - rounding, high=one.high + rounding, rounding=rounding)


def items_interval(differences: np.ndarray, comparisons: int = 1) -> Interval:
    """Return the 95 % interval of the mean of `differences` (S, N), measured on N questions after S trainings by seed.

    Both other questions and other seeds would change the mean, so their variances are added. The degrees of freedom are
    the harmonic mean of N - 1 and S - 1, weighted by these variances. In simulations with 3 and 5 seeds, 95 % intervals
    made this way contained the true mean in 94 to 98 % of cases. With one seed, the interval is over questions only.
    """
    seeds, questions = differences.shape
    if seeds == 1:
        return replace(paired_interval(differences[0], comparisons), count=1)
    by_question = differences.mean(axis=0).var(ddof=1) / questions
    by_seed = differences.mean(axis=1).var(ddof=1) / seeds
    variance = float(by_question + by_seed)
    df = variance / float(by_question / (questions - 1) + by_seed / (seeds - 1)) if variance else seeds - 1
    return _interval(float(differences.mean()), sqrt(variance), df, seeds, comparisons)


def _interval(mean: float, error: float, df: float, count: int, comparisons: int) -> Interval:
    if df <= 0 or not isfinite(mean):
        return Interval(mean, -inf, inf, count)
    half = error * t_quantile(1 - (1 - CONFIDENCE) / comparisons / 2, df)
    return Interval(mean, mean - half, mean + half, count, error, df)


def smallest_visible(interval: Interval) -> float:
    """Return the smallest true difference that this experiment would detect with a probability of 80 %.

    For a claim with another border than 0, it is the distance of the true difference from the border.

    To detect it, the interval must exclude 0: the measured mean has to exceed the t quantile times the measured
    standard error. That error varies between repetitions as a chi distribution does, whose mean and variance enter
    here. With many degrees of freedom, the result is the usual (1.96 + 0.84) standard errors.
    """
    if not interval.df:
        return inf
    mean = sqrt(2 / interval.df) * exp(lgamma((interval.df + 1) / 2) - lgamma(interval.df / 2))
    half = interval.high - interval.mean - interval.rounding
    deviation = sqrt(interval.error**2 + half**2 * (1 - mean**2))
    return half * mean + NormalDist().inv_cdf(0.8) * deviation + interval.rounding


@cache
def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t distribution with `df` degrees of freedom.

    With t = √df / tan(angle), the tail beyond t is the integral of sin^(df - 1) from 0 to the angle, divided by the
    integral from 0 to π.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    whole = lgamma(df / 2) + lgamma(1 / 2) - lgamma((df + 1) / 2)  # logarithm of the integral from 0 to π
    low, high = 0.0, pi / 2
    for _ in range(60):  # bisection, down to the last bit
        angle = (low + high) / 2
        powers = np.exp((df - 1) * np.log(np.sin(angle / 2 * (NODES + 1))) - whole)
        low, high = (angle, high) if angle / 2 * (WEIGHTS @ powers) < 1 - probability else (low, angle)
    return sqrt(df) / tan(angle)
