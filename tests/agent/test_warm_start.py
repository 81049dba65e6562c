"""From one decision to the next: plans go on where they were, each row by its own time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from closed_loop import PLANNER, SQUARE, Script, make_agent, vector
from dot_world import DotModel

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.core.types import Budget, Problem
from grasp_agent.planning import CEM, GRASP, MultiStart, Search


class KeepsItsPlan(Script):
    """Begins with the script's plan, and goes on with what the real warm start makes of it."""

    def shift(self, problem: Problem, search: Search, steps: int) -> Search:
        self.problems.append(problem)
        self.shifts.append((steps, problem.batch))
        return MultiStart.shift(self, problem, search, steps)


def flat_plan(horizon: int, block: int) -> np.ndarray:
    """The script's first plan, one environment action per row."""
    return 0.01 * np.arange(horizon * block * 2).reshape(-1, 2)


def far(*numbers: float) -> dict[str, np.ndarray]:
    """States so far left of their goals that the script's plan, to the right, beats doing nothing."""
    return vector(*(number - 9.0 for number in numbers))


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("replan_every", [1, 2, 3, 5])
def test_a_plan_that_nobody_changes_is_executed_as_it_was_made(block: int, replan_every: int) -> None:
    planner = KeepsItsPlan()
    model = DotModel(action_block=block, pixels=False)
    agent = MPCAgent(model, SQUARE, planner, horizon=5, replan_every=replan_every)
    steps = 5 * block + 2
    state, actions = None, []
    for _ in range(steps):
        action, state = agent.predict(far(0.0), state)
        actions.append(action[0])
    expected = np.concatenate([flat_plan(5, block), np.zeros((2, 2))])  # after its end: zero actions
    np.testing.assert_allclose(actions, expected, atol=1e-6)
    assert planner.shifts == [(replan_every, 1)] * ((steps - 1) // replan_every)


def test_rows_go_on_by_the_steps_that_each_has_executed() -> None:
    planner = KeepsItsPlan()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, planner, horizon=8, replan_every=6)
    observation = far(0.0, 0.1, 0.2)
    state, actions = None, []
    for t in range(6):
        if t == 2:
            observation["desired_goal"][1] += 0.5
        if t == 5:
            observation["desired_goal"][:2] += 0.5  # rows 0 and 1 plan again, 5 and 3 steps after their last plans
        chosen, state = agent.predict(observation, state)
        actions.append(chosen)
    assert planner.shifts == [(2, 1), (3, 1), (5, 1)]
    for row in range(3):
        np.testing.assert_allclose(np.stack(actions)[:, row], flat_plan(8, 1)[:6], atol=1e-6)


def test_executes_as_many_actions_of_a_plan_as_asked_then_shifts_by_as_many() -> None:
    script = Script()
    agent = MPCAgent(DotModel(action_block=2, pixels=False), SQUARE, script, horizon=2, replan_every=3)
    state, actions = None, []
    for _ in range(7):
        action, state = agent.predict(vector(0.2), state)
        actions.append(action[0])
    assert script.shifts == [(3, 1), (3, 1)]
    flat = 0.01 * np.arange(8).reshape(4, 2)
    expected = [flat[0], flat[1], flat[2], 0.1 + flat[0], 0.1 + flat[1], 0.1 + flat[2], 0.2 + flat[0]]
    np.testing.assert_allclose(actions, expected, atol=1e-6)


def test_a_whole_plan_may_be_executed() -> None:
    agent = MPCAgent(DotModel(action_block=2, pixels=False), SQUARE, Script(), horizon=2, replan_every=4)
    state, actions = None, []
    for _ in range(5):
        action, state = agent.predict(vector(0.2), state)
        actions.append(action[0])
    flat = flat_plan(2, 2)
    np.testing.assert_allclose(actions, [*flat, 0.1 + flat[0]], atol=1e-6)


def test_a_row_that_begins_anew_does_not_make_its_neighbours_replan() -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=4, replan_every=3)
    _, state = agent.predict(vector(0.1, 0.2, 0.3))
    actions, state = agent.predict(vector(0.1, 0.2, 0.3), state, episode_start=[False, True, False])
    np.testing.assert_allclose(actions[:, 0], [0.02, 0.0, 0.02], atol=1e-7)
    assert agent.diagnostics is not None
    assert agent.diagnostics.rows.tolist() == [1]
    assert [problem.batch for problem in script.problems] == [3, 1]
    # Rows 0 and 2 are due one step before row 1.
    actions, state = agent.predict(vector(0.1, 0.2, 0.3), state)
    actions, state = agent.predict(vector(0.1, 0.2, 0.3), state)
    assert agent.diagnostics.rows.tolist() == [0, 2]
    np.testing.assert_allclose(actions[:, 0], [0.1, 0.04, 0.1], atol=1e-7)
    assert script.shifts == [(3, 2)]
    actions, state = agent.predict(vector(0.1, 0.2, 0.3), state)
    assert agent.diagnostics.rows.tolist() == [1]
    np.testing.assert_allclose(actions[:, 0], [0.12, 0.1, 0.12], atol=1e-7)


def test_only_rows_that_begin_are_begun() -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=4)
    _, state = agent.predict(vector(0.1, 0.2, 0.3))
    actions, _ = agent.predict(vector(0.4, 0.5, 0.6), state, episode_start=[True, False, True])
    np.testing.assert_allclose(actions[:, 0], [0.0, 0.1, 0.0], atol=1e-7)
    assert [problem.batch for problem in script.problems] == [3, 1, 2]
    assert script.problems[1].states[:, 0, 0].tolist() == pytest.approx([0.5])
    assert script.problems[2].states[:, 0, 0].tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("first_budget", [None, Budget(iterations=5)], ids=["one budget", "two budgets"])
@pytest.mark.parametrize("planner", [PLANNER, CEM(), GRASP()], ids=["gd", "cem", "grasp"])
def test_a_row_of_a_batch_acts_as_it_would_alone(planner: Any, first_budget: Budget | None) -> None:
    model = DotModel(history=2, pixels=False)
    few = Budget(iterations=3)
    agent = make_agent(model, planner=planner, replan_every=2, budget=few, first_budget=first_budget)
    points = np.random.default_rng(0).uniform(-1, 1, (7, 3, 2))
    goals = np.random.default_rng(1).uniform(-1, 1, (3, 2))
    starts = np.zeros((7, 3), bool)
    starts[3, 1] = starts[4, 2] = True  # off and on the beat of the neighbours' replanning

    def run(rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        state, actions, costs = None, [], np.full((7, 3), np.nan)
        for t in range(7):
            observation = {"observation": points[t, rows], "desired_goal": goals[rows]}
            agent.diagnostics = None
            action, state = agent.predict(observation, state, episode_start=starts[t, rows])
            actions.append(action)
            if agent.diagnostics is not None:
                costs[t, np.array(rows)[agent.diagnostics.rows]] = agent.diagnostics.plan_cost
        return np.stack(actions, axis=1), costs

    together, costs = run([0, 1, 2])
    for row in range(3):
        alone, cost = run([row])
        np.testing.assert_allclose(alone[0], together[row], atol=2e-5)
        np.testing.assert_allclose(cost[:, row], costs[:, row], rtol=1e-4, atol=1e-6)
    assert np.isfinite(costs).sum(axis=0).tolist() == [4, 4, 4]


def test_an_episode_begins_like_any_other_with_the_same_seed() -> None:
    agent = make_agent(DotModel(pixels=False), planner=CEM(), budget=Budget(iterations=1))
    first, state = agent.predict(vector(0.5, 0.5))
    np.testing.assert_allclose(first[0], first[1], atol=1e-6)
    second, state = agent.predict(vector(0.5, 0.5), state)
    assert not np.allclose(first, second, atol=1e-3)  # other noise, and something to go on from
    again, _ = agent.predict(vector(0.5, 0.5), state, episode_start=[True, False])
    np.testing.assert_allclose(again[0], first[0], atol=1e-6)


def test_other_actions_than_the_chosen_ones_enter_the_next_problem_but_not_the_plan() -> None:
    planner = KeepsItsPlan()
    agent = MPCAgent(DotModel(history=2, pixels=False), SQUARE, planner, horizon=5)
    chosen, state = agent.predict(far(0.0, 0.1))
    executed = chosen + np.array([[0.5, -0.5], [0.25, 0.125]])
    chosen, _ = agent.predict(far(0.1, 0.2), state.with_last_action(executed))
    np.testing.assert_allclose(planner.problems[-1].past_actions[:, 0], executed, atol=1e-7)
    np.testing.assert_allclose(chosen, [flat_plan(5, 1)[1]] * 2, atol=1e-6)
