"""A world model that counts what planners ask of it, and keeps its proposals to itself if so told."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import Tensor, nn

from grasp_agent.core.capabilities import action_limit_of, image_size_of, proposes, proprio_dim_of
from grasp_agent.core.types import Observation, WorldModel


class CountingModel(nn.Module):
    """Wraps a model that reads images.

    What the model predicts in order to propose counts as well; the network that proposes does not.

    Args:
        model: what to count.
        proposals: whether its proposals are offered.

    Attributes:
        calls: of `predict` so far.
        rows: single predictions so far.
    """

    def __init__(self, model: WorldModel, proposals: bool = True) -> None:
        super().__init__()
        # A copy that shares all weights: its own calls of predict, while it proposes, come here too.
        self.model: Any = copy.copy(cast(Any, model))
        self.model.predict = self.predict
        self._predict = model.predict
        self.state_shape, self.history = model.state_shape, model.history
        self.action_dim, self.action_block = model.action_dim, model.action_block
        self.image_size = image_size_of(model)
        self.action_limit = action_limit_of(model)
        self.proprio_dim = proprio_dim_of(model)
        self.proposes = proposals and proposes(model)
        self.calls = self.rows = 0

    def encode(self, obs: Observation) -> Tensor:
        return self.model.encode(obs)  # type: ignore[no-any-return]

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        self.calls += 1
        self.rows += len(states)
        return self._predict(states, actions)

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        return self.model.propose(states, past_actions, goal, noise)  # type: ignore[no-any-return]
