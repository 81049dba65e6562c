"""Push-T under stable-baselines3: its checker, and hindsight replay on the goal dictionary."""

import gymnasium as gym
import pytest
from env_checks import check_that_hindsight_replay_relabels
from stable_baselines3.common.env_checker import check_env

import grasp_envs  # noqa: F401


def make(name, **arguments):
    return gym.make(f"grasp_envs/{name}", disable_env_checker=True, **arguments).unwrapped


@pytest.mark.parametrize("obs_type", ["state", "environment_state_agent_pos", "pixels", "pixels_agent_pos"])
@pytest.mark.parametrize("name", ["PushT-v0", "PushTReach-v0"])
def test_check_passes_without_a_warning(name, obs_type):
    check_env(make(name, obs_type=obs_type, render_mode="rgb_array"), skip_render_check=False)


@pytest.mark.parametrize("arguments", [{"reward_type": "dense"}, {"goal_horizon": 10}])
def test_check_passes_for_the_other_arguments(arguments):
    check_env(make("PushTReach-v0", **arguments))


@pytest.mark.parametrize("name", ["PushT-v0", "PushTReach-v0"])
def test_absolute_control_draws_only_the_remark_about_its_range(name):
    with pytest.warns(UserWarning) as caught:
        check_env(make(name, control="absolute"))
    assert len(caught) == 1 and "symmetric and normalized Box action space" in str(caught[0].message)


def test_hindsight_replay_runs_and_relabels():
    env = gym.make("grasp_envs/PushTReach-v0", goal_horizon=5)
    model = check_that_hindsight_replay_relabels(env)
    action, _ = model.predict(env.reset(seed=1)[0], deterministic=True)
    assert env.action_space.contains(action)
