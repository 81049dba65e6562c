"""The settings of a `JointEmbeddingModel`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from grasp_agent.core.checks import fraction

ENCODERS = ("conv", "vit")
_MAY_BE_ZERO = (
    "grid", "head_channels", "dynamics_blocks", "dynamics_mixing", "decoder_channels", "proposal_hidden",
    "distance_hidden", "outcome_hidden",
)  # fmt: skip


@dataclass(frozen=True)
class JointEmbeddingConfig:
    """Everything needed to rebuild a `JointEmbeddingModel`, saved as config.json beside its weights.

    Attributes:
        image_size: height and width of the frames it reads.
        grid: cells per side of a grid latent [grid^2, state_size]; 0 for a vector latent [state_size].
        state_size: numbers in a vector latent, or in a cell.
        encoder: "conv", residual convolutions, or "vit", a vision transformer.
        encoder_width: channels of the convolutions' first scale, or width of the transformer.
        encoder_depth: residual blocks of the coarsest scale, or layers of the transformer.
        encoder_heads: attention heads of the transformer.
        patch: pixels per side of what becomes one cell, or one token of the transformer.
        head_channels: for a vector latent, channels of the convolutions that read the encoder's last maps; 0 means that
            each cell of them is read by itself.
        history: h, frames the dynamics reads.
        action_dim: numbers in one environment action.
        action_block: k, environment steps per model step.
        action_mean: of the actions in the data, `action_dim` numbers.
        action_std: deviation of the actions in the data, `action_dim` positive numbers.
        action_limit: largest number in an action that the training data cover; None means the environment's bounds.
        dynamics_hidden: width of the dynamics network, or its channels for a grid.
        dynamics_depth: its hidden layers, or residual blocks for a grid.
        dynamics_blocks: for a vector latent, residual blocks of the dynamics in place of plain hidden layers; 0 means
            that it has none.
        dynamics_mixing: for a grid, width of the dynamics' layers that read and write all cells at once; 0 means that
            it has none.
        decoder_channels: channels of the decoder's last scale; 0 means no decoder.
        proposal_hidden: width of the network that proposes plans, for vector latents; 0 means no proposals.
        proposal_depth: its residual blocks.
        proposal_steps: environment steps of a proposed plan.
        look_ahead: environment steps that plans should span.
        distance_hidden: width of the network that tells how many steps lie between states; 0 means that there is none.
        outcome_hidden: width of the networks that tell rewards; 0 means that the model foresees none.
        discount: what a reward one step later is worth.

    Raises:
        ValueError: a size is out of range, or sizes do not fit each other.
    """

    image_size: int = 64
    grid: int = 0
    state_size: int = 128
    encoder: str = "conv"
    encoder_width: int = 32
    encoder_depth: int = 2
    encoder_heads: int = 3
    patch: int = 8
    head_channels: int = 0
    history: int = 3
    action_dim: int = 2
    action_block: int = 5
    action_mean: tuple[float, ...] = (0.0, 0.0)
    action_std: tuple[float, ...] = (1.0, 1.0)
    action_limit: float | None = None
    dynamics_hidden: int = 512
    dynamics_depth: int = 3
    dynamics_blocks: int = 0
    dynamics_mixing: int = 0
    decoder_channels: int = 16
    proposal_hidden: int = 0
    proposal_depth: int = 3
    proposal_steps: int = 25
    look_ahead: int = 25
    distance_hidden: int = 0
    outcome_hidden: int = 0
    discount: float = 0.99

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder: expected {' or '.join(map(repr, ENCODERS))}, got {self.encoder!r}")
        for name in (field.name for field in fields(self) if field.type == "int"):
            value, least = getattr(self, name), 0 if name in _MAY_BE_ZERO else 1
            if value < least:
                raise ValueError(f"{name}: expected {least} or more, got {value}")
        for name in ("action_mean", "action_std"):
            numbers = tuple(float(x) for x in getattr(self, name))
            object.__setattr__(self, name, numbers)  # a list, where it was saved
            if len(numbers) != self.action_dim or not all(math.isfinite(x) for x in numbers):
                raise ValueError(f"{name}: expected {self.action_dim} finite numbers, got {numbers}")
        if min(self.action_std) <= 0:
            raise ValueError(f"action_std: expected positive numbers, got {self.action_std}")
        if self.action_limit is not None and not self.action_limit > 0:
            raise ValueError(f"action_limit: expected a positive number or None, got {self.action_limit}")
        if not self.grid and self.image_size % self.patch:
            raise ValueError(f"image_size: expected a multiple of patch ({self.patch}), got {self.image_size}")
        if self.encoder == "conv" and (self.patch & (self.patch - 1) or self.patch < 4):
            raise ValueError(f"patch: expected a power of two from 4 up for encoder 'conv', got {self.patch}")
        if self.encoder == "vit" and self.encoder_width % self.encoder_heads:
            raise ValueError(
                f"encoder_width: expected a multiple of encoder_heads ({self.encoder_heads}), got {self.encoder_width}"
            )
        fraction(self, "discount")
        if self.grid and self.proposal_hidden:
            raise ValueError("proposal_hidden: expected 0 for a grid latent, whose plans nothing proposes")
        if self.head_channels and (self.grid or self.head_channels % 2):
            wanted = "0 for a grid latent, whose cells are the maps" if self.grid else "an even number"
            raise ValueError(f"head_channels: expected {wanted}, got {self.head_channels}")
        if self.dynamics_blocks and self.grid:
            raise ValueError("dynamics_blocks: expected 0 for a grid latent, whose dynamics are convolutions")
        if self.dynamics_mixing and not self.grid:
            raise ValueError("dynamics_mixing: expected 0 for a vector latent, which has no cells")

    @property
    def cells(self) -> int:
        """Cells per side of the encoder's coarsest maps."""
        return self.grid or self.image_size // self.patch

    @property
    def input_size(self) -> int:
        """Pixels per side that the encoder works on; frames of another size are resized."""
        return self.cells * self.patch
