"""Checks of what users hand to the environments: known answers, and one sentence for everything else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from grasp_envs.ball_nav import BallNavEnv
from grasp_envs.point_maze import PointMazeEnv
from grasp_envs.pusht_reach import PushTReachEnv
from grasp_envs.validation import as_action, as_numbers, check_choice, check_integer, check_seed, options_of
from grasp_envs.wall import WallEnv

SQUARE = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_choice("kind", np.array([1, 2]), ("a", "b")), "kind to be one of 'a', 'b', got array"),
        (lambda: check_choice("kind", ["a"], ("a",)), "kind to be one of 'a', got"),
        (lambda: check_integer("n", True, 1, 5), "n to be an integer of at least 1, got True, try 5"),
        (lambda: check_integer("n", 9, 1, 5, most=8), "n to be an integer of at most 8, got 9, try 5"),
        (lambda: check_seed(-1), "seed to be an integer of at least 0, got -1"),
        (lambda: check_seed("a"), "seed to be an integer of at least 0, got 'a'"),
        (lambda: check_seed(math.nan), "seed to be an integer of at least 0, got nan"),
        (lambda: as_numbers("state", [10**400, 1], (2,), "x, y"), "state to be numbers .*, got .1000"),
        (lambda: as_numbers("state", [1j, 1], (2,), "x, y"), "state to be numbers"),
        (lambda: as_numbers("state", ["1", "2"], (2,), "x, y"), "state to be numbers"),
        (lambda: as_numbers("state", torch.ones(2, requires_grad=True), (2,), "x, y"), "state to be numbers"),
        (lambda: as_action([1, [2, 3]], SQUARE), "an action of 2 numbers, got"),
        (lambda: as_action([True, False], SQUARE), "an action of 2 numbers, got"),
        (lambda: options_of(5), "options to be a dictionary, got 5"),  # type: ignore[arg-type]
        (lambda: options_of({1: 2, "a": 3}), r"options among .*, got .1, 'a'."),  # type: ignore[dict-item]
        (lambda: WallEnv(door=True), "door, .*, to be a number within .*, got True"),
        (lambda: PointMazeEnv(frame_skip=10**9), "frame_skip to be an integer of at most 1000"),
        (lambda: PushTReachEnv(goal_horizon=10**9), "goal_horizon to be an integer of at most 10000"),
        (lambda: BallNavEnv(resolution=10**9), "resolution to be an integer of at most 4096"),
        (lambda: BallNavEnv().make_expert("a"), "seed to be an integer of at least 0"),  # type: ignore[arg-type]
    ],
)
def test_refusals(check: Any, message: str) -> None:
    with pytest.raises(ValueError, match="expected " + message) as caught:
        check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", [0, 2**31, 2**63, 2**64 + 5, 10**30, np.int64(7)])
def test_seeds_of_any_size(seed: Any) -> None:
    env = BallNavEnv()
    first, again = (env.reset(seed=seed)[0]["observation"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, env.reset(seed=int(seed) + 1)[0]["observation"])
