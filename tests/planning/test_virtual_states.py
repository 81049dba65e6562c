"""Virtual states: where they begin, and how they move on when time does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from problems import LINEAR, integrator, linear_quadratic

from grasp_agent.planning.virtual_states import shift_states, straight_line, towards_goal, with_goal


def block_problem(horizon: int = 4):
    return linear_quadratic(LINEAR["integrator, block 2"](), horizon=horizon)


def test_the_goal_comes_last() -> None:
    task = linear_quadratic(LINEAR["patches"](), horizon=4)
    s = torch.rand(2, 3, 3, 2, dtype=torch.float64)
    path = with_goal(task, s)
    assert torch.equal(path[:, :3], s) and torch.equal(path[:, 3], task.goal)


@pytest.mark.parametrize("name", ["coasting, history 3", "patches"])
def test_the_line_leaves_the_present_and_would_end_in_the_goal(name) -> None:
    task = linear_quadratic(LINEAR[name](), horizon=4)
    line = straight_line(task)
    present, goal = task.states[:, -1], task.goal
    assert line.shape[1] == 3
    for i, f in enumerate((0.25, 0.5, 0.75)):
        torch.testing.assert_close(line[:, i], present + f * (goal - present))


def test_a_bent_path_spreads_the_gap_at_its_end_evenly() -> None:
    task = replace(block_problem(), goal=torch.tensor([[8.0, 0.0], [4.0, 0.0]]).double())
    path = torch.arange(5).double().view(1, 5, 1).expand(2, 5, 2)  # ends in 4
    assert towards_goal(task, path)[0, :, 0].tolist() == [2.0, 4.0, 6.0]
    assert torch.equal(towards_goal(task, path)[1, :, 0], path[1, 1:-1, 0])  # it ends in the goal as it is
    assert towards_goal(task, path)[0, :, 1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (0, [1.0, 2.0, 4.0]),
        (1, [1.5, 3.0, 6.0]),
        (2, [2.0, 4.0, 8.0]),
        (3, [3.0, 6.0, 8.0]),
        (50, [8.0, 8.0, 8.0]),
    ],
)
def test_states_move_by_fractions_of_a_block_and_end_at_the_goal(steps, expected) -> None:
    task = replace(block_problem(), goal=torch.full((2, 2), 8.0).double())  # s_4
    states = torch.tensor([1.0, 2.0, 4.0]).double().view(1, 3, 1).expand(2, 3, 2)  # s_1, s_2, s_3
    assert shift_states(task, states, steps)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("steps", "expected"), [(1, [2.0, 4 + 8 / 3]), (2, [3.0, 4 + 16 / 3]), (4, [4 + 8 / 3, 12.0])])
def test_a_third_of_a_block_is_a_third_of_the_way(steps, expected) -> None:
    task = linear_quadratic(integrator(block=3), horizon=3)
    task = replace(task, goal=torch.full((2, 2), 12.0).double())  # s_3
    states = torch.tensor([1.0, 4.0]).double().view(1, 2, 1).expand(2, 2, 2)  # s_1, s_2
    torch.testing.assert_close(shift_states(task, states, steps)[0, :, 0], torch.tensor(expected, dtype=torch.float64))


def test_a_plan_of_one_step_has_no_virtual_states() -> None:
    task = block_problem(horizon=1)
    assert straight_line(task).shape == (2, 0, 2)
    assert shift_states(task, straight_line(task), 1).shape == (2, 0, 2)
    assert torch.equal(with_goal(task, straight_line(task))[:, 0], task.goal)
