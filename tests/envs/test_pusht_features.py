"""The baseline's features: what they are blind to, what they keep, and which spaces they refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from torch import Tensor

from grasp_envs.pusht_features import PushTReachFeatures

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
# Agent, block and heading in the arena's frame fill the first eight features.
ABSOLUTE = 8


def scene(shift: tuple[float, float] = (0.0, 0.0), turn: float = 0.0) -> dict[str, Tensor]:
    """One observation, moved rigidly: turned about the arena's middle, then shifted."""
    cos, sin = math.cos(turn), math.sin(turn)

    def move(x: float, y: float) -> list[float]:
        x, y = x - 256.0, y - 256.0
        return [cos * x - sin * y + 256.0 + shift[0], sin * x + cos * y + 256.0 + shift[1]]

    def goal(agent: tuple[float, float], block: tuple[float, float], angle: float) -> list[float]:
        return [*move(*agent), *move(*block), math.cos(angle + turn), math.sin(angle + turn)]

    velocity = [cos * 30.0 - sin * -80.0, sin * 30.0 + cos * -80.0]
    achieved = goal((200.0, 300.0), (260.0, 240.0), 0.4)
    desired = goal((230.0, 280.0), (275.0, 215.0), 0.9)
    state = [*achieved[:4], 0.4 + turn, *velocity]
    numbers = {"observation": state, "achieved_goal": achieved, "desired_goal": desired}
    return {key: torch.tensor([value]) for key, value in numbers.items()}


@pytest.fixture(scope="module")
def features() -> PushTReachFeatures:
    with gym.make(ENV, obs_type="state") as env:
        assert isinstance(env.observation_space, spaces.Dict)
        return PushTReachFeatures(env.observation_space)


def test_moving_everything_changes_positions_only(features: PushTReachFeatures) -> None:
    here, there = features(scene())[0], features(scene(shift=(50.0, -30.0)))[0]
    moved = torch.tensor([50.0, -30.0]) / 256.0
    torch.testing.assert_close(there[:2] - here[:2], moved, atol=1e-5, rtol=0)
    torch.testing.assert_close(there[2:4] - here[2:4], moved, atol=1e-5, rtol=0)
    torch.testing.assert_close(there[4:], here[4:], atol=1e-5, rtol=1e-5)


def test_the_blocks_frame_turns_with_the_scene(features: PushTReachFeatures) -> None:
    here, there = features(scene())[0], features(scene(turn=2.0))[0]
    # Angle to go, displacements from the block (5 x 2), the goal's agent, and distance from the success test.
    blind = [8, 9, *range(20, 32), *range(36, 40)]
    torch.testing.assert_close(there[blind], here[blind], atol=1e-5, rtol=1e-5)
    assert torch.linalg.vector_norm(there[10:20] - here[10:20]) > 1.0
    # The angle to go is 0.5 rad, the position error sqrt(30^2 + 20^2 + 15^2 + 25^2) px.
    assert here[39].item() == pytest.approx(0.5, abs=1e-5)
    assert here[37].item() == pytest.approx(math.tanh(math.sqrt(2150.0) / 20.0 - 1.0), abs=1e-5)


def test_at_the_goal_nothing_is_left_to_do(features: PushTReachFeatures) -> None:
    observation = scene()
    observation["desired_goal"] = observation["achieved_goal"]
    there = features(observation)[0]
    torch.testing.assert_close(there[32:37], torch.zeros(5), atol=1e-6, rtol=0)
    assert there[37].item() == pytest.approx(math.tanh(-1.0), abs=1e-6)


def test_features_of_played_episodes_are_of_order_one(features: PushTReachFeatures) -> None:
    rows = []
    with gym.make(ENV, obs_type="state") as env:
        for seed in range(5):
            observation, _ = env.reset(seed=seed)
            env.action_space.seed(seed)
            for _ in range(20):
                observation, *_ = env.step(env.action_space.sample())
                rows.append({key: np.asarray(value, np.float32) for key, value in observation.items()})
    batch = {key: torch.tensor(np.stack([row[key] for row in rows])) for key in rows[0]}
    values = features(batch)
    assert values.shape == (100, features.features_dim)
    assert values.isfinite().all()
    assert values.abs().max() < 8.0
    assert values.std(dim=0).min() > 1e-3


def test_other_observations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected observation \(7,\).*obs_type=.state."):
        PushTReachFeatures(spaces.Dict({"pixels": spaces.Box(0, 255, (64, 64, 3), np.uint8)}))


def test_the_shipped_policy_refers_to_these_features() -> None:
    """The .zip names the class by its module, and plays as it is, without a word of help."""
    shipped = Path(str(files("grasp_agent"))) / "pretrained" / "sac_her_pusht_reach" / "model.zip"
    policy = SAC.load(shipped, device="cpu")
    extractor = policy.policy.actor.features_extractor
    assert type(extractor) is PushTReachFeatures
    with gym.make(ENV, obs_type="state") as env:
        solved = []
        for seed in range(5):
            observation, info = env.reset(seed=seed)
            reached = truncated = False
            while not (reached or truncated):
                observation, _, _, truncated, info = env.step(policy.predict(observation, deterministic=True)[0])
                reached = info["is_success"]
            solved.append(reached)
    assert sum(solved) >= 3  # 86 % of 100 others


def test_the_environments_need_no_learning_library() -> None:
    code = "import sys, grasp_envs; print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stdout + run.stderr
