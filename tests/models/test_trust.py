"""How far a model is to be believed: read off the errors of its training, kept with it, told by the agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny_model import TINY

from grasp_agent import MPCAgent, load_world_model
from grasp_agent.core.capabilities import trusted_steps_of
from grasp_agent.core.types import Budget
from grasp_agent.models import LatentWorldModel, from_pretrained, save_pretrained
from grasp_agent.models.trust import trust_sentence, trusted_steps
from grasp_agent.planning import GradientDescent


def told(**errors: Any) -> dict[str, Any]:
    return {"relative_latent_error_by_step": {step[1:]: error for step, error in errors.items()}}


@pytest.mark.parametrize(
    ("metrics", "steps"),
    [
        (told(_5=0.1, _10=0.2, _15=0.3), 10),
        (told(_10=0.2, _5=0.1, _100=0.9), 10),  # in the order of numbers, not of words
        (told(_5=0.1, _10=0.3, _15=0.2), 5),  # what is near again later was not near all the way
        (told(_2=0.25), 2),
        (told(_1=0.26), 0),
        (told(_1=float("nan")), 0),
        (told(), None),
        ({}, None),
        (None, None),
        (told(_one=0.1), None),
        (told(_1="near"), None),
        ({"relative_latent_error_by_step": [0.1]}, None),
    ],
)
def test_believed_until_the_error_passes_a_quarter_of_the_spread(metrics: Any, steps: int | None) -> None:
    assert trusted_steps(metrics) == steps


def test_training_says_it_in_words() -> None:
    assert trust_sentence(told(_5=0.1, _10=0.2)) == "predictions are to be believed up to 10 environment steps ahead"
    assert "not to be believed" in (trust_sentence(told(_1=2.0)) or "")
    assert trust_sentence({}) is None


@pytest.mark.parametrize(("metrics", "steps"), [(told(_1=0.1, _2=0.3), 1), ({}, None)])
def test_a_saved_model_keeps_it_and_the_agent_tells_it(metrics: Any, steps: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = from_pretrained(save_pretrained(LatentWorldModel(TINY), tmp_path / "m", {"metrics": metrics}))
    assert trusted_steps_of(model) == steps
    space = spaces.Box(-1, 1, (TINY.action_dim,), np.float32)
    agent = MPCAgent(model, space, GradientDescent(), horizon=2, budget=Budget(iterations=1))
    frame = np.zeros((TINY.image_size, TINY.image_size, 3), np.uint8)
    agent.reset()
    agent.act({"pixels": frame, "goal": frame})
    assert agent.diagnostics is not None and agent.diagnostics.trusted_steps == steps


def test_a_model_that_never_measured_it_does_not_say() -> None:
    assert trusted_steps_of(LatentWorldModel(TINY)) is None


@pytest.mark.parametrize(
    ("name", "low", "high"), [("pusht", 50, 50), ("medium-maze", 15, 25), ("umaze-vector", 15, 25)]
)
def test_shipped_models_know_theirs(name: str, low: int, high: int) -> None:
    """As docs/planning.md measures it by another statistic: Push-T to the end of its plans, mazes to about 20 steps."""
    steps = trusted_steps_of(load_world_model(name))
    assert steps is not None and low <= steps <= high
