"""What every environment of this package is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC, HerReplayBuffer


def equal(first: Any, second: Any) -> bool:
    """Whether two observations are the same, number by number."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    return bool(np.array_equal(first, second))


def check_that_the_seed_decides_everything(make: Callable[[], gym.Env[Any, Any]]) -> None:
    """Resets with a seed, random steps and a reset without: the same for one seed, another for another."""

    def rollout(seed: int) -> list[Any]:
        env = make()
        env.action_space.seed(1)
        trace = [env.reset(seed=seed)[0]]
        trace += [env.step(env.action_space.sample())[0] for _ in range(3)]
        trace.append(env.reset()[0])
        return trace

    first, again, other = rollout(7), rollout(7), rollout(8)
    assert all(map(equal, first, again))
    assert not equal(first[0], other[0]) and not equal(first[0], first[-1])


def check_that_hindsight_replay_relabels(env: gym.Env[Any, Any]) -> SAC:
    """Relabelled with goals reached later, transitions succeed that never did as they happened.

    Returns:
        The learner, after its few steps.
    """
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
        policy_kwargs={"net_arch": [16]},
        learning_starts=30,
        buffer_size=200,
        batch_size=64,
        seed=0,
        device="cpu",
    )
    model.learn(60)
    buffer = model.replay_buffer
    assert isinstance(buffer, HerReplayBuffer)
    assert set(np.unique(buffer.sample(64).rewards.numpy())) == {-1.0, 0.0}
    return model
