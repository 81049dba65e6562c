"""The settings of a `LatentWorldModel`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from grasp_agent.models.latent.layout import LAYOUTS

_MAY_BE_ZERO = ("decoder_channels", "proposal_hidden")


@dataclass(frozen=True)
class WorldModelConfig:
    """Everything needed to rebuild a `LatentWorldModel`, saved as config.json beside its weights.

    Attributes:
        image_size: height and width of the frames it reads, a multiple of 8.
        layout: what a latent is, by the name of a `Layout`. "free": `state_size` numbers without prescribed meaning.
            "planar_push": the pose of a pusher and a body (see `models/planar_push`).
        state_size: numbers in a latent.
        history: h, frames the dynamics reads.
        action_dim: numbers in one environment action.
        action_block: k, environment steps per model step.
        action_scale: the action magnitude that counts as 1 inside the dynamics, in environment units.
        action_limit: largest number in an action that the training data cover, in environment units; agents
            plan within it. None means the environment's own bounds.
        distance_weights: what of a goal matters: weight of every latent number in the distance that an agent minimises
            unless it is given an objective; None weighs all alike.
        length: typical distance in latent units, for layouts with positions.
        radius: length of the vector that an angle becomes, in latent units, for layouts with angles.
        encoder_channels: channels of the encoder's first scale.
        encoder_keypoints: keypoints of its spatial softmax.
        encoder_hidden: width of its head.
        dynamics_hidden: width of the dynamics network.
        dynamics_depth: its hidden layers.
        decoder_channels: channels of the decoder's last scale; 0 means no decoder.
        proposal_hidden: width of the network that proposes plans; 0 means that the model makes no proposals.
        proposal_depth: its residual blocks.
        proposal_steps: environment steps of a proposed plan.

    Raises:
        ValueError: a size is out of range or does not suit the layout.
    """

    image_size: int = 64
    layout: str = "free"
    state_size: int = 32
    history: int = 3
    action_dim: int = 2
    action_block: int = 1
    action_scale: float = 1.0
    action_limit: float | None = None
    distance_weights: tuple[float, ...] | None = None
    length: float = 5.0
    radius: float = 1.0
    encoder_channels: int = 16
    encoder_keypoints: int = 32
    encoder_hidden: int = 256
    dynamics_hidden: int = 384
    dynamics_depth: int = 3
    decoder_channels: int = 16
    proposal_hidden: int = 0
    proposal_depth: int = 3
    proposal_steps: int = 25

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout: expected {' or '.join(map(repr, LAYOUTS))}, got {self.layout!r}")
        for name in (field.name for field in fields(self) if field.type in ("int", "float")):
            value, least = getattr(self, name), 0 if name in _MAY_BE_ZERO else 1
            if value < 0 or (value == 0 and least):
                raise ValueError(
                    f"{name}: expected a {'positive number' if least else 'number from 0 up'}, got {value}"
                )
        if self.action_limit is not None and self.action_limit <= 0:
            raise ValueError(f"action_limit: expected a positive number or None, got {self.action_limit}")
        if self.distance_weights is not None:
            object.__setattr__(self, "distance_weights", tuple(self.distance_weights))  # a list, where it was saved
            if len(self.distance_weights) != self.state_size:
                raise ValueError(
                    f"distance_weights: expected {self.state_size} numbers, one per number of the latent, got"
                    f" {len(self.distance_weights)}"
                )
        LAYOUTS[self.layout].check(self)
