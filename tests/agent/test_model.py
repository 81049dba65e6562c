"""The world model in the agent's hands: evaluation mode, gradients, and torch's inference mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from closed_loop import SQUARE, make_agent, vector
from dot_world import DotModel, draw
from torch import nn

from grasp_agent.agent.agent import GRASPAgent, MPCAgent
from grasp_agent.agent.model import made_ready
from grasp_agent.core.types import Budget
from grasp_agent.models import LatentWorldModel, WorldModelConfig, save_pretrained
from grasp_agent.planning import GRASP


def test_plans_alike_under_no_grad_and_inference_mode_and_leaves_no_gradients() -> None:
    agent, observation = make_agent(DotModel(pixels=False)), vector(0.5)
    expected, _ = agent.predict(observation)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            actions, inside = agent.predict(observation)
        np.testing.assert_array_equal(actions, expected)
        agent.predict(observation, inside)
    parameter = agent.world_model.speed
    assert parameter.grad is None
    assert parameter.requires_grad


def weighted(model: DotModel) -> DotModel:
    model.distance_weights = (1.0, 0.5)
    return model


@pytest.mark.parametrize("model_too", [False, True], ids=["agent", "model and agent"])
@pytest.mark.parametrize("planner", [GRASP(), None], ids=["grasp", "gd"])
def test_an_agent_built_in_inference_mode_works_inside_and_outside(model_too: bool, planner: GRASP | None) -> None:
    options = {} if planner is None else {"planner": planner}

    def build(make_model: Callable[[], DotModel]) -> MPCAgent:
        return make_agent(make_model(), budget=Budget(iterations=3), **options)

    ordinary = weighted(DotModel(history=2, pixels=False))
    observations = [vector(0.5, 0.2), vector(0.4, 0.3), vector(0.3, 0.4)]

    def play(agent: MPCAgent, inside: tuple[bool, ...]) -> np.ndarray:
        state, actions = None, []
        for observation, mode in zip(observations, inside, strict=True):
            with torch.inference_mode(mode):
                action, state = agent.predict(observation, state)
            actions.append(action)
        return np.stack(actions)

    expected = play(build(lambda: ordinary), (False, False, False))
    with torch.inference_mode():
        agent = build(lambda: weighted(DotModel(history=2, pixels=False)) if model_too else ordinary)
        begun = agent.predict(observations[0])[1]
    for inside in ((True, True, True), (False, False, False), (True, False, True), (False, True, False)):
        np.testing.assert_allclose(play(agent, inside), expected, atol=1e-6)
    np.testing.assert_allclose(agent.predict(observations[1], begun)[0], expected[1], atol=1e-6)


def test_a_saved_model_may_be_loaded_in_inference_mode(tmp_path: Path) -> None:
    config = WorldModelConfig(image_size=16, state_size=4, history=2, encoder_channels=4, decoder_channels=0)
    save_pretrained(LatentWorldModel(config), tmp_path / "model")
    with torch.inference_mode():
        agent = GRASPAgent.from_pretrained(tmp_path / "model", SQUARE, horizon=3, budget=Budget(iterations=2))
    observation = {"pixels": draw(np.zeros(2)), "goal": draw(np.ones(2))}
    outside, _ = agent.predict(observation)
    with torch.inference_mode():
        inside, _ = agent.predict(observation)
    np.testing.assert_allclose(inside, outside, atol=1e-6)


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.register_buffer("scale", torch.tensor([2.0]), persistent=False)


def test_weights_made_in_inference_mode_become_ordinary_ones() -> None:
    with torch.inference_mode():
        model = Tied()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made_ready(model, None)  # type: ignore[arg-type]
    tensors = [*model.parameters(), *model.buffers()]
    assert len(tensors) == 4
    assert not any(tensor.is_inference() for tensor in tensors)
    assert model.first.weight is model.second.weight
    assert (model.first.weight.requires_grad, model.first.bias.requires_grad) == (True, False)
    assert model.scale.item() == 2.0
    assert list(model.state_dict()) == list(before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_ordinary_weights_are_left_where_they_are() -> None:
    model = DotModel().train()
    speed = model.speed
    make_agent(model)
    assert model.speed is speed
    assert not model.training


def test_problems_have_the_models_dtype_or_single_precision_without_weights() -> None:
    agent = make_agent(DotModel(pixels=False).double())
    assert agent.problem(vector(0.5)).states.dtype == torch.float64
    agent.predict(vector(0.5))

    class Plain:
        state_shape, history, action_dim, action_block = (2,), 1, 2, 1

        def encode(self, obs: torch.Tensor) -> torch.Tensor:
            return obs

        def predict(self, states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
            return states[:, -1] + 0.2 * actions[:, -1]

    agent = make_agent(Plain())
    assert agent.problem(vector(0.5)).states.dtype == torch.float32
    assert agent.predict(vector(0.5))[0].shape == (1, 2)
