"""States made of rows: what is picked, put back, chosen and repeated."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from grasp_agent.core.rows import map_rows, repeat_rows, replace_rows, select_rows, take, where_rows


@dataclass(frozen=True)
class Moments:
    count: Tensor
    """[B]."""


@dataclass(frozen=True)
class State:
    plan: Tensor
    """[B, 2]."""
    moments: Moments


def state(*rows: int) -> State:
    """Row i of the plan is (i, 10 i), of the count i."""
    numbers = torch.tensor(rows)
    return State(torch.stack([numbers, 10 * numbers], dim=1), Moments(numbers))


def rows_of(tree: State) -> list[int]:
    """The numbers that `state` was made of."""
    assert torch.equal(tree.plan[:, 1], 10 * tree.plan[:, 0]) and torch.equal(tree.moments.count, tree.plan[:, 0])
    return tree.moments.count.tolist()


def test_rows_are_selected_by_index_in_the_order_asked_or_by_a_mask() -> None:
    assert rows_of(select_rows(state(5, 6, 7), torch.tensor([2, 0, 2]))) == [7, 5, 7]
    assert rows_of(select_rows(state(5, 6, 7), torch.tensor([True, False, True]))) == [5, 7]


def test_replaced_rows_come_from_the_fresh_state_and_the_old_one_stays_as_it_was() -> None:
    old = state(5, 6, 7)
    assert rows_of(replace_rows(old, torch.tensor([2, 0]), state(1, 2))) == [2, 6, 1]
    assert rows_of(replace_rows(old, torch.tensor([False, True, True]), state(1, 2))) == [5, 1, 2]
    assert rows_of(old) == [5, 6, 7]


def test_where_chooses_row_by_row() -> None:
    assert rows_of(where_rows(torch.tensor([True, False, True]), state(1, 2, 3), state(5, 6, 7))) == [1, 6, 3]


def test_every_row_takes_its_own_candidates() -> None:
    candidates = torch.tensor([[[1, 1], [2, 2], [3, 3]], [[4, 4], [5, 5], [6, 6]]])
    assert take(candidates, torch.tensor([[2], [0]])).tolist() == [[[3, 3]], [[4, 4]]]
    assert take(candidates[..., 0], torch.tensor([[1, 1], [2, 0]])).tolist() == [[2, 2], [6, 4]]


def test_repeated_rows_stand_side_by_side() -> None:
    assert repeat_rows(torch.tensor([[1, 2], [3, 4]]), 2).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_what_is_no_state_is_refused() -> None:
    for bad in ([torch.zeros(2)], 3, State):
        with pytest.raises(TypeError, match="expected tensors and dataclasses of them"):
            map_rows(lambda x: x, bad)
