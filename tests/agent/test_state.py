"""What an agent remembers, row by row, and what it tells about its latest decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from closed_loop import SQUARE, Script, make_agent, vector
from dot_world import DotModel

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.agent.state import joined_plans
from grasp_agent.core.types import Budget, Plan
from grasp_agent.planning import CEM, GRASP

POINTS = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2))
GOALS = np.random.default_rng(1).uniform(-1, 1, (3, 2))


def seen(t: int, rows: list[int]) -> dict[str, np.ndarray]:
    return {"observation": POINTS[t, rows], "desired_goal": GOALS[rows]}


# ---- rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "kept"),
    [([2, 0], [2, 0]), (np.array([1]), [1]), (np.array([True, False, True]), [0, 2]), ([False, True, True], [1, 2])],
    ids=["indices", "array", "mask", "list of flags"],
)
def test_selected_rows_act_as_they_would_have_among_the_others(rows: Any, kept: list[int]) -> None:
    agent = make_agent(DotModel(history=2, pixels=False), planner=CEM(), budget=Budget(iterations=2), replan_every=2)
    state = None
    for t in range(3):
        _, state = agent.predict(seen(t, [0, 1, 2]), state, episode_start=[False, t == 1, False])
    assert state is not None
    expected, _ = agent.predict(seen(3, [0, 1, 2]), state)
    actions, _ = agent.predict(seen(3, kept), state.select(rows))
    np.testing.assert_allclose(actions, expected[kept], atol=2e-5)


def test_a_single_observations_action_can_be_put_right_too() -> None:
    script = Script()
    agent = MPCAgent(DotModel(history=2, pixels=False), SQUARE, script, horizon=2)
    single = {"observation": np.zeros(2), "desired_goal": np.ones(2)}
    action, state = agent.predict(single)
    assert action.shape == (2,)
    agent.predict(single, state.with_last_action(np.array([0.75, -0.5])))
    assert script.problems[-1].past_actions.tolist() == [[[0.75, -0.5]]]


def test_an_executed_action_may_come_from_a_network() -> None:
    agent = make_agent(DotModel(pixels=False))
    _, state = agent.predict(vector(0.1, 0.2))
    own = torch.full((2, 2), 0.5)
    for executed in (own, own.requires_grad_(True)):
        action, _ = agent.predict(vector(0.1, 0.2), state.with_last_action(executed))
        assert action.shape == (2, 2)


@pytest.mark.parametrize("executed", [np.zeros(2), np.zeros((3, 2)), np.zeros((2, 3))])
def test_says_how_many_executed_actions_it_expects(executed: np.ndarray) -> None:
    _, state = make_agent(DotModel(pixels=False)).predict(vector(0.1, 0.2))
    with pytest.raises(ValueError, match=r"with_last_action: expected 2 actions of 2 numbers, .* got shape"):
        state.with_last_action(executed)


def test_predict_leaves_the_given_state_as_it_was() -> None:
    agent = make_agent(DotModel(pixels=False))
    _, state = agent.predict(vector(0.5))
    once, _ = agent.predict(vector(0.4), state)
    twice, _ = agent.predict(vector(0.4), state)
    np.testing.assert_array_equal(once, twice)


# ---- plans of several budgets ------------------------------------------------------------------------------


def some_plan(numbers: list[int], iterations: int) -> Plan:
    """A plan whose every number tells its row; its trace counts up from 100 times the row."""
    rows = torch.tensor(numbers, dtype=torch.float32)
    return Plan(
        actions=rows.view(-1, 1, 1).expand(-1, 2, 3),
        states=rows.view(-1, 1, 1).expand(-1, 3, 4),
        cost=10 * rows,
        status=rows.long() % 3,
        defects=rows.view(-1, 1).expand(-1, 2),
        restarts=rows.view(-1, 1).expand(-1, 5),
        restart=rows.long(),
        cost_trace=100 * rows.view(-1, 1) + torch.arange(iterations + 2),
        iterations=iterations,
        seconds=0.25,
    )


def test_plans_are_joined_in_the_order_of_their_rows() -> None:
    parts = [(np.array([1, 4]), some_plan([1, 4], 1)), (np.array([0, 2, 3]), some_plan([0, 2, 3], 3))]
    for order in (parts, parts[::-1]):
        rows, plan = joined_plans(order)
        assert rows.tolist() == [0, 1, 2, 3, 4]
        expected = some_plan([0, 1, 2, 3, 4], 3)
        for name in ("actions", "states", "cost", "status", "defects", "restarts", "restart"):
            assert torch.equal(getattr(plan, name), getattr(expected, name)), name
        assert plan.cost_trace.tolist() == [
            [0, 1, 2, 3, 4],
            [100, 101, 102, 102, 102],  # a shorter trace repeats its last cost
            [200, 201, 202, 203, 204],
            [300, 301, 302, 303, 304],
            [400, 401, 402, 402, 402],
        ]
        assert (plan.iterations, plan.seconds) == (3, 0.5)


def test_one_plan_stays_as_it_is() -> None:
    rows, plan = np.array([1, 3]), some_plan([1, 3], 2)
    assert joined_plans([(rows, plan)]) == (rows, plan)


def test_rows_that_begin_among_others_keep_their_place_in_the_latest_plan() -> None:
    model = DotModel(pixels=False)
    agent = make_agent(model, budget=Budget(iterations=2), first_budget=Budget(iterations=6))
    _, state = agent.predict(vector(0.5, 0.6, 0.7, 0.8))
    actions, _ = agent.predict(vector(0.9, 0.5, -0.9, -0.5), state, episode_start=[False, True, False, True])
    plan, facts = agent.last_plan, agent.diagnostics
    assert plan is not None and facts is not None
    assert facts.rows.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(plan.actions[:, 0], actions, atol=1e-6)
    np.testing.assert_allclose(plan.states[:, 0, 0], [0.9, 0.5, -0.9, -0.5], atol=1e-6)
    assert plan.cost_trace.shape == (4, 8)
    np.testing.assert_allclose(plan.cost_trace[:, -1], plan.cost, rtol=1e-5)
    np.testing.assert_array_equal(facts.plan_cost, plan.cost.numpy())
    # Rows 0 and 2 have moved by (0.4, 0) and (-1.6, 0), whatever the model expected; 1 and 3 have just begun.
    assert np.isnan(facts.prediction_error).tolist() == [False, True, False, True]
    expected = [
        (0.9 - 0.5) - 0.2 * state.history.actions[0, -1, 0],
        (-0.9 - 0.7) - 0.2 * state.history.actions[2, -1, 0],
    ]
    sideways = [0.2 * state.history.actions[row, -1, 1] for row in (0, 2)]
    errors = [(float(a) ** 2 + float(b) ** 2) / 2 for a, b in zip(expected, sideways, strict=True)]
    np.testing.assert_allclose(facts.prediction_error[[0, 2]], errors, rtol=1e-4)


# ---- diagnostics -------------------------------------------------------------------------------------------


def test_diagnostics_and_last_plan_tell_of_the_latest_planning() -> None:
    agent = make_agent(DotModel(pixels=False), planner=GRASP(), budget=Budget(iterations=5))
    assert agent.last_plan is None
    assert agent.diagnostics is None
    agent.predict(vector(0.5, 0.2))
    plan, facts = agent.last_plan, agent.diagnostics
    assert plan is not None
    assert facts is not None
    assert plan.actions.shape == (2, 4, 2)
    assert facts.rows.tolist() == [0, 1]
    assert facts.iterations == plan.iterations == 5
    np.testing.assert_array_equal(facts.plan_cost, plan.cost.numpy())
    assert facts.seconds > plan.seconds


def test_the_dynamics_residual_is_the_mean_over_the_steps_of_each_plan() -> None:
    agent = make_agent(DotModel(pixels=False), planner=GRASP(), budget=Budget(iterations=2))
    agent.predict(vector(0.9, 0.2))
    assert agent.last_plan is not None and agent.diagnostics is not None
    defects = agent.last_plan.defects.numpy()
    assert defects.shape == (2, 4) and (defects > 0).any()
    by_hand = [sum(row) / 4 for row in defects.tolist()]
    assert agent.diagnostics.dynamics_residual == pytest.approx(by_hand, rel=1e-5)


def test_planners_without_virtual_states_have_no_residual() -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.predict(vector(0.9, 0.2))
    assert agent.diagnostics is not None
    assert agent.diagnostics.dynamics_residual.tolist() == [0.0, 0.0]


def test_diagnostics_are_those_of_the_rows_that_planned() -> None:
    agent = MPCAgent(DotModel(pixels=False), SQUARE, Script(), horizon=4, replan_every=3)
    observation = vector(0.1, 0.2, 0.3)
    actions, state = agent.predict(observation)
    observation["desired_goal"][[0, 2]] = 0.5  # rows 0 and 2 plan again
    jumps = np.array([0.1, 0.2, 0.4])
    observation["observation"] += 0.2 * actions + jumps[:, None]
    agent.predict(observation, state)
    assert agent.diagnostics is not None
    assert agent.diagnostics.rows.tolist() == [0, 2]
    assert agent.diagnostics.plan_cost.shape == agent.diagnostics.dynamics_residual.shape == (2,)
    assert agent.diagnostics.prediction_error == pytest.approx(jumps[[0, 2]] ** 2, rel=1e-4)


def test_between_plans_diagnostics_stay_those_of_the_latest_plan() -> None:
    agent = make_agent(DotModel(pixels=False), replan_every=2)
    _, state = agent.predict(vector(0.9))
    facts, plan = agent.diagnostics, agent.last_plan
    agent.predict(vector(0.8), state)
    assert agent.diagnostics is facts
    assert agent.last_plan is plan
