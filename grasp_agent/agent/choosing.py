"""Planning over choices: numbers that gradients can move, and of which the model only ever sees legal choices.

A plan holds a number p_i in [0, 1] for each way i of a choice. The model is shown the choice itself:

    forward     one-hot(argmax_i p_i)
    backward    as if it were softmax(p / temperature), a straight-through estimator (Bengio et al., arXiv 1308.3432)

So the true cost of a plan is the cost of what will be executed, and every solver works as it is: sampling solvers draw
the numbers, gradient solvers move them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.core.capabilities import Proposing, proposes
from grasp_agent.core.types import Observation, WorldModel

TEMPERATURE = 0.3
"""How far apart, on the scale 0 to 1, the numbers of two ways are that the gradient tells apart clearly."""


class ChoosingModel(nn.Module):
    """A world model whose actions are choices, as planners see it.

    Args:
        model: takes one-hot actions, [N, h, A] with A = sum(choices) * k.
        choices: ways of each choice of an environment action.
    """

    def __init__(self, model: WorldModel, choices: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.choices = model, choices
        self.state_shape, self.history = model.state_shape, model.history
        self.action_dim, self.action_block = model.action_dim, model.action_block
        self.proposes = proposes(model)

    def encode(self, obs: Observation) -> Tensor:
        return self.model.encode(obs)

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """As the model, for numbers that stand for choices."""
        return self.model.predict(states, self.legal(actions))

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """As the model; see `grasp_agent.core.capabilities.Proposing`."""
        assert isinstance(self.model, Proposing)
        return self.model.propose(states, past_actions, goal, noise)

    def legal(self, actions: Tensor) -> Tensor:
        """Numbers [..., A] -> one-hot choices of the same shape, with the gradient of a softmax."""
        parts = actions.unflatten(-1, (-1, self.action_dim)).split(self.choices, dim=-1)
        return torch.cat([_one_hot(part) for part in parts], dim=-1).flatten(-2)


def _one_hot(part: Tensor) -> Tensor:
    soft = torch.softmax(part / TEMPERATURE, dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, part.argmax(dim=-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())
