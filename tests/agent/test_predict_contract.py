"""Who can drive the agent: stable-baselines3's and gymnasium's loops, which know `predict` and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from closed_loop import make_agent, play, vector
from dot_world import ENV_ID, LIMIT, SIDE, DotEnv, DotModel, register
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordVideo
from PIL import Image, ImageSequence
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

register()


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
    assert scores[0][1] == scores[1][1]
    np.testing.assert_allclose(scores[0][0], scores[1][0], atol=1e-4)
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


# ---- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda agent, state: agent.predict(vector(0.1, 0.2), state), ValueError, "expected 1 rows .* got 2"),
        (lambda agent, state: agent.predict(vector(0.1), state, [True, False]), ValueError, "1 flags.* got 2"),
        (lambda agent, state: agent.predict(vector(0.1), None, [True, False]), ValueError, "1 flags.* got 2"),
        (lambda agent, state: agent.predict(vector(0.1, 0.2), None, True), ValueError, "2 flags.* got 1"),
        (lambda agent, state: agent.predict(vector(0.1), (1, 2)), TypeError, "previous predict returned.* got tuple"),
    ],
)
def test_says_what_is_wrong_with_memory(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    agent = make_agent(DotModel(pixels=False))
    _, state = agent.predict(vector(0.1))
    with pytest.raises(error, match=message):
        call(agent, state)


def test_a_refused_observation_leaves_the_episode_as_it_was() -> None:
    agent, other = (make_agent(DotModel(pixels=False)) for _ in range(2))
    for each in (agent, other):
        each.act(vector(0.5))
    with pytest.raises(ValueError, match="finite"):
        agent.act(vector(np.nan))
    np.testing.assert_array_equal(agent.act(vector(0.4)), other.act(vector(0.4)))


def test_without_memory_every_observation_begins_an_episode() -> None:
    agent = make_agent(DotModel(pixels=False))
    first, _ = agent.predict(vector(0.5), None, [False])
    _, state = agent.predict(vector(0.9))
    again, _ = agent.predict(vector(0.5), state, True)
    np.testing.assert_array_equal(first, again)


def test_reset_forgets_the_episode() -> None:
    agent = make_agent(DotModel(pixels=False))
    first = agent.act(vector(0.5))
    assert not np.array_equal(agent.act(vector(0.5)), first)  # the plan is better by now
    agent.reset()
    np.testing.assert_array_equal(agent.act(vector(0.5)), first)
