"""The settings of a `VectorModel`."""

from __future__ import annotations

from dataclasses import dataclass

from grasp_agent.core.checks import at_least, fraction, positive


@dataclass(frozen=True)
class VectorConfig:
    """Everything needed to rebuild a `VectorModel`, saved as config.json beside its weights.

    Attributes:
        size: D, numbers in an observation.
        action_dim: numbers in one environment action.
        goal_size: how many of the last numbers goals are about; 0 means all of them.
        history: h, observations the dynamics reads.
        action_scale: the action magnitude that counts as 1 inside, in environment units.
        hidden: width of the dynamics network.
        depth: its hidden layers.
        proposal_hidden: width of the network that proposes plans; 0 means that the model makes no proposals.
        proposal_depth: its residual blocks.
        proposal_steps: environment steps of a proposed plan.
        outcome_hidden: width of the networks that tell rewards; 0 means that the model foresees none.
        look_ahead: environment steps that plans should span.
        distance_hidden: width of the network that tells how many steps lie between states; 0 means that there is none.
        discount: what a reward one step later is worth.

    Raises:
        ValueError: a size is out of range.
    """

    size: int
    action_dim: int
    goal_size: int = 0
    history: int = 1
    action_scale: float = 1.0
    hidden: int = 256
    depth: int = 3
    proposal_hidden: int = 0
    proposal_depth: int = 3
    proposal_steps: int = 25
    look_ahead: int = 25
    distance_hidden: int = 0
    outcome_hidden: int = 0
    discount: float = 0.99

    def __post_init__(self) -> None:
        at_least(
            self,
            1,
            "size",
            "action_dim",
            "history",
            "hidden",
            "depth",
            "proposal_depth",
            "proposal_steps",
            "look_ahead",
        )
        at_least(self, 0, "goal_size", "proposal_hidden", "outcome_hidden", "distance_hidden")
        positive(self, "action_scale")
        fraction(self, "discount")
        if self.goal_size > self.size:
            raise ValueError(f"goal_size: expected at most size ({self.size}), got {self.goal_size}")

    @property
    def distance_weights(self) -> tuple[float, ...] | None:
        """Weight of every number in the distance to a goal: only those that goals are about."""
        if not self.goal_size:
            return None
        return (0.0,) * (self.size - self.goal_size) + (1.0,) * self.goal_size
