"""Statistics of evaluations: intervals for success rates and means, tests for paired episodes.

Every entrant plays the same seeded episodes, so two entrants are compared pair by pair: only the episodes
that one solved and the other did not say anything about their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest, permutation_test


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Success rate with Wilson's score interval (Wilson 1927), honest near 0 and 1 where the normal one is
    not.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and trials >= 1, got {successes} of {trials}")
    z = float(ndtri(0.5 + confidence / 2))
    rate = successes / trials
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    # At the ends the bound is the rate itself; rounding must not push it past.
    return Interval(rate, min(rate, max(0.0, centre - spread)), max(rate, min(1.0, centre + spread)))


def mcnemar_exact(first: Sequence[int], second: Sequence[int]) -> float:
    """Two-sided p-value of McNemar's exact test (1947) that two entrants solve the same share of the same
    episodes.

    Args:
        first: 0 or 1 per episode.
        second: 0 or 1 for the same episodes in the same order.

    Returns:
        The binomial p-value of the discordant episodes; 1 when there are none.

    Raises:
        ValueError: different numbers of episodes.
    """
    only_first, only_second, _ = _discordant(first, second)
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Two-sided p-value of the Fisher-Pitman test that paired differences are as likely of either sign.

    Exact: the observed sum is compared with those of all ways to flip signs. For differences of -1, 0 and 1, as of
    successes, it is McNemar's exact test.

    Args:
        differences: whole numbers, one per pair.

    Raises:
        ValueError: no pairs.
    """
    if len(differences) == 0:
        raise ValueError("sign_flip_exact: expected at least one pair, got none")
    sizes = [abs(difference) for difference in differences if difference]
    chance = np.ones(1)  # of every sum of flipped differences, from -sum(sizes) to sum(sizes)
    for size in sizes:
        chance = (np.pad(chance, (2 * size, 0)) + np.pad(chance, (0, 2 * size))) / 2
    sums = np.arange(len(chance)) - sum(sizes)
    return min(1.0, float(chance[np.abs(sums) >= abs(sum(differences))].sum()))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p-value of the Fisher-Pitman test that paired differences, real numbers, are as likely of either sign.

    Up to 13 pairs all ways to flip signs are counted, beyond that 9,999 random ones; the draw is seeded.

    Args:
        differences: one per pair.

    Raises:
        ValueError: no pairs.
    """
    if len(differences) == 0:
        raise ValueError("sign_flip: expected at least one pair, got none")
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 1 or not values.any():
        return 1.0  # nothing that a flip could change for the less likely
    found = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def paired_difference(first: Sequence[int], second: Sequence[int], confidence: float = 0.95) -> Interval:
    """Difference of success rates, second minus first, with a confidence interval for paired episodes.

    The interval is the Wald interval with Laplace adjustment of Bonett and Price (2012), which Fagerland,
    Lydersen and Laake (2014) recommend for its coverage in small samples.

    Args:
        first: 0 or 1 per episode.
        second: 0 or 1 for the same episodes in the same order.
        confidence: coverage of the interval.

    Raises:
        ValueError: different numbers of episodes, or none.
    """
    only_first, only_second, n = _discordant(first, second)
    gained, lost = (only_second + 1) / (n + 2), (only_first + 1) / (n + 2)
    spread = float(ndtri(0.5 + confidence / 2)) * math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2))
    centre = gained - lost
    return Interval((only_second - only_first) / n, max(-1.0, centre - spread), min(1.0, centre + spread))


def bootstrap_mean(values: Sequence[float], confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """Mean with its percentile bootstrap interval; the resampling is seeded, so the same values give the same
    interval.

    Raises:
        ValueError: no values.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("bootstrap_mean: expected at least one value, got none")
    picks = np.random.default_rng(0).integers(data.size, size=(resamples, data.size))
    low, high = np.quantile(data[picks].mean(axis=1), [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(data.mean()), float(low), float(high))


def _discordant(first: Sequence[int], second: Sequence[int]) -> tuple[int, int, int]:
    """Count the episodes that only the first solved, only the second solved, and all."""
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(
            f"expected the same episodes for both entrants, at least one, got {len(first)} and {len(second)}"
        )
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return int((a & ~b).sum()), int((~a & b).sum()), len(a)
