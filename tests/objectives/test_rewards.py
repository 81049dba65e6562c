"""Rewards as an objective: known returns of a model whose rewards and ends are written down."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from grasp_agent import GRASPAgent
from grasp_agent.core.capabilities import needs_goal
from grasp_agent.objectives import GoalDistance, Rewards
from grasp_agent.planning import CEM, GaussNewton, GradientDescent, MultiStart


class Slope:
    """A point x that actions move; a step earns the x it led to, less a tenth of the squared action. Beyond 2 the
    episode has ended."""

    state_shape, history, action_dim, action_block = (1,), 1, 1, 1
    rewards, discount = True, 0.5

    def encode(self, obs: Any) -> Tensor:
        return torch.as_tensor(obs, dtype=torch.float32)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        return states[:, -1] + actions[:, -1]

    def outcome(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return states[:, -1, 0] - 0.1 * actions[:, 0] ** 2, (states[:, -1, 0] <= 2.0).float()

    def value(self, states: Tensor) -> Tensor:
        return 10.0 * states[:, -1, 0]


def cost(states: list[float], terminal: float) -> float:
    path = torch.tensor(states).view(1, -1, 1)
    return float(Rewards(Slope(), terminal).trajectory_cost(path, torch.ones(1, len(states), 1), torch.zeros(1, 1)))


def test_the_cost_is_minus_the_discounted_return() -> None:
    # steps earn 0.9 and 1.9; then 0.25 of the value 20
    assert cost([1.0, 2.0], 1.0) == pytest.approx(-(0.9 + 0.5 * 1.9 + 0.25 * 20.0), rel=1e-6)
    assert cost([1.0, 2.0], 0.0) == pytest.approx(-(0.9 + 0.5 * 1.9), rel=1e-6)


def test_nothing_is_earned_after_an_end() -> None:
    # the step that ends the episode still earns 2.9
    assert cost([3.0, 1.0, 1.0], 1.0) == pytest.approx(-2.9, rel=1e-6)


class Run(Slope):
    """A step earns how far x has moved in it; the value is ten times the speed. Both need two states."""

    history = 2

    def outcome(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        assert states.shape[1:] == (2, 1)
        return states[:, 1, 0] - states[:, 0, 0] + 0.0 * actions[:, 0], (states[:, 1, 0] <= 5.0).float()

    def value(self, states: Tensor) -> Tensor:
        return 10.0 * (states[:, 1, 0] - states[:, 0, 0])


def test_outcomes_that_need_two_states_are_told_from_the_second_step_on() -> None:
    def cost(*states: float) -> float:
        path = torch.tensor(states).view(1, -1, 1)
        return float(Rewards(Run()).trajectory_cost(path, torch.ones(1, len(states), 1), torch.zeros(1, 1)))

    # the steps to 2 and to 5 earn 1 and 3, discounted by one and two steps; then the value 30, by three
    assert cost(1.0, 2.0, 5.0) == pytest.approx(-(0.5 * 1.0 + 0.25 * 3.0 + 0.125 * 30.0), rel=1e-6)
    # the step to 6 ends it: no value
    assert cost(1.0, 2.0, 6.0) == pytest.approx(-(0.5 * 1.0 + 0.25 * 4.0), rel=1e-6)
    # a plan of one step: as if it had stood still
    assert cost(1.0) == pytest.approx(0.0)
    assert float(Rewards(Run()).state_cost(torch.ones(1, 1), torch.zeros(1, 1))) == 0.0


def test_it_asks_for_no_goal() -> None:
    assert not needs_goal(Rewards(Slope()))
    assert needs_goal(GoalDistance())


def test_models_without_rewards_and_bad_weights_are_refused() -> None:
    blind = Slope()
    blind.rewards = False
    with pytest.raises(TypeError, match="foresees rewards, got Slope"):
        Rewards(blind)
    with pytest.raises(ValueError, match=r"Rewards.terminal: expected a finite number of at least 0"):
        Rewards(Slope(), -1.0)


@pytest.mark.parametrize(
    "planner",
    [None, MultiStart(CEM(), restarts=1), MultiStart(GradientDescent()), MultiStart(GaussNewton())],
    ids=["default", "cem", "gd", "gauss_newton"],
)
def test_agents_climb_without_a_goal(planner: MultiStart | None) -> None:
    agent = GRASPAgent(Slope(), spaces.Box(-1, 1, (1,)), planner, objective=Rewards(Slope()), horizon=5)
    x = -5.0
    for _ in range(6):
        x += float(agent.act(np.array([x]))[0])
    assert x > 0.7  # six steps of one would lead to 1


def test_the_lifted_iteration_says_that_it_needs_a_goal() -> None:
    from grasp_agent.planning import GRASP, LatCo

    for planner in (GRASP(), MultiStart(LatCo())):
        agent = GRASPAgent(Slope(), spaces.Box(-1, 1, (1,)), planner, objective=Rewards(Slope()), horizon=5)
        with pytest.raises(ValueError, match="expected an objective with a goal"):
            agent.act(np.zeros(1))


def test_rewards_of_an_environment_are_maximised_in_a_gymnasium_loop() -> None:
    env: gym.Env[Any, Any] = gym.make("MountainCarContinuous-v0")
    agent = GRASPAgent(_Hill(), env.action_space, objective=Rewards(_Hill()), horizon=10)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.act(observation))
    env.close()


class _Hill(Slope):
    state_shape = (2,)
