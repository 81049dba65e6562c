"""One plan, drawn: the pictures appear, and the numbers beside them are true."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dot_world import ENV_ID as DOT
from dot_world import DotEnv, register
from tiny_model import TINY
from torch import Tensor

from grasp_agent.agent import MPCAgent
from grasp_agent.cli import main
from grasp_agent.core.types import Budget, Problem
from grasp_agent.explain.explain import Explanation, explain, follow
from grasp_agent.explain.pictures import save_explanation
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained
from grasp_agent.objectives.goal_distance import GoalDistance
from grasp_agent.planning import CEM, GRASP, Alternate, GradientDescent, Lifted, MultiStart, begin, rollout, solve
from grasp_agent.rollouts.environments import make_env
from grasp_agent.rollouts.goal_env import GoalEnv

FREE = replace(TINY, layout="free", state_size=4, history=2, action_block=2)
SEED, GOAL_HORIZON = 3, 5
SETTINGS = ["--seed", str(SEED), "--goal-horizon", str(GOAL_HORIZON), "--threads", "1"]
FILES = ["cost.png", "path.png", "plan.json", "states.png"]


def model_of(config: WorldModelConfig) -> LatentWorldModel:
    torch.manual_seed(0)
    return LatentWorldModel(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pretrained(model_of(TINY), tmp_path_factory.mktemp("explain") / "model")


@pytest.fixture
def problem() -> Problem:
    env = make_env(GoalEnv().env_id, obs_type="pixels", resolution=16, goal_horizon=GOAL_HORIZON)
    observation, _ = env.reset(seed=SEED)
    return MPCAgent(model_of(TINY), env.action_space, CEM(), horizon=4).problem(observation)


def still_environment(steps: int) -> tuple[gym.Env[Any, Any], list[Any], dict[str, Any]]:
    """The same episode, made anew and held still: with all observations and the latest info."""
    env = make_env(GoalEnv().env_id, obs_type="pixels", resolution=16, goal_horizon=GOAL_HORIZON)
    observation, info = env.reset(seed=SEED)
    seen = [observation]
    for _ in range(steps):
        observation, _, _, _, info = env.step(np.zeros(2, np.float32))
        seen.append(observation)
    return env, seen, info


def encoded(model: LatentWorldModel, *pictures: Any) -> Tensor:
    with torch.no_grad():
        return model.encode(torch.from_numpy(np.stack(pictures)))


@pytest.mark.parametrize("planner", ["grasp", "cem"])
def test_the_command_writes_true_numbers(
    planner: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "plan"
    main(["plan", *SETTINGS, "--planner", planner, "--model", str(folder), "--out", str(out), "--iterations", "4"])
    shown = capsys.readouterr().out
    assert "goal reached" in shown and "pusher error [px]" in shown
    assert sorted(path.name for path in out.iterdir()) == FILES and all(str(out / name) in shown for name in FILES)
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in FILES if name.endswith(".png"))
    report = json.loads((out / "plan.json").read_text())
    assert (report["settings"]["planner"], report["settings"]["horizon"]) == (planner, GOAL_HORIZON)
    assert (report["status"], len(report["cost_trace"])) == ("running", 5)
    assert (report["defects"] is None) == (planner == "cem")

    env, seen, _ = still_environment(0)
    model = model_of(TINY)
    latents = encoded(model, *[seen[0]["pixels"]] * 3, seen[0]["goal"])
    actions = torch.tensor(report["actions"]).view(1, GOAL_HORIZON, 2)
    window = Problem(
        model=model,
        objective=GoalDistance(),
        states=latents[:3].unsqueeze(0),
        past_actions=torch.zeros(1, 2, 2),
        goal=latents[3:],
        horizon=GOAL_HORIZON,
        low=-torch.ones(2),
        high=torch.ones(2),
    )
    with torch.no_grad():
        states = rollout(window, actions)
    cost = GoalDistance().trajectory_cost(states[:, 1:], actions, latents[3:])
    assert report["cost"] == pytest.approx(float(cost), rel=1e-4)
    assert report["cost_trace"][-1] == pytest.approx(report["cost"], rel=1e-6)

    solved = []
    for action in report["actions"]:
        observation, _, _, _, info = env.step(np.array(action, np.float32))
        solved.append(info["is_success"])
    real = report["real"]
    assert (real["success"], real["success_at_any_step"]) == (info["is_success"], any(solved))
    assert (real["pusher_px"], real["body_px"]) == pytest.approx((info["agent_error"], info["block_error"]), rel=1e-4)
    assert real["body_deg"] == pytest.approx(np.degrees(info["angle_error"]), rel=1e-3)
    surprise = (states[0, -1] - encoded(model, observation["pixels"])[0]).square().mean()
    assert report["prediction_error"][-1] == pytest.approx(float(surprise), rel=1e-3)


def test_snapshots_do_not_disturb(problem: Problem) -> None:
    """Evaluated on the way, a planner's plans are those of one uninterrupted run."""
    planner = MultiStart(GradientDescent(), restarts=3)
    plan, snapshots, trace = follow(planner, problem, 7)
    assert [shot.iteration for shot in snapshots] == [0, 2, 5, 7] and len(trace) == 8
    assert (np.diff(trace) <= 0).all() and trace[-1] == pytest.approx(float(plan.cost[0]))

    whole, _ = solve(planner, problem, Budget(iterations=7), seed=torch.zeros(1, dtype=torch.int64))
    assert plan.iterations == whole.iterations == 7
    np.testing.assert_allclose(snapshots[-1].restarts, whole.restarts[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(plan.actions, whole.actions, rtol=1e-5)


def test_one_iteration_has_two_snapshots(problem: Problem) -> None:
    plan, snapshots, trace = follow(MultiStart(CEM(samples=8, elites=2), restarts=1), problem, 1)
    assert [shot.iteration for shot in snapshots] == [0, 1]
    np.testing.assert_allclose(trace, [snapshots[0].cost, float(plan.cost[0])])


def test_virtual_states_run_from_present_to_goal_and_have_their_own_defects(problem: Problem) -> None:
    planner = GRASP.paper()
    begun = begin(planner, problem, torch.zeros(1, dtype=torch.int64))
    virtual = planner.virtual_states(problem, begun)
    assert virtual is not None and virtual[1].shape == (1, 1, 5, 6)
    u, path = virtual[0][0, 0], virtual[1][0, 0]
    _, snapshots, _ = follow(planner, problem, 3)
    assert torch.equal(path, snapshots[0].states)
    assert torch.equal(path[0], problem.states[0, -1]) and torch.equal(path[-1], problem.goal[0])

    frames, blocks = list(problem.states[0, :-1]), list(problem.past_actions[0])
    middle, half = (problem.high + problem.low) / 2, (problem.high - problem.low) / 2
    for t, action in enumerate(middle + half * u):
        frames.append(path[t])
        blocks.append(action)
        with torch.no_grad():
            ahead = problem.model.predict(torch.stack(frames[-3:])[None], torch.stack(blocks[-3:])[None])[0]
        defect = (ahead - path[t + 1]).square().mean()
        assert snapshots[0].defects is not None
        assert snapshots[0].defects[t] == pytest.approx(float(defect), rel=1e-3)
    other = MultiStart(GradientDescent())
    assert other.virtual_states(problem, begin(other, problem)) is None


def test_free_latents_in_blocks(tmp_path: Path) -> None:
    """Nobody knows what their numbers mean: nothing is said of the predicted pose, and still all is drawn."""
    found = explain(model_of(FREE), MultiStart(GradientDescent(), 2), SEED, goal_horizon=GOAL_HORIZON, iterations=1)
    assert found.report["predicted"] is None and found.report["settings"]["horizon"] == 3
    assert found.replay.frames.shape == (4, 16, 16, 3) and len(found.replay.infos) == 7
    env, seen, _ = still_environment(0)
    assert np.array_equal(found.replay.frames[0], seen[0]["pixels"])
    for step, action in enumerate(found.report["actions"], start=1):
        observation = env.step(np.array(action, np.float32))[0]
        if step % 2 == 0:
            assert np.array_equal(found.replay.frames[step // 2], observation["pixels"])
    save_explanation(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_actions_keep_to_what_the_model_was_trained_on() -> None:
    limited = model_of(replace(TINY, action_limit=0.125))
    found = explain(limited, MultiStart(GradientDescent(), 2), SEED, goal_horizon=GOAL_HORIZON, iterations=2)
    assert 0 < np.abs(found.report["actions"]).max() <= 0.125


def test_costs_that_are_not_finite_are_drawn_and_written(tmp_path: Path) -> None:
    broken = model_of(TINY)
    with torch.no_grad():
        next(broken.dynamics.parameters()).fill_(torch.nan)
    found: Explanation = explain(broken, CEM(samples=4, elites=2), SEED, goal_horizon=GOAL_HORIZON, horizon=2)
    save_explanation(found, tmp_path)
    report = json.loads((tmp_path / "plan.json").read_text())
    assert (report["status"], report["cost"]) == ("non_finite", None)
    assert report["real"]["pusher_px"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--planner", "magic"], "planner: expected one of grasp, gd,"),
        (
            ["--model", "pusht-v9"],
            "unknown world model 'pusht-v9': expected one of ['medium-maze', 'pusht', 'pusht-grid', 'pusht-pose',"
            " 'pusht-vector', 'umaze', 'umaze-grid', 'umaze-vector', 'wall', 'wall-grid', 'wall-vector']",
        ),
        (["--iterations", "0"], "iterations: expected 1 or more, got 0"),
        (["--horizon", "-2"], "horizon: expected 1 or more, got -2"),
        (["--seed", "-1"], "seed: expected 0 or more, got -1"),
        (["--goal-horizon", "2"], "goal_horizon"),
        (["--out", "FILE"], "FILE"),
    ],
)
def test_odd_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("in the way")
    defaults = ["--model", str(folder), "--out", str(tmp_path / "out"), "--iterations", "1"]
    arguments = [str(tmp_path / "FILE") if word == "FILE" else word for word in arguments]
    with pytest.raises(SystemExit) as exit:
        main(["plan", *SETTINGS, *defaults, *arguments])
    said = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and len(said) == 1 and words in said[0]
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_a_plan_in_an_environment_that_sets_its_own_goals(tmp_path: Path) -> None:
    register()
    world = model_of(replace(TINY, layout="free", state_size=4))
    where = GoalEnv(DOT, {"limit": 40})
    found = explain(world, MultiStart(GradientDescent(), 2), SEED, where=where, iterations=1)
    assert len(found.report["actions"]) == 25, "as many steps as the task names"
    assert found.report["settings"]["environment"] == DOT and found.report["settings"]["limit"] == 40
    env = make_env(DOT, obs_type="pixels", limit=40)
    first = env.reset(seed=SEED)[0]
    assert np.array_equal(found.goal, first["goal"]) and np.array_equal(found.replay.frames[0], first["pixels"])
    for action in found.report["actions"]:
        last, *_, info = env.step(np.array(action, np.float32))
    assert found.report["real"]["success"] == info["is_success"]
    assert np.array_equal(found.replay.frames[-1], last["pixels"])
    save_explanation(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


class Impatient(DotEnv):
    """The dot's world, over after two steps."""

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        self.moves = getattr(self, "moves", 0) + 1
        return observation, reward, self.moves >= 2, truncated, info

    def reset(self, **options: Any) -> Any:
        self.moves = 0
        return super().reset(**options)


def test_an_episode_may_end_before_the_plan_does(tmp_path: Path) -> None:
    gym.register("tests/Impatient-v0", Impatient)
    world = model_of(replace(TINY, layout="free", state_size=4))
    try:
        where = GoalEnv("tests/Impatient-v0")
        planner = MultiStart(Alternate(Lifted(), GradientDescent(), steps=(1, 1)), 2)
        found = explain(world, planner, SEED, where=where, horizon=6, iterations=2)
    finally:
        del gym.registry["tests/Impatient-v0"]
    assert len(found.report["actions"]) == 6 and len(found.replay.frames) == len(found.prediction_error) == 3
    save_explanation(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one with a decoder"):
        explain(model_of(replace(TINY, decoder_channels=0)), CEM(), SEED)


def test_a_model_of_other_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 numbers per action"):
        explain(model_of(replace(FREE, action_dim=3)), CEM(), SEED)
