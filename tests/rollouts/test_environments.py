"""Making environments by name, and what is said where that fails."""

from __future__ import annotations

import pytest

from grasp_agent.rollouts.environments import make_env


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("PointMaze_UMaze-v3", "doesn't exist; if a package of its own registers it, name that too, as in PACKAGE:Poi"),
        ("nowhere/X-v0", "; if a package of its own registers it, name that too, as in PACKAGE:nowhere/X-v0"),
        ("CartPol-v1", r"Did you mean: `CartPole`\?$"),
        ("no_such_module:X-v0", "; what stands before the colon must be a module that is installed or lies in the"),
    ],
)
def test_an_unknown_environment_is_told_with_what_to_try(env_id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id)
