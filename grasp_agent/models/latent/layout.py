"""What the numbers of a vector latent mean, and the networks that make use of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from grasp_agent.models.latent.dynamics import MLPDynamics
from grasp_agent.models.proposals.flow import Context, WindowContext

if TYPE_CHECKING:
    from grasp_agent.models.latent.config import WorldModelConfig


class Layout:
    """A way to build a `LatentWorldModel` around its latent: here "free", D numbers without prescribed meaning.

    Attributes:
        driven: which numbers are of what the actions move themselves (see `grasp_agent.core.capabilities.Driven`).
    """

    driven: tuple[bool, ...] | None = None

    def check(self, config: WorldModelConfig) -> None:
        """Raise a ValueError if the sizes do not suit the layout."""

    def scale(self, config: WorldModelConfig) -> float:
        """Size of a typical latent number; the decoder reads latents divided by it."""
        return 1.0

    def latents(self, features: Tensor, config: WorldModelConfig) -> Tensor:
        """Latents from what the encoder's last layer says, [B, D] -> [B, D]."""
        return features

    def dynamics(self, config: WorldModelConfig) -> nn.Module:
        """Maps states [N, h, D] and actions [N, h, A], in environment units, to the next state [N, D]."""
        return MLPDynamics(
            config.state_size,
            config.action_dim * config.action_block,
            config.history,
            config.dynamics_hidden,
            config.dynamics_depth,
            config.action_scale,
        )

    def context(self, config: WorldModelConfig) -> Context:
        """What proposals are conditioned on."""
        return WindowContext(
            config.state_size, config.action_dim, config.action_block, config.history, config.action_scale
        )

    def random_symmetry(self, states: Tensor, actions: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Change each row by a random symmetry of the world; none is known unless a layout tells one.

        Args:
            states: latents [B, W, D].
            actions: environment actions, [B, W', action_dim].
            generator: draws the symmetry.

        Returns:
            States and actions that are as true to the world as those given, of the same shapes.
        """
        return states, actions


class StateLayout(Layout, ABC):
    """Latents that hold the simulator's state in units of their own (a `grasp_agent.core.capabilities.Readout`).

    With simulator states in the data, an encoder can be taught such latents, and errors be told in physical units.

    Attributes:
        state_numbers: how many numbers of a simulator state are read, from the first on.
    """

    state_numbers: int

    @abstractmethod
    def model_config(self) -> WorldModelConfig:
        """Settings of a world model with this layout."""

    @abstractmethod
    def latents_of_states(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        """Simulator states [..., state_numbers or more] -> latents [..., D]."""

    @abstractmethod
    def errors(self, latents: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Errors between latents [..., D] by name and unit, as "body_px", each [...]."""

    @abstractmethod
    def reaches(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Whether latents [..., D] meet the task's test of success for the goals [..., D], as booleans [...]."""

    @abstractmethod
    def positions(self, latents: Tensor) -> dict[str, Tensor]:
        """Where things are, by name, in the simulator's units: latents [..., D] -> places [..., 2]."""


LAYOUTS: dict[str, Layout] = {"free": Layout()}
"""Every known layout by its name in config.json."""


def register_layout(name: str, layout: Layout) -> None:
    """Make a layout known by its name, for `WorldModelConfig(layout=name)`."""
    LAYOUTS[name] = layout
