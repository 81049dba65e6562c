"""The planar push: poses with known answers, symmetries of the simulator, and networks that keep them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_model import TINY
from torch import Tensor

from grasp_agent.core.capabilities import ReadingOut, readout_of
from grasp_agent.models import LatentWorldModel, load_world_model
from grasp_agent.models.planar_push import CENTRE, PLANAR_PUSH, RADIUS, UNIT
from grasp_agent.models.planar_push.context import PlanarPushContext


def test_latents_are_counted_in_tolerances_from_the_centre() -> None:
    states = np.array(
        [
            [CENTRE, CENTRE, CENTRE, CENTRE, 0.0, 9.0, 9.0],  # velocities do not count
            [CENTRE + 20, CENTRE, CENTRE, CENTRE - 40, math.pi / 2, 0.0, 0.0],
            [CENTRE, CENTRE, CENTRE, CENTRE, math.pi / 9 - 4 * math.pi, 0.0, 0.0],
        ]
    )
    latents = PLANAR_PUSH.latents_of_states(states)
    assert latents.dtype == np.float32 and latents.shape == (3, 6)
    np.testing.assert_allclose(latents[0], [0, 0, 0, 0, RADIUS, 0], atol=1e-6)
    np.testing.assert_allclose(latents[1], [1, 0, 0, -2, 0, RADIUS], atol=1e-6)
    # The task's tolerances, 20 px and pi / 9, are the distance 1 each (along the chord: 0.995).
    assert np.linalg.norm(latents[2] - latents[0]) == pytest.approx(2 * RADIUS * math.sin(math.pi / 18), abs=1e-5)
    assert np.linalg.norm(latents[2] - latents[0]) == pytest.approx(1.0, abs=0.01)
    assert np.array_equal(PLANAR_PUSH.latents_of_states(states[:, None])[:, 0], latents)


def test_pose_errors_are_pixels_and_degrees() -> None:
    start = np.array([100.0, 200.0, 300.0, 400.0, math.radians(175)])
    moved = start + np.array([3.0, 4.0, -6.0, 8.0, math.radians(20)])  # across the angle's seam
    a, b = (torch.from_numpy(PLANAR_PUSH.latents_of_states(x[None])) for x in (start, moved))
    errors = {name: float(error) for name, error in PLANAR_PUSH.errors(a, b).items()}
    assert errors == pytest.approx({"pusher_px": 5.0, "body_px": 10.0, "body_deg": 20.0}, abs=1e-3)
    # Predicted headings need not have length rho.
    assert float(PLANAR_PUSH.errors(a * 0.5, b)["body_deg"]) == pytest.approx(20.0, abs=1e-3)


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
        return PLANAR_PUSH.latents_of_states(np.array(path))

    steps = np.array(actions)
    path = play(np.array(start), steps)
    assert np.abs(path[-1, 2:4] - path[0, 2:4]).max() * UNIT > 20, "the block was hardly pushed"
    rows = 64
    moved, moved_steps = PLANAR_PUSH.random_symmetry(
        torch.from_numpy(path).expand(rows, -1, -1),
        torch.from_numpy(steps).float().expand(rows, -1, -1),
        np.random.default_rng(0),
    )
    _, first = np.unique(moved[:, 0].numpy().round(3), axis=0, return_index=True)
    assert len(first) == 8, "four turns, each mirrored and not"
    for row in first:
        again = play(states_of(moved[row, 0].double().numpy()), moved_steps[row].numpy())
        errors = PLANAR_PUSH.errors(torch.from_numpy(again), moved[row])
        assert all(float(error.max()) < 0.05 for error in errors.values()), errors
    env.close()


def test_every_row_draws_its_own_symmetry() -> None:
    states, actions = torch.randn(200, 4, 6), torch.randn(200, 3, 2)
    moved, moved_actions = PLANAR_PUSH.random_symmetry(states, actions, np.random.default_rng(1))
    for a, b in ((states[..., 0:2], moved[..., 0:2]), (states[..., 4:6], moved[..., 4:6]), (actions, moved_actions)):
        torch.testing.assert_close(a.norm(dim=-1), b.norm(dim=-1))
    unchanged = (moved - states).abs().flatten(1).max(1).values < 1e-5
    assert 10 < int(unchanged.sum()) < 45  # one in eight
    same, _ = PLANAR_PUSH.random_symmetry(states, actions, np.random.default_rng(1))
    assert torch.equal(same, moved)


def test_things_are_where_the_simulator_says() -> None:
    states = np.array([[100.0, 200.0, 300.0, 400.0, 1.0]])
    places = PLANAR_PUSH.positions(torch.from_numpy(PLANAR_PUSH.latents_of_states(states)))
    assert list(places) == ["pusher", "body"]
    torch.testing.assert_close(places["pusher"], torch.tensor([[100.0, 200.0]]), rtol=0, atol=1e-3)
    torch.testing.assert_close(places["body"], torch.tensor([[300.0, 400.0]]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ([0.0, 0.0, 0.0, 0.0, 0.0], True),
        ([19.0, 0.0, 0.0, 0.0, 0.0], True),
        ([0.0, 0.0, 0.0, 21.0, 0.0], False),
        ([15.0, 0.0, 0.0, 15.0, 0.0], False),  # the norm of all four counts
        ([0.0, 0.0, 0.0, 0.0, 19.0], True),
        ([0.0, 0.0, 0.0, 0.0, -21.0], False),
    ],
)
def test_a_goal_is_reached_within_the_tasks_tolerances(change: list[float], reached: bool) -> None:
    goal = np.array([100.0, 200.0, 300.0, 400.0, 3.0])
    states = goal + np.array([*change[:4], math.radians(change[4])])
    latents = [torch.from_numpy(PLANAR_PUSH.latents_of_states(x[None])) for x in (states, goal)]
    assert PLANAR_PUSH.reaches(*latents).tolist() == [reached]


def test_models_of_this_layout_read_their_latents_out() -> None:
    pushing, free = tiny(), tiny(layout="free")
    assert readout_of(pushing) is PLANAR_PUSH and readout_of(free) is None
    assert isinstance(free, ReadingOut), "the ability is there, the meaning is not"


def test_the_shipped_model_has_the_layouts_settings() -> None:
    assert load_world_model("pusht-pose").config == PLANAR_PUSH.model_config()


# ---- networks --------------------------------------------------------------------------------------------------


def tiny(**changes: Any) -> LatentWorldModel:
    torch.manual_seed(0)
    return LatentWorldModel(replace(TINY, **changes)).eval()


def test_planar_push_looks_the_same_from_every_side() -> None:
    """Turning the pusher, its history and its actions with the body turns the prediction, but for where the
    walls are."""
    model = tiny(dynamics_depth=2).double()
    model.dynamics.net[0].weight.data[:, 14:18] = 0.0  # inputs 14..17 are the place in the arena
    model.dynamics.net[0].weight.data[:, [2, 3]] = 0.0  # and its view from the body
    states = torch.randn(4, 3, 6, dtype=torch.float64)
    states[..., 4:6] = torch.nn.functional.normalize(states[..., 4:6], dim=-1) * model.config.radius
    actions = torch.randn(4, 3, 2, dtype=torch.float64)
    angle = 0.7
    turn = torch.tensor(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )  # for row vectors
    shift = torch.tensor([1.5, -0.5, 1.5, -0.5, 0.0, 0.0], dtype=torch.float64)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part @ turn for part in x.split(2, dim=-1)], -1) + shift

    expected = moved(model.predict(states, actions))
    got = model.predict(moved(states), actions @ turn)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(model.predict(states, actions), states[:, -1])


def test_heading_keeps_its_length() -> None:
    model = tiny(radius=2.5)
    frames = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    latents = model.encode(frames)
    torch.testing.assert_close(latents[:, 4:6].norm(dim=1), torch.full((4,), 2.5))
    following = model.predict(latents[:, None].expand(-1, 3, -1), torch.randn(4, 3, 2))
    torch.testing.assert_close(following[:, 4:6].norm(dim=1), torch.full((4,), 2.5))


def test_what_is_seen_turns_and_moves_with_the_body() -> None:
    place, angle = torch.randn(4, 4, 4), torch.rand(4, 4) * 2 * math.pi
    states = torch.cat([place, angle.cos().unsqueeze(2), angle.sin().unsqueeze(2)], dim=2)
    states, past, goal = states[:, :3], torch.randn(4, 2, 2), states[:, 3]
    context = PlanarPushContext(history=3, radius=1.0, length=5.0, action_scale=0.3)
    shown = torch.ones(4, 1)
    features, turn = context(states, past, goal, shown)
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # row vectors

    def turned(x: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, 2)) @ quarter).flatten(-2)

    seen, turn_too = context(turned(states), turned(past), turned(goal), shown)
    absolute = slice(2 * context.vectors + 12, 2 * context.vectors + 16)  # the walls do not turn
    same = torch.ones(context.size, dtype=torch.bool)
    same[absolute] = False
    assert features.shape == (4, context.size)
    torch.testing.assert_close(seen[:, same], features[:, same])
    action = torch.randn(4, 1, 2)
    torch.testing.assert_close(torch.bmm(action @ quarter, turn_too), torch.bmm(action, turn))
