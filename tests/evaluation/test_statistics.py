"""Statistics against published and hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from grasp_agent.evaluation.statistics import (
    bootstrap_mean,
    mcnemar_exact,
    paired_difference,
    sign_flip,
    sign_flip_exact,
    wilson_interval,
)


def pairs(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[int], list[int]]:
    first = [1] * both + [1] * only_first + [0] * only_second + [0] * neither
    second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
    return first, second


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17: 857-872, table I, method 3 (score without correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, trials)
    assert interval.value == successes / trials
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_interval_is_symmetric_and_reaches_the_end_it_touches() -> None:
    some, rest = wilson_interval(7, 50), wilson_interval(43, 50)
    assert some.low == pytest.approx(1 - rest.high)
    assert wilson_interval(50, 50).high == 1.0
    assert wilson_interval(0, 50).low == 0.0


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, trials)


def test_mcnemar_exact_equals_published_and_hand_computed_values() -> None:
    # Bentur et al. (2009) as analysed by Fagerland, Lydersen and Laake (2013): 21 children, 1 and 7
    # discordant, p = 0.0703.
    assert mcnemar_exact(*pairs(1, 1, 7, 12)) == pytest.approx(2 * (1 + 8) / 2**8)
    # 5 discordant, all one way: 2 / 2^5.
    assert mcnemar_exact(*pairs(10, 0, 5, 3)) == pytest.approx(2 / 32)
    assert mcnemar_exact(*pairs(10, 4, 4, 3)) == 1.0
    assert mcnemar_exact(*pairs(10, 0, 0, 3)) == 1.0


def test_mcnemar_exact_does_not_care_who_is_first() -> None:
    first, second = pairs(5, 2, 9, 4)
    assert mcnemar_exact(first, second) == mcnemar_exact(second, first)


def test_sign_flips_equal_mcnemar_and_hand_computed_values() -> None:
    first, second = pairs(5, 2, 9, 4)
    differences = [b - a for a, b in zip(first, second, strict=True)]
    assert sign_flip_exact(differences) == pytest.approx(mcnemar_exact(first, second))
    assert sign_flip_exact([3, 2, -1]) == 4 / 8  # sums of 4 or more, either way: 3+2+1, 3+2-1
    assert sign_flip_exact([0, 0]) == sign_flip_exact([5, -5]) == 1.0
    darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]  # his maize, analysed by Fisher (1935)
    assert sign_flip_exact(darwin) == pytest.approx(0.05267, abs=1e-5)
    with pytest.raises(ValueError, match="at least one pair"):
        sign_flip_exact([])


def test_paired_difference_equals_published_value() -> None:
    # Bonett and Price's interval of the same 21 children: -0.508 to -0.013 (Fagerland et al. 2014, before
    # minus after).
    interval = paired_difference(*pairs(1, 1, 7, 12))
    assert interval.value == pytest.approx(6 / 21)
    assert (interval.low, interval.high) == pytest.approx((0.013, 0.508), abs=5e-4)


def test_paired_difference_is_second_minus_first_and_antisymmetric() -> None:
    first, second = pairs(5, 2, 9, 4)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.value == 7 / 20
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


@pytest.mark.parametrize("compare", [mcnemar_exact, paired_difference])
def test_comparisons_refuse_unpaired_episodes(compare: object) -> None:
    with pytest.raises(ValueError, match="same episodes"):
        compare([1, 0], [1])  # type: ignore[operator]


def test_bootstrap_mean_repeats_itself_and_agrees_with_the_normal_interval_of_much_data() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400)
    interval = bootstrap_mean(values.tolist())
    spread = 1.96 * values.std(ddof=1) / 20
    assert interval == bootstrap_mean(values.tolist())
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.15 * spread)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.15 * spread)


def test_bootstrap_mean_of_equal_values_has_no_width_and_of_none_is_refused() -> None:
    interval = bootstrap_mean([2.5] * 7)
    assert (interval.low, interval.value, interval.high) == (2.5, 2.5, 2.5)
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_mean([])


def test_sign_flips_of_real_differences() -> None:
    # of the 8 ways to flip three signs two have a mean at least as far from 0
    assert sign_flip([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    assert sign_flip([0.5, -0.5]) == pytest.approx(1.0)
    assert sign_flip([0.0, 0.0, 0.0]) == 1.0 == sign_flip([4.0])
    many = [1.0 + 0.01 * i for i in range(40)]
    assert sign_flip(many) == sign_flip(many) < 0.001
    with pytest.raises(ValueError, match="at least one pair"):
        sign_flip([])
