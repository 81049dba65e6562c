"""The closed loop: what the planner is asked, what the environment gets, and who can drive the agent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from dot_world import ENV_ID, LIMIT, SIDE, SPEED, DotEnv, DotModel, draw, register
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordVideo
from PIL import Image, ImageSequence
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage
from torch import Tensor

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.core.types import Budget, Plan, Problem
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained
from grasp_agent.planning import CEM, GRASP, GradientDescent
from grasp_agent.planning.solve import Best, make_plan, solve, unscored

register()
SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)
PLANNER = GradientDescent(restarts=2, refresh=1)
FEW = Budget(iterations=8)


def make_agent(model: DotModel | None = None, **options: Any) -> MPCAgent:
    options = {"planner": PLANNER, "horizon": 4, "budget": FEW, **options}
    return MPCAgent(DotModel() if model is None else model, SQUARE, **options)


def play(agent: MPCAgent, env: DotEnv, seed: int, goal_from_info: bool = False) -> tuple[list[np.ndarray], bool, float]:
    """An episode with `act`: actions, success at the end, return."""
    observation, info = env.reset(seed=seed)
    agent.reset(goal=info["goal"] if goal_from_info else None)
    actions, total, done = [], 0.0, False
    while not done:
        actions.append(agent.act(observation))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        total += reward
        done = terminated or truncated
    return actions, info["is_success"], total


# ---- a planner that writes down what it is asked -----------------------------------------------------------


@dataclass(frozen=True)
class ScriptState:
    decision: Tensor
    best: Best


@dataclass(frozen=True)
class Script:
    """Plans 0.1 * (warm starts so far) + 0.01 * (number in the flat plan), and notes the questions."""

    name: ClassVar[str] = "script"
    decision_iterations: ClassVar[int] = 1
    problems: list[Problem] = field(default_factory=list)
    shifts: list[tuple[int, int]] = field(default_factory=list)

    def _state(self, problem: Problem, decision: Tensor) -> ScriptState:
        self.problems.append(problem)
        count = problem.horizon * problem.action_size
        flat = 0.1 * decision[:, None].float() + 0.01 * torch.arange(count)
        u = flat.view(len(decision), problem.horizon, problem.action_size)
        return ScriptState(decision, replace(unscored(problem, u), cost=torch.zeros(len(decision))))

    def init(self, problem: Problem, keys: Tensor) -> ScriptState:
        return self._state(problem, torch.zeros_like(keys))

    def step(self, problem: Problem, state: ScriptState) -> ScriptState:
        return state

    def evaluate(self, problem: Problem, state: ScriptState) -> ScriptState:
        return state

    def shift(self, problem: Problem, state: ScriptState, n: int) -> ScriptState:
        self.shifts.append((n, problem.batch))
        return self._state(problem, state.decision + 1)

    def plan(self, problem: Problem, state: ScriptState) -> Plan:
        return make_plan(problem, state.best)


def vector(*numbers: float) -> dict[str, np.ndarray]:
    """State observations (x, 0) with the goal at the origin: one for one number, else a batch."""
    points = np.array([[number, 0.0] for number in numbers])
    return {"observation": points, "desired_goal": np.zeros_like(points)}


# ---- closed loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("history", "block"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_reaches_goals_from_pixels(history: int, block: int) -> None:
    agent = make_agent(DotModel(history, block))
    env = DotEnv("pixels")
    assert all(play(agent, env, seed)[1] for seed in range(4))


@pytest.mark.parametrize("planner", [GRASP(), CEM()], ids=["grasp", "cem"])
def test_reaches_goals_with_other_planners(planner: Any) -> None:
    agent = MPCAgent(DotModel(), SQUARE, planner, horizon=5, budget=Budget(iterations=10))
    env = DotEnv("pixels")
    assert all(play(agent, env, seed)[1] for seed in range(2))


@pytest.mark.parametrize("obs_type", ["state", "plain", "plain_pixels"])
def test_takes_dict_and_box_observations_with_the_goal_given_or_seen(obs_type: str) -> None:
    agent = make_agent(DotModel(pixels=obs_type == "plain_pixels"))
    assert play(agent, DotEnv(obs_type), 1, goal_from_info=obs_type != "state")[1]


def test_grasp_agent_plans_with_grasp_unless_told_otherwise() -> None:
    assert isinstance(GRASPAgent(DotModel(), SQUARE).planner, GRASP)
    assert GRASPAgent(DotModel(), SQUARE, PLANNER).planner is PLANNER


def test_plans_alike_under_no_grad_and_inference_mode_and_leaves_no_gradients() -> None:
    agent, observation = make_agent(DotModel(pixels=False)), vector(0.5)
    expected, _ = agent.predict(observation)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            actions, inside = agent.predict(observation)
        np.testing.assert_array_equal(actions, expected)
        agent.predict(observation, inside)
    parameter = agent.world_model.speed
    assert parameter.grad is None
    assert parameter.requires_grad


def test_same_seed_same_actions_other_seed_other_actions() -> None:
    agent = make_agent(DotModel(), planner=CEM(), budget=Budget(iterations=1))
    env = DotEnv("pixels")
    first, again = (np.stack(play(agent, env, 3)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    agent.reset(seed=1)
    assert not np.array_equal(np.stack(play(agent, env, 3)[0]), first)


def test_predict_leaves_the_given_state_as_it_was() -> None:
    agent = make_agent(DotModel(pixels=False))
    _, state = agent.predict(vector(0.5))
    once, _ = agent.predict(vector(0.4), state)
    twice, _ = agent.predict(vector(0.4), state)
    np.testing.assert_array_equal(once, twice)


# ---- history, blocks, replanning ---------------------------------------------------------------------------


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


def test_a_given_goal_takes_precedence_until_reset() -> None:
    script = Script()
    agent = MPCAgent(DotModel(pixels=False), SQUARE, script, horizon=2)
    agent.reset(goal=np.array([0.25, 0.5]))
    agent.act(vector(0.1))
    agent.reset()
    agent.act(vector(0.1))
    assert [problem.goal.tolist() for problem in script.problems] == [[[0.25, 0.5]], [[0.0, 0.0]]]


# ---- rows are independent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("planner", [PLANNER, CEM(), GRASP()], ids=["gd", "cem", "grasp"])
def test_a_row_of_a_batch_acts_as_it_would_alone(planner: Any) -> None:
    agent = make_agent(DotModel(history=2, pixels=False), planner=planner, replan_every=2, budget=Budget(iterations=3))
    points = np.random.default_rng(0).uniform(-1, 1, (7, 3, 2))
    goals = np.random.default_rng(1).uniform(-1, 1, (3, 2))
    starts = np.zeros((7, 3), bool)
    starts[3, 1] = starts[4, 2] = True

    def run(rows: list[int]) -> np.ndarray:
        state, actions = None, []
        for t in range(7):
            observation = {"observation": points[t, rows], "desired_goal": goals[rows]}
            action, state = agent.predict(observation, state, episode_start=starts[t, rows])
            actions.append(action)
        return np.stack(actions, axis=1)

    together = run([0, 1, 2])
    for row in range(3):
        np.testing.assert_allclose(run([row])[0], together[row], atol=2e-5)


def test_a_single_observation_gets_the_action_of_a_batch_of_one() -> None:
    agent = make_agent()
    single = {"pixels": draw(np.array([0.3, 0.1])), "goal": draw(np.array([-0.5, 0.0]))}
    action, _ = agent.predict(single)
    batch, _ = agent.predict({name: image[None] for name, image in single.items()})
    assert action.shape == (2,)
    assert action.dtype == np.float32
    np.testing.assert_array_equal(batch, action[None])


# ---- inside other people's loops ---------------------------------------------------------------------------


def test_evaluate_policy_gives_the_returns_of_a_plain_loop() -> None:
    agent, env = make_agent(), DotEnv("pixels")
    expected = [play(agent, env, 5)[2]]
    observation_rng = env.np_random  # later episodes go on with the generator that the seed began
    for _ in range(2):
        env.np_random = observation_rng
        observation, _ = env.reset()
        agent.reset()
        total, done = 0.0, False
        while not done:
            observation, reward, _, done, _ = env.step(agent.act(observation))
            total += reward
        expected.append(total)

    vec_env = DummyVecEnv([lambda: Monitor(DotEnv("pixels"))])
    vec_env.seed(5)
    returns, lengths = evaluate_policy(agent, vec_env, n_eval_episodes=3, return_episode_rewards=True)
    assert lengths == [LIMIT] * 3
    assert returns == pytest.approx(expected, abs=1e-5)


def test_drives_a_vec_env_with_transposed_images_and_unequal_episodes() -> None:
    makers = [lambda limit=limit: Monitor(DotEnv("pixels", limit=limit)) for limit in (10, 13)]
    plain, transposed = DummyVecEnv(makers), VecTransposeImage(DummyVecEnv(makers))
    scores = []
    for vec_env in (plain, transposed):
        vec_env.seed(0)
        scores.append(evaluate_policy(make_agent(), vec_env, n_eval_episodes=4, return_episode_rewards=True))
    assert transposed.observation_space["pixels"].shape == (3, SIDE, SIDE)
    assert scores[0] == scores[1]
    assert sorted(scores[0][1]) == [10, 10, 13, 13]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_drives_a_gymnasium_vector_environment(mode: AutoresetMode) -> None:
    limits = (9, 12)
    makers = [lambda limit=limit: DotEnv("pixels", limit=limit) for limit in limits]
    vec_env = SyncVectorEnv(makers, autoreset_mode=mode)
    agent, solved = make_agent(), 0
    observation, _ = vec_env.reset(seed=7)
    state, starts, ended = None, np.ones(2, bool), np.zeros(2, bool)
    for _ in range(26):
        actions, state = agent.predict(observation, state, episode_start=starts)
        assert vec_env.action_space.contains(actions)
        observation, _, terminated, truncated, info = vec_env.step(actions)
        done = terminated | truncated
        facts = info.get("final_info", info)
        solved += int((facts["is_success"] & done).sum())
        starts, ended = (done, done) if mode is AutoresetMode.SAME_STEP else (ended, done)
    assert solved == 4
    vec_env.close()


class ClipWriter:
    """Stands in for the encoder that RecordVideo hands its frames to: writes an animation with Pillow."""

    def __init__(self, frames: list[np.ndarray], fps: int) -> None:
        self.frames = [Image.fromarray(frame) for frame in frames]

    def write_videofile(self, path: str, logger: Any = None) -> None:
        # Equal frames in a row become one shown longer, so the length of the film is its duration.
        self.frames[0].save(path, format="GIF", save_all=True, append_images=self.frames[1:], duration=100)


def test_runs_inside_record_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(
        sys.modules["moviepy.video.io.ImageSequenceClip"], "ImageSequenceClip", ClipWriter, raising=False
    )
    folder = tmp_path / "films"
    env = RecordVideo(gym.make(ENV_ID, obs_type="pixels", render_mode="rgb_array"), str(folder), disable_logger=True)
    agent, done = make_agent(), False
    observation, _ = env.reset(seed=0)
    agent.reset()
    while not done:
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        done = terminated or truncated
    env.close()
    assert info["is_success"]
    with Image.open(next(folder.glob("*.mp4"))) as film:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
        assert sum(shown) == 100 * (LIMIT + 1)
        assert len(shown) > 3


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


def test_default_budget_is_the_planners_own_for_every_decision() -> None:
    agent = MPCAgent(DotModel(pixels=False), SQUARE, PLANNER)
    assert agent.budget == Budget(iterations=PLANNER.decision_iterations)
    assert agent.first_budget == agent.budget
    assert agent.horizon == 25


def test_a_time_limit_includes_the_warm_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class LongBeginning(Script):
        def init(self, problem: Problem, keys: Tensor) -> ScriptState:
            time.sleep(0.1)
            return super().init(problem, keys)

    limits: list[float | None] = []

    def noting(planner: Any, problem: Problem, state: Any, budget: Budget) -> Any:
        limits.append(budget.seconds)
        return solve(planner, problem, state, budget)

    monkeypatch.setattr("grasp_agent.agent.agent.solve", noting)
    for seconds in (0.3, 0.05):
        budget = Budget(1, seconds=seconds)
        make_agent(DotModel(pixels=False), planner=LongBeginning(), budget=budget).predict(vector(0.0))
    assert 0 < limits[0] <= 0.2
    assert 0 < limits[1] < 1e-6


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


# ---- diagnostics -------------------------------------------------------------------------------------------


def test_prediction_error_compares_what_is_seen_with_what_was_predicted_from_the_executed_actions() -> None:
    model = DotModel(action_block=2, pixels=False)
    agent = MPCAgent(model, SQUARE, Script(), horizon=2)
    point, state, errors, executed = np.zeros(2), None, [], []
    for t in range(5):
        observation = {"observation": point, "desired_goal": np.ones(2)}
        action, state = agent.predict(observation, state)
        assert agent.diagnostics is not None
        errors.append(agent.diagnostics.prediction_error[0])
        executed.append(action)
        # The world moves as the model says, except for a jump of (0.3, 0) after the third step.
        point = point + SPEED * action + (np.array([0.3, 0.0]) if t == 2 else 0.0)
    assert np.isnan(errors[:2]).all()
    assert errors[2:] == pytest.approx([0.0, 0.3**2 / 2, 0.3**2 / 2], abs=1e-6)


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
    np.testing.assert_allclose(facts.dynamics_residual, plan.defects.mean(1).numpy())
    assert facts.seconds > plan.seconds


# ---- action spaces -----------------------------------------------------------------------------------------


def test_actions_have_the_shape_dtype_and_bounds_of_the_space() -> None:
    space = spaces.Box(np.array([[-0.3], [0.1]]), np.array([[0.2], [0.4]]), dtype=np.float64)
    agent = MPCAgent(DotModel(pixels=False), space, PLANNER, horizon=3, budget=Budget(iterations=40))
    action, _ = agent.predict({"observation": np.array([1.0, 1.0]), "desired_goal": np.array([-1.0, -1.0])})
    assert space.contains(action)
    np.testing.assert_allclose(action, [[-0.3], [0.1]], atol=1e-6)


def test_integer_boxes_get_whole_numbers_which_history_remembers() -> None:
    script = Script()
    space = spaces.Box(0, 10, (2,), np.int64)
    agent = MPCAgent(DotModel(history=2, pixels=False), space, script, horizon=2)
    action, state = agent.predict(vector(0.1))
    assert space.contains(action[0])
    agent.predict(vector(0.1), state)
    assert script.problems[-1].past_actions[0, 0].tolist() == action[0].tolist()


@pytest.mark.parametrize(
    ("space", "error", "message"),
    [
        (spaces.Discrete(4), TypeError, "expected a gymnasium.spaces.Box .* got Discrete"),
        (spaces.Box(-np.inf, np.inf, (2,)), ValueError, "finite bounds"),
        (spaces.Box(-1, 1, (3,)), ValueError, "expected 2 numbers per action .* got 3"),
    ],
)
def test_refuses_action_spaces_it_cannot_act_in(space: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MPCAgent(DotModel(), space, PLANNER)


# ---- bad input ---------------------------------------------------------------------------------------------

GOOD = draw(np.zeros(2))


def pixels(image: Any) -> dict[str, Any]:
    return {"pixels": image, "goal": GOOD}


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (
            pixels(draw(np.zeros(2), 32)),
            r"expected images of shape \(16, 16, 3\).* got \(32, 32, 3\).*resolution=16",
        ),
        (pixels(GOOD / 255.0), "expected uint8 images .* got dtype float64$"),
        (pixels(np.full((16, 16, 3), np.nan, np.float32)), "uint8 images .* float32 holding NaN"),
        (pixels(np.zeros(2)), "expected uint8 images .* obs_type='pixels'"),
        (pixels(GOOD[..., 0]), r"got \(16, 16\)"),
        (pixels(np.stack([[GOOD]])), r"got \(1, 1, 16, 16, 3\)"),
        (
            {"agent_pos": np.zeros(2)},
            "one of the keys pixels, image, observation, got agent_pos.*obs_type='pixels'",
        ),
        ({"pixels": GOOD}, "goal: expected one from agent.reset"),
        (GOOD, "goal: expected one from agent.reset"),
        ({"pixels": GOOD, "goal": np.zeros(2)}, "'goal'.*expected uint8 images"),
        ({"pixels": GOOD, "goal": np.stack([GOOD] * 3)}, "goal: expected one or 1 .* got 3"),
    ],
)
def test_says_in_one_sentence_what_is_wrong_with_pixels(observation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_agent().predict(observation)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("observation", "error", "message"),
    [
        (np.array([np.nan, 0.0]), ValueError, "finite numbers, got NaN"),
        (np.zeros((1, 2, 2)), ValueError, "expected shape .features. or .batch, features."),
        (np.array(["a", "b"]), TypeError, "array of numbers"),
        (np.zeros(3), ValueError, "goal: expected the observation's form"),
    ],
)
def test_says_in_one_sentence_what_is_wrong_with_vectors(
    observation: Any, error: type[Exception], message: str
) -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.zeros(2))
    with pytest.raises(error, match=message):
        agent.act(observation)


def test_says_what_the_world_model_cannot_encode() -> None:
    agent = make_agent(DotModel(pixels=False))
    agent.reset(goal=np.zeros(3))
    with pytest.raises(ValueError, match=r"got shape \[3\], which it cannot encode"):
        agent.act(np.zeros(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda agent, state: agent.predict(vector(0.1, 0.2), state), ValueError, "expected 1 rows .* got 2"),
        (
            lambda agent, state: agent.predict(vector(0.1), state, [True, False]),
            ValueError,
            "1 flags.* got 2",
        ),
        (
            lambda agent, state: agent.predict(vector(0.1), (1, 2)),
            TypeError,
            "previous predict returned.* got tuple",
        ),
    ],
)
def test_says_what_is_wrong_with_memory(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    agent = make_agent(DotModel(pixels=False))
    _, state = agent.predict(vector(0.1))
    with pytest.raises(error, match=message):
        call(agent, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon: expected at least 1"),
        ({"replan_every": 0}, "replan_every: expected 1 to 4"),
        ({"replan_every": 5}, "replan_every: expected 1 to 4"),
    ],
)
def test_refuses_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_agent(**options)


def test_a_refused_observation_leaves_the_episode_as_it_was() -> None:
    agent, other = (make_agent(DotModel(pixels=False)) for _ in range(2))
    for each in (agent, other):
        each.act(vector(0.5))
    with pytest.raises(ValueError, match="finite"):
        agent.act(vector(np.nan))
    np.testing.assert_array_equal(agent.act(vector(0.4)), other.act(vector(0.4)))


# ---- saved models ------------------------------------------------------------------------------------------


def test_from_pretrained_plans_with_a_saved_model(tmp_path: Path) -> None:
    model = LatentWorldModel(
        WorldModelConfig(image_size=16, state_size=4, history=2, encoder_channels=4, decoder_channels=0)
    )
    save_pretrained(model, tmp_path / "model")
    agent = GRASPAgent.from_pretrained(tmp_path / "model", SQUARE, horizon=3, budget=Budget(iterations=2))
    assert isinstance(agent, GRASPAgent)
    assert SQUARE.contains(agent.act({"pixels": GOOD, "goal": draw(np.ones(2))}))
