"""Actions of every space, as flat rows of numbers and back, and planning over choices."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from closed_loop import PLANNER
from dot_world import ENV_ID, DotModel, register
from gymnasium import spaces

from grasp_agent.agent.actions import ActionCode
from grasp_agent.agent.agent import MPCAgent
from grasp_agent.agent.choosing import ChoosingModel
from grasp_agent.core.types import Budget
from grasp_agent.planning import CEM, GRASP, GaussNewton, GradientDescent, MultiStart

register()


def test_actions_have_the_shape_dtype_and_bounds_of_the_space() -> None:
    space = spaces.Box(np.array([[-0.3], [0.1]]), np.array([[0.2], [0.4]]), dtype=np.float64)
    agent = MPCAgent(DotModel(pixels=False), space, PLANNER, horizon=3, budget=Budget(iterations=40))
    action, _ = agent.predict({"observation": np.array([1.0, 1.0]), "desired_goal": np.array([-1.0, -1.0])})
    assert space.contains(action)
    np.testing.assert_allclose(action, [[-0.3], [0.1]], atol=1e-6)


LEVER = spaces.Box(np.array([0, 100], np.float32), np.array([512, 104], np.float32))
"""As far from zero as positions on a screen are."""


def test_centred_numbers_go_from_least_to_largest_value() -> None:
    code = ActionCode(LEVER, centred=True)
    assert (code.low.tolist(), code.high.tolist()) == ([-1.0, -1.0], [1.0, 1.0])
    actions = np.array([[0, 100], [256, 102], [384, 104]], np.float32)
    numbers = [[-1.0, -1.0], [0.0, 0.0], [0.5, 1.0]]
    np.testing.assert_allclose(code.read(actions), numbers, atol=1e-6)
    np.testing.assert_allclose(code.write(np.array(numbers)), actions, atol=1e-4)
    assert code.write(np.array([[-3.0, 3.0]])).tolist() == [[0.0, 104.0]]
    fixed = ActionCode(spaces.Box(5.0, 5.0, (1,)), centred=True)
    assert fixed.write(np.ones((1, 1))).tolist() == [[5.0]] and fixed.read(np.full((1, 1), 5.0)).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("space", "centred"),
    [(spaces.Box(-1, 1, (2,)), False), (spaces.Box(-2, 2), False), (LEVER, True), (spaces.Discrete(3), False)],
)
def test_data_are_centred_where_bounds_are_not_the_same_in_both_directions(space: Any, centred: bool) -> None:
    assert ActionCode.for_data(space).centred is centred


def test_a_model_of_centred_actions_plans_in_the_middle_of_the_space() -> None:
    """The same decisions as with the plain space, told in the other numbers."""
    point = {"observation": np.array([[0.2, 0.1], [0.0, 0.5]]), "desired_goal": np.array([[0.25, 0.0], [0.0, 0.4]])}
    model = DotModel(pixels=False)
    plain = MPCAgent(model, spaces.Box(-1, 1, (2,)), PLANNER, horizon=3)
    centred = DotModel(pixels=False)
    centred.trained_on = [{"centred_actions": True}]
    agent = MPCAgent(centred, LEVER, PLANNER, horizon=3)
    state = others = None
    for _ in range(3):
        expected, others = plain.predict(point, others)
        actions, state = agent.predict(point, state)
        np.testing.assert_allclose((actions - [256, 102]) / [256, 2], expected, atol=1e-4)
    # what was executed is told in the environment's numbers, too
    told = state.with_last_action(np.array([[512.0, 102.0], [0.0, 100.0]]))
    np.testing.assert_allclose(told.history.actions[:, -1], [[1.0, 0.0], [-1.0, -1.0]], atol=1e-6)


def test_choices_that_were_made_otherwise_can_be_told() -> None:
    agent = MPCAgent(Stepper(), spaces.Discrete(3), PLANNER, horizon=4)
    _, state = agent.predict({"observation": np.array([[0.0], [0.0]]), "goal": np.array([[2.0], [-2.0]])})
    told = state.with_last_action(np.array([1, 0]))
    assert told.history.actions[:, -1].tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    for wrong in ([1, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"actions: expected choices of Discrete\(3\), got"):
            state.with_last_action(np.array(wrong))


def test_written_actions_are_rounded_for_integers_and_clipped_for_all() -> None:
    whole = ActionCode(spaces.Box(-2, 3, (2,), np.int32))
    assert whole.write(np.array([[0.6, -0.6], [9.0, -9.0]])).tolist() == [[1, -1], [3, -2]]
    assert whole.write(np.zeros((1, 2))).dtype == np.int32
    real = ActionCode(spaces.Box(np.array([-1, 0], np.float32), np.array([1, 5], np.float32)))
    assert real.write(np.array([[-2.0, -2.0], [0.5, 7.0]])).tolist() == [[-1.0, 0.0], [0.5, 5.0]]
    assert (real.low.tolist(), real.high.tolist()) == ([-1.0, 0.0], [1.0, 5.0])


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        (spaces.Text(4), TypeError, "expected a gymnasium.spaces.Box .* got Text"),
        (spaces.Discrete(4), ValueError, r"expected 2 numbers per action .* got 4 in Discrete\(4\)$"),
        (spaces.Box(-np.inf, np.inf, (2,)), ValueError, "finite bounds"),
        (spaces.Box(0, np.inf, (2,)), ValueError, "finite bounds"),
        (spaces.Box(-1, 1, (3,)), ValueError, r"expected 2 numbers per action .* got 3 in Box\(.*\)$"),
        (spaces.Box(-1, 1, (3, 1)), ValueError, r"expected 2 numbers per action .* got 3 in Box\(.*\)$"),
    ],
)
def test_refuses_action_spaces_it_cannot_act_in(space: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MPCAgent(DotModel(), space, PLANNER)


def test_points_from_a_vector_environments_action_space_to_that_of_one_environment() -> None:
    envs = gym.make_vec(ENV_ID, num_envs=3, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"expected 2 numbers per action .* got 6 .* pass its single_action_space"):
        make_agent_for(envs.action_space)
    make_agent_for(envs.single_action_space)
    envs.close()


def make_agent_for(space: spaces.Space[Any]) -> MPCAgent:
    return MPCAgent(DotModel(pixels=False), space, PLANNER)


# ---- choices -----------------------------------------------------------------------------------------------

CHOICES = [
    (spaces.Discrete(3), [2, 0], [[0, 0, 1], [1, 0, 0]]),
    (spaces.Discrete(2, start=5), [5, 6], [[1, 0], [0, 1]]),
    (spaces.MultiDiscrete([2, 3]), [[1, 2], [0, 1]], [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]),
    (spaces.MultiDiscrete([[2], [2]]), [[[1], [0]]], [[0, 1, 1, 0]]),
    (spaces.MultiBinary(2), [[1, 0]], [[0, 1, 1, 0]]),
]


@pytest.mark.parametrize(("space", "actions", "rows"), CHOICES)
def test_choices_are_a_one_among_zeros(space: Any, actions: list[Any], rows: list[Any]) -> None:
    code = ActionCode(space)
    np.testing.assert_array_equal(code.read(np.array(actions)), np.array(rows, np.float32))
    written = code.write(0.4 * np.array(rows) + 0.3)  # the largest number is the choice
    np.testing.assert_array_equal(written, np.array(actions))
    assert all(space.contains(action) for action in written)
    assert (code.size, code.low.max(), code.high.min()) == (len(rows[0]), 0.0, 1.0)


class Stepper:
    """A point on a line that each action moves by -1, 0 or +1; the three ways are one-hot."""

    state_shape, history, action_dim, action_block = (1,), 1, 3, 1

    def encode(self, obs: Any) -> torch.Tensor:
        return torch.as_tensor(obs, dtype=torch.float32)

    def predict(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        assert bool(((actions == 0) | (actions == 1)).all()), "only legal choices may reach the model"
        assert bool((actions.sum(-1) == 1).all())
        return states[:, -1] + actions[:, -1] @ torch.tensor([[-1.0], [0.0], [1.0]])


def test_a_model_of_choices_sees_legal_ones_and_passes_the_gradient_of_a_softmax() -> None:
    model = ChoosingModel(Stepper(), (3,))
    numbers = torch.tensor([[[0.2, 0.1, 0.9]]], requires_grad=True)
    moved = model.predict(torch.zeros(1, 1, 1), numbers)
    assert moved.item() == 1.0
    (gradient,) = torch.autograd.grad(moved.sum(), numbers)
    assert gradient[0, 0, 2] > 0 > gradient[0, 0, 0]  # more of the step up, less of the step down
    np.testing.assert_allclose(gradient.sum().item(), 0.0, atol=1e-6)


def test_choices_of_several_steps_and_groups_stay_apart() -> None:
    model = ChoosingModel(Stepper(), (3,))
    model.choices, model.action_dim, model.action_block = (2, 3), 5, 2
    legal = model.legal(torch.tensor([[0.1, 0.2, 0.5, 0.4, 0.3, 0.9, 0.8, 0.0, 0.1, 0.2]]))
    assert legal.tolist() == [[0, 1, 1, 0, 0, 1, 0, 0, 0, 1]]


@pytest.mark.parametrize(
    "planner",
    [
        GRASP(),
        MultiStart(CEM(), restarts=1),
        MultiStart(GradientDescent()),
        MultiStart(GaussNewton()),
    ],
    ids=["grasp", "cem", "gd", "gauss_newton"],
)
def test_every_kind_of_planner_walks_to_the_goal_by_choices(planner: MultiStart) -> None:
    agent = MPCAgent(Stepper(), spaces.Discrete(3), planner, horizon=6, budget=Budget(iterations=12))
    agent.reset(goal=np.array([3.0]))
    place = 0.0
    for _ in range(8):
        action = agent.act(np.array([place]))
        assert spaces.Discrete(3).contains(action)
        place += int(action) - 1
    assert place == 3.0


def test_rows_of_a_batch_choose_for_themselves() -> None:
    agent = MPCAgent(Stepper(), spaces.Discrete(3), GRASP(), horizon=4)
    actions, _ = agent.predict({"observation": np.array([[0.0], [0.0]]), "goal": np.array([[2.0], [-2.0]])})
    assert actions.tolist() == [2, 0]
