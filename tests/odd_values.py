"""Values that nobody should hand over, and the rule for what is said about them: what the tests in tests/fuzz share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

JUNK: tuple[Any, ...] = (
    *(None, True, False, ..., object(), int, len, 1j, np.bool_(True)),
    *(0, -1, 2**63, 2**64 + 1, -(2**64), 10**400, np.int64(3), np.uint8(200)),
    *(0.0, -0.5, 1.5, 1e-320, 1e39, 1e308, math.nan, math.inf, -math.inf, np.float32(0.5), np.float64("nan")),
    *("", "a", "1", "nan", "cuda", "two\nlines", b"1"),
    *((), [], {}, set(), (1,), [1, [2, 3]], (1, 2, 3), {"a": 1}, {1: 2, "a": 3}, range(2)),
    *(np.array(1), np.array([]), np.array([1, 2]), np.array([math.nan, 1.0]), np.array(["a"]), np.array([None])),
    *(np.zeros((40, 40)), np.array([10**400, 1]), np.zeros((0, 2)), np.array([1j, 2j])),
    *(torch.tensor(1), torch.tensor([1.0, math.nan]), torch.ones(2, requires_grad=True), torch.tensor([1j])),
)
"""One of every kind of thing that ends up in the wrong place."""

SMALL = st.integers(-3, 6) | st.floats(-3, 3).map(float) | st.booleans()
"""Numbers about the size of those that are expected."""

ODD = st.sampled_from(JUNK) | SMALL
"""What tests hand over."""

SEEDS = ODD | st.integers() | st.integers(0, 2**70)
"""Whole numbers of any size, and what is none."""


def examples(count: int) -> Any:
    """Try so many examples in the suite, and in proportion under another profile (see tests/fuzz/conftest.py)."""
    return settings(max_examples=max(1, count * settings().max_examples // 100))


def some_fields(kind: type, values: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[dict[str, Any]]:
    """Odd values for one or two of the fields of a dataclass."""
    names = st.sampled_from([f.name for f in fields(kind)])
    return st.dictionaries(names, values, min_size=1, max_size=2)


def answered(call: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What a call returns, or None where it refuses its arguments as it should.

    To refuse is to raise one of the documented errors (by default a ValueError or a TypeError) with one sentence that
    tells what was expected.
    """
    refusals = errors or (ValueError, TypeError)
    try:
        return call()
    except refusals as error:
        check_sentence(str(error))
        return None


def check_sentence(text: str) -> None:
    """A line that tells what was expected, in the words of this project: "expected ..., got ..."."""
    assert "\n" not in text and len(text) < 650, text
    # Python's own "not enough values to unpack (expected 2, got 1)" and "unexpected keyword" tell users nothing.
    # Gymnasium's reasons stand behind one of ours.
    assert re.search(r"(^|[\w':\])] )expected \S|^environment .* (cannot be made|refuses .*): ", text), text
