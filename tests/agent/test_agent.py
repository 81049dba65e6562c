"""The closed loop: what the planner is asked, when, and within which budget."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from closed_loop import PLANNER, SQUARE, Script, make_agent, play, vector
from dot_world import DotEnv, DotModel, draw
from torch import Tensor

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget, Plan, Problem
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained
from grasp_agent.planning import CEM, GRASP, MultiStart, Search, solve


@pytest.mark.parametrize(("history", "block"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_reaches_goals_from_pixels(history: int, block: int) -> None:
    agent = make_agent(DotModel(history, block))
    env = DotEnv("pixels")
    assert all(play(agent, env, seed)[1] for seed in range(2))


@pytest.mark.parametrize("planner", [GRASP(), CEM()], ids=["grasp", "cem"])
def test_reaches_goals_with_other_planners(planner: Any) -> None:
    agent = MPCAgent(DotModel(), SQUARE, planner, horizon=4, budget=Budget(iterations=5))
    assert play(agent, DotEnv("pixels", limit=10), 1)[1]


@pytest.mark.parametrize("obs_type", ["state", "plain", "plain_pixels"])
def test_takes_dict_and_box_observations_with_the_goal_given_or_seen(obs_type: str) -> None:
    agent = make_agent(DotModel(pixels=obs_type == "plain_pixels"))
    assert play(agent, DotEnv(obs_type), 1, goal_from_info=obs_type != "state")[1]


def test_grasp_agent_plans_with_grasp_unless_told_otherwise() -> None:
    assert isinstance(GRASPAgent(DotModel(), SQUARE).planner, GRASP)
    assert GRASPAgent(DotModel(), SQUARE, PLANNER).planner is PLANNER


def test_a_bare_solver_improves_one_plan() -> None:
    planner = make_agent(planner=CEM()).planner
    assert (planner.solver, planner.restarts) == (CEM(), 1)


def test_same_seed_same_actions_other_seed_other_actions() -> None:
    agent = make_agent(DotModel(), planner=CEM(), budget=Budget(iterations=1))
    env = DotEnv("pixels")
    first, again = (np.stack(play(agent, env, 3)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    agent.reset(seed=1)
    assert not np.array_equal(np.stack(play(agent, env, 3)[0]), first)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 + 5])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    agents = [make_agent(DotModel(pixels=False), planner=CEM(), budget=Budget(iterations=1), seed=n) for n in (seed, 5)]
    actions = [agent.predict(vector(0.5))[0] for agent in agents]
    assert np.array_equal(*actions) == (seed == 2**64 + 5)  # seeds count modulo 2^64


# ---- goals -------------------------------------------------------------------------------------------------


def test_a_changed_goal_is_encoded_once_and_brings_a_new_plan() -> None:
    model, script = DotModel(pixels=False), Script()
    agent = MPCAgent(model, SQUARE, script, horizon=4, replan_every=4)
    observation = vector(0.1, 0.2)
    _, state = agent.predict(observation)
    assert model.encoded == 4
    _, state = agent.predict(observation, state)
    assert model.encoded == 6
    observation["desired_goal"][1] = [0.5, 0.5]
    _, state = agent.predict(observation, state)
    assert model.encoded == 9
    assert script.shifts == [(2, 1)]
    assert script.problems[-1].goal.tolist() == [[0.5, 0.5]]
    _, state = agent.predict(observation, state)
    assert model.encoded == 11  # the new goal is known now


def test_a_given_goal_takes_precedence_until_reset() -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=2)
    agent.reset(goal=np.array([0.25, 0.5]))
    agent.act(vector(0.1))
    agent.reset()
    agent.act(vector(0.1))
    assert [problem.goal.tolist() for problem in script.problems] == [[[0.25, 0.5]], [[0.0, 0.0]]]


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_a_given_goal_is_copied(shape: tuple[int, ...]) -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=2)
    buffer = np.full(shape, 0.5)
    agent.reset(goal=buffer)
    buffer[:] = -1.0
    agent.act(vector(0.1))
    buffer[:] = -2.0
    agent.act(vector(0.1))
    assert [problem.goal.tolist() for problem in script.problems] == [[[0.5, 0.5]]] * 2


def test_observations_goals_and_actions_are_copied() -> None:
    script = Script()
    agent = MPCAgent(DotModel(history=2, pixels=False), SQUARE, script, horizon=2)
    # float32 as the model: nothing has to be converted, so that views would be noticed
    buffer = {name: array.astype(np.float32) for name, array in vector(0.1).items()}
    action, state = agent.predict(buffer)
    chosen = action.copy()
    for array in (*buffer.values(), action):
        array[:] = 7.0
    agent.predict({name: array.astype(np.float32) for name, array in vector(0.2).items()}, state)
    problem = script.problems[-1]
    np.testing.assert_allclose(problem.states[0, :, 0], [0.1, 0.2])
    np.testing.assert_allclose(problem.past_actions[0], chosen)
    assert problem.goal.tolist() == [[0.0, 0.0]]
    assert script.shifts == [(1, 1)]


def test_a_goal_changed_in_the_callers_buffer_is_noticed() -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=4, replan_every=4)
    observation = vector(0.1)
    _, state = agent.predict(observation)
    observation["desired_goal"][:] = 0.5
    agent.predict(observation, state)
    assert script.problems[-1].goal.tolist() == [[0.5, 0.5]]


# ---- what the planner is asked -----------------------------------------------------------------------------


@pytest.mark.parametrize(("history", "block"), [(1, 1), (2, 3)])
def test_problem_is_the_one_that_an_episodes_first_decision_solves(history: int, block: int) -> None:
    agent = make_agent(DotModel(history, block, pixels=False), planner=GRASP(), horizon=3, seed=11)
    observation = {"observation": np.array([[0.5, 0.1], [0.3, -0.9]]), "desired_goal": np.array([[0.0, 1.0], [-1, 0]])}
    agent.predict(observation)
    keys = torch.full((2,), 11, dtype=torch.int64)
    plan, _ = solve(agent.planner, agent.problem(observation), agent.budget, seed=keys)
    assert agent.last_plan is not None
    torch.testing.assert_close(plan.actions, agent.last_plan.actions)
    torch.testing.assert_close(plan.cost, agent.last_plan.cost)


def test_problem_is_posed_as_predict_poses_it() -> None:
    script = Script()
    agent = MPCAgent(DotModel(history=3, action_block=2, pixels=False), SQUARE, script, horizon=2)
    observation = vector(0.5, 0.2)
    agent.predict(observation)
    posed, asked = agent.problem(observation), script.problems[0]
    for name in ("states", "past_actions", "goal", "low", "high"):
        torch.testing.assert_close(getattr(posed, name), getattr(asked, name))
    assert posed.states.shape == (2, 3, 2)
    assert (posed.horizon, asked.horizon) == (2, 2)
    assert agent.problem(observation, horizon=7).horizon == 7


def test_plans_keep_to_the_models_action_limit() -> None:
    model = DotModel(pixels=False)
    model.action_limit = 0.25
    free, _ = make_agent(DotModel(pixels=False), budget=Budget(iterations=40)).predict(vector(5.0))
    kept, _ = make_agent(model, budget=Budget(iterations=40)).predict(vector(5.0))
    assert abs(free[0, 0]) > 0.5
    assert abs(kept[0, 0]) == pytest.approx(0.25, abs=1e-3)


def test_agents_plan_for_what_the_model_says_matters() -> None:
    model = DotModel(pixels=False)
    model.distance_weights = (1.0, 0.0)
    goal = {"observation": np.zeros((1, 2)), "desired_goal": np.array([[1.0, -1.0]])}
    everywhere, _ = make_agent(DotModel(pixels=False), budget=Budget(iterations=40)).predict(goal)
    sideways, _ = make_agent(model, budget=Budget(iterations=40)).predict(goal)
    assert everywhere[0, 1] < -0.5
    assert abs(sideways[0, 1]) < 0.2 and sideways[0, 0] > 0.5


# ---- budgets -----------------------------------------------------------------------------------------------


def test_default_budget_is_the_planners_own_for_every_decision() -> None:
    agent = MPCAgent(DotModel(pixels=False), SQUARE, PLANNER)
    assert agent.budget == Budget(iterations=PLANNER.decision_iterations)
    assert agent.first_budget == agent.budget


@pytest.mark.parametrize(("block", "horizon"), [(1, 25), (2, 12), (5, 5), (30, 1)])
def test_looks_25_environment_steps_ahead_by_default(block: int, horizon: int) -> None:
    assert MPCAgent(DotModel(action_block=block), SQUARE, PLANNER).horizon == horizon


def test_an_episodes_first_decision_has_its_own_budget_whatever_the_neighbours_do() -> None:
    def agent() -> MPCAgent:
        return make_agent(DotModel(pixels=False), budget=Budget(iterations=2), first_budget=Budget(iterations=7))

    solo = agent()
    first, state = solo.predict(vector(0.5))
    assert solo.diagnostics is not None and solo.diagnostics.iterations == 7
    second, _ = solo.predict(vector(0.4), state)
    assert solo.diagnostics.iterations == 2

    pair = agent()
    _, state = pair.predict(vector(0.5, 0.2))
    actions, _ = pair.predict(vector(0.4, 0.5), state, episode_start=np.array([False, True]))
    assert actions == pytest.approx(np.concatenate([second, first]), abs=2e-5)
    assert pair.diagnostics is not None and pair.last_plan is not None
    assert pair.diagnostics.rows.tolist() == [0, 1]
    assert pair.diagnostics.plan_cost.shape == (2,) and pair.last_plan.actions.shape[0] == 2


def test_a_time_limit_includes_the_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class LongBeginning(Script):
        def begin(self, problem: Problem, keys: Tensor) -> Search:
            time.sleep(0.1)
            return super().begin(problem, keys)

    limits: list[float | None] = []

    def noting(planner: MultiStart, problem: Problem, budget: Budget, **options: Any) -> tuple[Plan, Search]:
        limits.append(budget.seconds)
        return solve(planner, problem, budget, **options)

    monkeypatch.setattr("grasp_agent.agent.agent.solve", noting)
    for seconds in (0.3, 0.05):
        budget = Budget(1, seconds=seconds)
        make_agent(DotModel(pixels=False), planner=LongBeginning(), budget=budget).predict(vector(0.0))
    assert limits[0] is not None and 0 < limits[0] <= 0.2
    assert limits[1] is not None and 0 < limits[1] < 1e-6


# ---- saved models ------------------------------------------------------------------------------------------


def test_from_pretrained_plans_with_a_saved_model(tmp_path: Path) -> None:
    model = LatentWorldModel(
        WorldModelConfig(image_size=16, state_size=4, history=2, encoder_channels=4, decoder_channels=0)
    )
    save_pretrained(model, tmp_path / "model")
    agent = GRASPAgent.from_pretrained(tmp_path / "model", SQUARE, horizon=3, budget=Budget(iterations=2))
    assert isinstance(agent, GRASPAgent)
    assert SQUARE.contains(agent.act({"pixels": draw(np.zeros(2)), "goal": draw(np.ones(2))}))
