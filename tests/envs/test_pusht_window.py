"""render_mode="human", on SDL's dummy screen."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import grasp_envs  # noqa: F401

pytest.importorskip("pygame", reason="the window's library is an extra")


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.parametrize("name", ["PushT-v0", "PushTReach-v0"])
def test_the_window_shows_what_rgb_array_returns_and_pixels_still_arrive(name):
    import pygame

    arguments = {"obs_type": "pixels", "visualization_size": 80}
    window = gym.make(f"grasp_envs/{name}", render_mode="human", **arguments)
    array = gym.make(f"grasp_envs/{name}", render_mode="rgb_array", **arguments)
    try:
        for env in (window, array):
            env.reset(seed=0)
            observation, *_ = env.step(np.array([0.5, 0.5], np.float32))
            assert env.observation_space.contains(observation)
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
        np.testing.assert_array_equal(shown, array.render())
        assert window.render() is None
    finally:
        window.close()
        array.close()
    window.close()
    assert pygame.display.get_surface() is None


@pytest.mark.parametrize("name", ["PushT-v0", "PushTReach-v0"])
def test_gymnasium_check_passes_with_every_render_mode(name):
    check_env(gym.make(f"grasp_envs/{name}", render_mode="human", disable_env_checker=True).unwrapped)


def test_no_screen_is_one_clear_sentence(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    env = gym.make("grasp_envs/PushT-v0", render_mode="human")
    with pytest.raises(RuntimeError, match=r'expected a screen.*try render_mode="rgb_array"'):
        env.reset(seed=0)
    env.close()
