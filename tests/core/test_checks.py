"""The checks that others are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from grasp_agent.core.checks import at_least, instance_of, is_count, is_number, shown, usable_device


@pytest.mark.parametrize(
    ("value", "number", "count"),
    [
        (1, True, True),
        (0.5, True, False),
        (True, False, False),
        (math.nan, False, False),
        (math.inf, False, False),
        (3.4e38, True, False),
        (3.5e38, False, False),
        (2**63 - 1, True, True),
        (2**63, False, False),
        (10**400, False, False),
        ("1", False, False),
        (None, False, False),
        (np.array([1, 2]), False, False),
    ],
)
def test_what_is_a_number(value: Any, number: bool, count: bool) -> None:
    assert (is_number(value), is_count(value)) == (number, count)


def test_values_are_shown_in_one_short_line() -> None:
    assert shown("a\nb") == r"'a\nb'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown(10**400) == "1" + 99 * "0" + "..."


def test_a_class_is_no_instance_of_itself() -> None:
    assert instance_of("x", 3, int, "a number") == 3
    for wrong in (int, "3"):
        with pytest.raises(TypeError, match=r"x: expected a number, got .*; try 3"):
            instance_of("x", wrong, int, "a number", "; try 3")


@dataclass(frozen=True)
class Fields:
    whole: int = 1
    perhaps: int | None = None
    real: float = 1.0


def test_fields_are_of_their_annotated_kind() -> None:
    at_least(Fields(), 1, "whole", "perhaps", "real")
    wrongs: list[dict[str, Any]] = [{"whole": 1.0}, {"whole": None}, {"perhaps": 0}, {"real": None}, {"real": 0.5}]
    for wrong in (*wrongs, {"whole": np.float64("nan")}, {"real": np.float64("inf")}):
        with pytest.raises(ValueError, match=f"Fields.{next(iter(wrong))}: expected a .* number of at least 1, got"):
            at_least(Fields(**wrong), 1, "whole", "perhaps", "real")


def test_a_device_must_hold_numbers() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    for wrong in ("meta", "gpu", 2**64, object()):
        with pytest.raises(ValueError, match="device: expected one that torch can use"):
            usable_device(wrong)  # type: ignore[arg-type]
