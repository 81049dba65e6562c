"""Windows of latents and actions against known answers: latent t is the number t, action t is (t, -t)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closed_loop import SQUARE, Script, vector
from dot_world import SPEED, DotModel
from gymnasium import spaces
from torch import Tensor

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.agent.history import ActionLimits, History
from grasp_agent.core.types import Problem
from grasp_agent.objectives.goal_distance import GoalDistance

REST = torch.tensor([0.5, -0.25])
LIMITS = ActionLimits(torch.tensor([-1.0, -2.0]), torch.tensor([3.0, 4.0]), REST)


class CountingModel:
    """Predicts 10 * (newest state) + (sum of the actions) and keeps what it was asked."""

    state_shape, action_dim = (1,), 2

    def __init__(self, history: int, action_block: int) -> None:
        self.history, self.action_block = history, action_block
        self.asked: list[tuple[Tensor, Tensor]] = []

    def encode(self, obs: Tensor) -> Tensor:
        return obs

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        self.asked.append((states, actions))
        return 10 * states[:, -1] + actions.flatten(1).sum(dim=1, keepdim=True)


def latent(*numbers: float) -> Tensor:
    return torch.tensor([[float(number)] for number in numbers])


def step(t: int) -> list[float]:
    return [float(t), float(-t)]


def played(model: CountingModel, steps: int, rows: int = 1) -> History:
    """What is known once observation `steps` is there."""
    history = History.begin(model, latent(*[0] * rows), REST)
    for t in range(steps):
        history = history.executed(torch.tensor([step(t)] * rows))
        history = history.observed(model, latent(*[t + 1] * rows), np.zeros(rows, bool), REST)
    return history


def posed(model: CountingModel, history: History, horizon: int = 3) -> Problem:
    goal = torch.zeros(len(history.age), 1)
    return history.problem(model, GoalDistance(), goal, horizon, LIMITS)


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("block", [1, 5])
@pytest.mark.parametrize("t", [0, 1, 4, 5, 9, 10, 17])
def test_a_window_holds_latents_one_block_apart_and_every_action_between(history: int, block: int, t: int) -> None:
    model = CountingModel(history, block)
    problem = posed(model, played(model, t))
    frames = [t - (history - 1 - i) * block for i in range(history)]
    assert problem.states[0, :, 0].tolist() == [max(frame, 0) for frame in frames]
    actions = [step(i) if i >= 0 else REST.tolist() for i in range(frames[0], t)]
    assert problem.past_actions.shape == (1, history - 1, 2 * block)
    assert problem.past_actions[0].reshape(-1, 2).tolist() == actions


def test_a_problem_has_the_bounds_of_every_action_of_a_block() -> None:
    problem = posed(CountingModel(2, 3), played(CountingModel(2, 3), 4), horizon=7)
    assert problem.low.tolist() == [-1.0, -2.0] * 3
    assert problem.high.tolist() == [3.0, 4.0] * 3
    assert problem.horizon == 7


def test_rows_that_begin_anew_forget_and_others_do_not() -> None:
    model = CountingModel(3, 2)
    history = played(model, 6, rows=3).executed(torch.tensor([step(6)] * 3))
    history = history.observed(model, latent(7, 70, 7), np.array([False, True, False]), REST)
    assert history.age.tolist() == [7, 0, 7]
    alone = posed(model, played(model, 7))
    problem = posed(model, history)
    for row in (0, 2):
        assert torch.equal(problem.states[row], alone.states[0])
        assert torch.equal(problem.past_actions[row], alone.past_actions[0])
    assert problem.states[1].tolist() == [[70.0]] * 3
    assert problem.past_actions[1].tolist() == [REST.tolist() * 2] * 2


def test_the_last_action_can_be_put_right() -> None:
    model = CountingModel(2, 2)
    history = played(model, 4).executed(torch.tensor([step(4)])).with_last_action(torch.tensor([[8.0, 9.0]]))
    history = history.observed(model, latent(5), np.zeros(1, bool), REST)
    assert posed(model, history).past_actions[0].reshape(-1, 2).tolist() == [step(3), [8.0, 9.0]]
    assert history.age.tolist() == [5]


def test_selected_rows_keep_their_own() -> None:
    model = CountingModel(2, 1)
    history = History.begin(model, latent(1, 2, 3), REST).executed(torch.tensor([step(1), step(2), step(3)]))
    history = history.observed(model, latent(4, 5, 6), np.array([False, False, True]), REST).select([2, 0])
    assert history.latents[:, :, 0].tolist() == [[6, 6, 6], [1, 1, 4]]
    assert history.actions.tolist() == [[REST.tolist()] * 2, [REST.tolist(), step(1)]]
    assert history.age.tolist() == [0, 1]


# ---- how well the model explains what was seen -------------------------------------------------------------


@pytest.mark.parametrize(("history", "block"), [(1, 1), (3, 1), (1, 5), (2, 3)])
def test_the_prediction_is_made_from_one_model_step_earlier(history: int, block: int) -> None:
    model, t = CountingModel(history, block), 12
    error, change = played(model, t).prediction_error(model)
    states, actions = model.asked[-1]
    frames = [t - (history - i) * block for i in range(history)]
    assert states[0, :, 0].tolist() == frames
    assert actions.shape == (1, history, 2 * block)
    assert actions[0].reshape(-1, 2).tolist() == [step(i) for i in range(t - history * block, t)]
    assert error == pytest.approx([(10 * (t - block) - t) ** 2])  # the two numbers of an action cancel in the sum
    assert change == pytest.approx([block**2])


def test_nothing_is_said_of_an_episodes_first_block() -> None:
    model = CountingModel(2, 3)
    for t in range(3):
        assert np.isnan(played(model, t).prediction_error(model)).all()
    assert not model.asked
    assert np.isfinite(played(model, 3).prediction_error(model)).all()


def test_rows_of_different_age_are_told_apart() -> None:
    model = CountingModel(1, 1)
    history = played(model, 4, rows=2).executed(torch.tensor([step(4)] * 2))
    history = history.observed(model, latent(5, 50), np.array([False, True]), REST)
    error, change = history.prediction_error(model)
    assert error == pytest.approx([35.0**2, np.nan], nan_ok=True)
    assert change == pytest.approx([1.0, np.nan], nan_ok=True)


# ---- limits of the actions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "largest", "expected"),
    [
        ([-1, -1], [1, 1], None, ([-1, -1], [1, 1], [0, 0])),
        ([0.5, -1], [1, -0.25], None, ([0.5, -1], [1, -0.25], [0.5, -0.25])),
        ([-3, -0.5], [3, 0.25], 2.0, ([-2, -0.5], [2, 0.25], [0, 0])),
        ([1, -9], [5, -2], 2.0, ([1, -2], [2, -2], [1, -2])),
    ],
)
def test_limits_are_those_of_the_space_and_of_the_model_and_rest_is_nearest_to_zero(
    low: list[float], high: list[float], largest: float | None, expected: tuple[list[float], ...]
) -> None:
    limits = ActionLimits.of(np.array(low), np.array(high), largest, torch.empty(0, dtype=torch.float64))
    assert (limits.low.tolist(), limits.high.tolist(), limits.rest.tolist()) == expected
    assert limits.low.dtype == torch.float64


@pytest.mark.parametrize(("low", "high"), [([2, -1], [3, 1]), ([-1, -4], [1, -2.5])])
def test_refuses_spaces_without_an_action_that_the_model_knows(low: list[float], high: list[float]) -> None:
    with pytest.raises(ValueError, match=r"action_space: expected bounds that reach into .* -1.5 to 1.5, got"):
        ActionLimits.of(np.array(low), np.array(high), 1.5, torch.empty(0))


# ---- through the agent -------------------------------------------------------------------------------------


def test_history_holds_frames_one_block_apart_and_the_actions_between() -> None:
    script = Script()
    agent = MPCAgent(DotModel(history=3, action_block=2, pixels=False), SQUARE, script, horizon=2)
    state, executed = None, []
    for t in range(6):
        action, state = agent.predict(vector(0.1 * t), state)
        executed.append(action[0])
    first, last = script.problems[0], script.problems[-1]
    assert torch.equal(first.states[0], torch.zeros(3, 2))
    assert torch.equal(first.past_actions[0], torch.zeros(2, 4))
    assert last.states[0, :, 0].tolist() == pytest.approx([0.1, 0.3, 0.5])
    expected = np.stack(executed[1:5]).reshape(2, 4)
    np.testing.assert_allclose(last.past_actions[0].numpy(), expected)


def test_an_episode_start_forgets_history_and_plan() -> None:
    script = Script()
    agent = MPCAgent(DotModel(history=2, pixels=False), SQUARE, script, horizon=2)
    state = None
    for t in range(3):
        _, state = agent.predict(vector(0.1 * t), state)
    action, _ = agent.predict(vector(0.7), state, episode_start=np.array([True]))
    np.testing.assert_allclose(script.problems[-1].states[0, :, 0], [0.7, 0.7])
    assert torch.equal(script.problems[-1].past_actions, torch.zeros(1, 1, 2))
    np.testing.assert_allclose(action, [[0.0, 0.01]])


def test_history_is_padded_with_the_allowed_action_nearest_to_zero() -> None:
    script = Script()
    space = spaces.Box(np.array([0.5, -1.0], np.float32), np.array([1.0, -0.25], np.float32))
    agent = MPCAgent(DotModel(history=2, pixels=False), space, script, horizon=2)
    agent.predict(vector(0.0))
    assert script.problems[0].past_actions.tolist() == [[[0.5, -0.25]]]
    assert script.problems[0].low.tolist() == [0.5, -1.0]


def test_integer_boxes_get_whole_numbers_which_history_remembers() -> None:
    script = Script()
    space = spaces.Box(0, 10, (2,), np.int64)
    agent = MPCAgent(DotModel(history=2, pixels=False), space, script, horizon=2)
    action, state = agent.predict(vector(0.1))
    assert space.contains(action[0])
    agent.predict(vector(0.1), state)
    assert script.problems[-1].past_actions[0, 0].tolist() == action[0].tolist()


def test_prediction_error_compares_what_is_seen_with_what_was_predicted_from_the_executed_actions() -> None:
    model = DotModel(action_block=2, pixels=False)
    agent = MPCAgent(model, SQUARE, Script(), horizon=2)
    point, state, errors = np.zeros(2), None, []
    for t in range(5):
        observation = {"observation": point, "desired_goal": np.ones(2)}
        action, state = agent.predict(observation, state)
        assert agent.diagnostics is not None
        errors.append(agent.diagnostics.prediction_error[0])
        # The world moves as the model says, except for a jump of (0.3, 0) after the third step.
        point = point + SPEED * action + (np.array([0.3, 0.0]) if t == 2 else 0.0)
    assert np.isnan(errors[:2]).all()
    assert errors[2:] == pytest.approx([0.0, 0.3**2 / 2, 0.3**2 / 2], abs=1e-6)
