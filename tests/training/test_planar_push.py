"""Poses as latents: known answers, and symmetries checked against the simulator."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from grasp_agent.models.planar_push import CENTRE, RADIUS, UNIT, latents_of_states, pose_errors
from grasp_agent.training.planar_push import random_symmetry


def test_latents_are_counted_in_tolerances_from_the_centre() -> None:
    states = np.array(
        [
            [CENTRE, CENTRE, CENTRE, CENTRE, 0.0, 9.0, 9.0],  # velocities do not count
            [CENTRE + 20, CENTRE, CENTRE, CENTRE - 40, math.pi / 2, 0.0, 0.0],
            [CENTRE, CENTRE, CENTRE, CENTRE, math.pi / 9 - 4 * math.pi, 0.0, 0.0],
        ]
    )
    latents = latents_of_states(states)
    assert latents.dtype == np.float32 and latents.shape == (3, 6)
    np.testing.assert_allclose(latents[0], [0, 0, 0, 0, RADIUS, 0], atol=1e-6)
    np.testing.assert_allclose(latents[1], [1, 0, 0, -2, 0, RADIUS], atol=1e-6)
    # The task's tolerances, 20 px and pi / 9, are the distance 1 each (along the chord: 0.995).
    assert np.linalg.norm(latents[2] - latents[0]) == pytest.approx(2 * RADIUS * math.sin(math.pi / 18), abs=1e-5)
    assert np.linalg.norm(latents[2] - latents[0]) == pytest.approx(1.0, abs=0.01)
    assert np.array_equal(latents_of_states(states[:, None])[:, 0], latents)


def test_pose_errors_are_pixels_and_degrees() -> None:
    start = np.array([100.0, 200.0, 300.0, 400.0, math.radians(175)])
    moved = start + np.array([3.0, 4.0, -6.0, 8.0, math.radians(20)])  # across the angle's seam
    a, b = (torch.from_numpy(latents_of_states(x[None])) for x in (start, moved))
    errors = {name: float(error) for name, error in pose_errors(a, b).items()}
    assert errors == pytest.approx({"pusher_px": 5.0, "body_px": 10.0, "body_deg": 20.0}, abs=1e-3)
    # Predicted headings need not have length rho.
    assert float(pose_errors(a * 0.5, b)["body_deg"]) == pytest.approx(20.0, abs=1e-3)


def states_of(latents: np.ndarray) -> np.ndarray:
    return np.append(latents[:4] * UNIT + CENTRE, math.atan2(latents[5], latents[4]))


@pytest.mark.parametrize(
    ("start", "actions"),
    [
        # Into the block from the side, off its centre, then along it.
        ([180.0, 260.0, 256.0, 240.0, 0.4], [[0.3, 0.0]] * 8 + [[0.1, 0.3]] * 8),
        # The block is pushed into a wall.
        ([200.0, 150.0, 90.0, 160.0, 1.2], [[-0.3, 0.05]] * 12 + [[0.2, 0.2]] * 4),
    ],
)
def test_symmetries_are_those_of_the_simulator(start: list[float], actions: list[list[float]]) -> None:
    env = gym.make("grasp_envs:grasp_envs/PushT-v0", obs_type="state")
    env.reset(seed=0)

    def play(state: np.ndarray, steps: np.ndarray) -> np.ndarray:
        env.unwrapped.set_state(state)  # type: ignore[attr-defined]
        path = [env.unwrapped.get_state()]  # type: ignore[attr-defined]
        for step in steps:
            env.step(step.astype(np.float32))
            path.append(env.unwrapped.get_state())  # type: ignore[attr-defined]
        return latents_of_states(np.array(path))

    steps = np.array(actions)
    path = play(np.array(start), steps)
    assert np.abs(path[-1, 2:4] - path[0, 2:4]).max() * UNIT > 20, "the block was hardly pushed"
    rows = 64
    moved, moved_steps = random_symmetry(
        torch.from_numpy(path).expand(rows, -1, -1),
        torch.from_numpy(steps).float().expand(rows, -1, -1),
        np.random.default_rng(0),
    )
    _, first = np.unique(moved[:, 0].numpy().round(3), axis=0, return_index=True)
    assert len(first) == 8, "four turns, each mirrored and not"
    for row in first:
        again = play(states_of(moved[row, 0].double().numpy()), moved_steps[row].numpy())
        errors = pose_errors(torch.from_numpy(again), moved[row])
        assert all(float(error.max()) < 0.05 for error in errors.values()), errors
    env.close()


def test_every_row_draws_its_own_symmetry() -> None:
    states, actions = torch.randn(200, 4, 6), torch.randn(200, 3, 2)
    moved, moved_actions = random_symmetry(states, actions, np.random.default_rng(1))
    for a, b in ((states[..., 0:2], moved[..., 0:2]), (states[..., 4:6], moved[..., 4:6]), (actions, moved_actions)):
        torch.testing.assert_close(a.norm(dim=-1), b.norm(dim=-1))
    unchanged = (moved - states).abs().flatten(1).max(1).values < 1e-5
    assert 10 < int(unchanged.sum()) < 45  # one in eight
    same, _ = random_symmetry(states, actions, np.random.default_rng(1))
    assert torch.equal(same, moved)
