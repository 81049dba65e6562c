"""Counter-based noise: the right distribution, and every row for itself."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from grasp_agent.core.rng import make_keys, normal, split, uniform


def test_numbers_are_those_of_splitmix64() -> None:
    """The first five words of the seed 1234567, as published in Rosetta Code's "Pseudo-random numbers/Splitmix64"."""
    words = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    key = torch.tensor([4860507420001330595])  # its hash is the seed
    assert uniform(key, (5,), torch.float64)[0].tolist() == [(word >> 11) / 2**53 for word in words]
    assert uniform(key, (5,), torch.float32)[0].tolist() == [(word >> 40) / 2**24 for word in words]


def test_normal_numbers_are_standard_normal() -> None:
    numbers = normal(make_keys(0, 200), (500,), torch.float64)
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    # within one row (consecutive counters) and across rows (consecutive keys) alike
    assert stats.kstest(normal(make_keys(1, 1), (100_000,), torch.float64).flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(normal(make_keys(2, 100_000), (1,), torch.float64).flatten().numpy(), "norm").pvalue > 1e-3


def test_uniform_numbers_are_uniform_and_below_one() -> None:
    numbers = uniform(make_keys(3, 100), (1000,))
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 1e-3
    assert float(numbers.min()) >= 0 and float(numbers.max()) < 1


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_neighbouring_numbers_are_uncorrelated(lag: int) -> None:
    numbers = normal(make_keys(4, 1), (100_000,), torch.float64)[0]
    assert abs(float((numbers[lag:] * numbers[:-lag]).mean())) < 5 / 100_000**0.5
    rows = normal(make_keys(5, 100_000), (1,), torch.float64)[:, 0]
    assert abs(float((rows[lag:] * rows[:-lag]).mean())) < 5 / 100_000**0.5


def test_the_two_numbers_of_one_word_are_independent() -> None:
    a, b = normal(make_keys(6, 1), (100_000, 2), torch.float64)[0].unbind(1)
    for x, y in ((a, b), (a.square() - 1, b.square() - 1)):
        assert abs(float((x * y).mean())) < 5 * 2 / 100_000**0.5


def test_plain_keys_0_1_2_are_as_good_as_any() -> None:
    numbers = normal(torch.arange(2000), (50,), torch.float64)
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    assert float(torch.corrcoef(numbers[:50]).fill_diagonal_(0).abs().max()) < 0.7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_depends_on_its_key_only(dtype: torch.dtype) -> None:
    keys = make_keys(7, 9)
    for draw in (normal, uniform):
        together = draw(keys, (3, 5, 7), dtype)
        assert together.shape == (9, 3, 5, 7) and together.dtype == dtype
        # Words and their uniform numbers are exact; the logarithms of normal ones round by where they lie in memory.
        exact = {"rtol": 0.0, "atol": 0.0} if draw is uniform else {}
        for i in (0, 4, 8):
            torch.testing.assert_close(draw(keys[i : i + 1], (3, 5, 7), dtype)[0], together[i], **exact)
        torch.testing.assert_close(draw(keys.flip(0), (3, 5, 7), dtype).flip(0), together, **exact)


def test_make_keys_does_not_depend_on_the_number_of_rows() -> None:
    assert torch.equal(make_keys(8, 3), make_keys(8, 10)[:3])
    assert len(set(make_keys(8, 1000).tolist()) | set(make_keys(9, 1000).tolist())) == 2000
    assert make_keys(2**64 - 1, 1).dtype == torch.int64  # any non-negative 64-bit seed fits


def test_children_differ_from_their_parents_and_from_each_other() -> None:
    keys = make_keys(10, 4)
    family = [keys, split(keys, 0), split(keys, 1), split(split(keys, 0), 0), split(split(keys, 0), 1)]
    assert len(set(torch.cat(family).tolist())) == 20
    per_row = split(keys, torch.tensor([0, 1, 2, 3]))
    assert [int(k) for k in per_row] == [int(split(keys, i)[i]) for i in range(4)]


def test_noise_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    keys = split(make_keys(11, 2), 1)
    normal(keys, (4,)), uniform(keys, (4,))
    assert torch.equal(torch.get_rng_state(), before)


def test_any_shape_is_filled_from_the_front() -> None:
    keys = make_keys(12, 2)
    flat = normal(keys, (12,), torch.float64)
    torch.testing.assert_close(normal(keys, (3, 4), torch.float64), flat.view(2, 3, 4))
    torch.testing.assert_close(normal(keys, (7,), torch.float64), flat[:, :7])  # two numbers to a word: an odd count
    assert normal(keys, (0, 4)).shape == (2, 0, 4)
    assert normal(make_keys(12, 0), (4,)).shape == (0, 4)
