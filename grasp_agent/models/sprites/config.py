"""The settings of a `SpritesModel`, and how its latents are laid out."""

from __future__ import annotations

from dataclasses import dataclass, fields

from grasp_agent.core.checks import at_least, fraction, positive, positive_or_none

UNITS = 12.5
"""Latent units in half a picture: places are measured in twenty-fifths of the picture's side."""

MAY_BE_ZERO = ("proposal_hidden", "distance_hidden", "outcome_hidden")


@dataclass(frozen=True)
class Sprite:
    """One rigid thing in the plane of the picture. Lengths are shares of half the picture's side.

    Attributes:
        radius: distance of its farthest point from its centre.
        gyration: root mean square of the distances of its points from its centre: a turn by one radian moves its points
            as far, in the root mean square, as a shift by this length.
        area: share of the picture that it covers.
        symmetry: how many turns, all of the same angle, leave it looking as it was: 1 for a letter T, 4 for a square;
            0 for a disk, which has no heading.

    Raises:
        ValueError: a number is out of its range.
    """

    radius: float
    gyration: float
    area: float
    symmetry: int

    def __post_init__(self) -> None:
        for name in ("radius", "gyration", "area"):
            if not 0 < getattr(self, name) <= 2:
                raise ValueError(f"Sprite.{name}: expected a number above 0 and up to 2, got {getattr(self, name)}")
        if self.symmetry < 0:
            raise ValueError(f"Sprite.symmetry: expected 0 for a disk or a number of turns, got {self.symmetry}")


@dataclass(frozen=True)
class SpritesConfig:
    """Everything needed to rebuild a `SpritesModel`, saved as config.json beside its weights.

    A latent holds the places (x to the right, y down, from the picture's centre) of all sprites, then the headings of
    those that have one, as the vector r (cos n a, sin n a) for a sprite of symmetry n that is turned by a. With r its
    radius of gyration over n, the distance between two latents of one sprite is how far its points move, in the root
    mean square.

    Attributes:
        image_size: height and width of the frames it reads.
        sprites: the things, small ones first.
        backgrounds: how many still backgrounds it knows.
        colours: channels that a picture's difference from its background is reduced to.
        history: h, frames the dynamics reads.
        action_dim: numbers in one environment action.
        action_scale: the action magnitude that counts as 1 inside, in environment units.
        action_limit: largest number in an action that the training data cover, in environment units; None: no limit.
        input_size: side of the pictures that the encoder's convolutions see, made from the frames by averaging.
        template: side of the learned picture of a sprite, in pixels of its own.
        encoder_channels: channels of the encoder's finest scale, a multiple of 4.
        dynamics_hidden: width of the dynamics networks.
        dynamics_depth: their hidden layers.
        proposal_hidden: width of the network that proposes plans; 0 means that the model makes no proposals.
        proposal_depth: its residual blocks.
        proposal_steps: environment steps of a proposed plan.
        look_ahead: environment steps that plans should span.
        distance_hidden: width of the network that tells how many steps lie between states; 0 means that there is none.
        outcome_hidden: width of the networks that tell rewards; 0 means that the model foresees none.
        discount: what a reward one step later is worth.

    Raises:
        ValueError: a size is out of range.
    """

    image_size: int
    sprites: tuple[Sprite, ...]
    backgrounds: int = 1
    colours: int = 2
    history: int = 3
    action_dim: int = 2
    action_scale: float = 1.0
    action_limit: float | None = None
    input_size: int = 32
    template: int = 24
    encoder_channels: int = 12
    dynamics_hidden: int = 256
    dynamics_depth: int = 3
    proposal_hidden: int = 0
    proposal_depth: int = 3
    proposal_steps: int = 25
    look_ahead: int = 25
    distance_hidden: int = 0
    outcome_hidden: int = 0
    discount: float = 0.99

    def __post_init__(self) -> None:
        sprites = tuple(Sprite(**sprite) if isinstance(sprite, dict) else sprite for sprite in self.sprites)
        object.__setattr__(self, "sprites", sprites)  # dictionaries, where they were saved
        if not self.sprites:
            raise ValueError("sprites: expected at least one, got none")
        at_least(self, 1, *(f.name for f in fields(self) if f.type == "int" and f.name not in MAY_BE_ZERO))
        at_least(self, 0, *MAY_BE_ZERO)
        positive(self, "action_scale")
        fraction(self, "discount")
        positive_or_none(self, "action_limit")
        if self.encoder_channels % 4:
            raise ValueError(f"encoder_channels: expected a multiple of 4, got {self.encoder_channels}")
        if self.input_size % 8:
            raise ValueError(f"input_size: expected a multiple of 8, got {self.input_size}")

    @property
    def canvas(self) -> int:
        """Side of the pictures that are explained by sprites: twice `input_size`, where the frames are so large."""
        return 2 * self.input_size if self.image_size >= 2 * self.input_size else self.input_size

    @property
    def turning(self) -> tuple[int, ...]:
        """Numbers of the sprites that have a heading."""
        return tuple(i for i, sprite in enumerate(self.sprites) if sprite.symmetry)

    @property
    def state_size(self) -> int:
        """Numbers in a latent."""
        return 2 * (len(self.sprites) + len(self.turning))

    def place(self, sprite: int) -> int:
        """Index of a sprite's x in a latent; its y is the next."""
        return 2 * sprite

    def heading(self, sprite: int) -> int:
        """Index of the first of the two numbers of a turning sprite's heading."""
        return 2 * (len(self.sprites) + self.turning.index(sprite))

    def heading_length(self, sprite: int) -> float:
        """Length of the vector that a turning sprite's heading is, in latent units."""
        return UNITS * self.sprites[sprite].gyration / self.sprites[sprite].symmetry

    @property
    def distance_weights(self) -> tuple[float, ...]:
        """Weight of every latent number in the distance to a goal: its sprite's area, that of the largest being 1.

        With them the distance says how far the points of all things must move, in the mean square: an optimal transport
        of the picture.
        """
        largest = max(sprite.area for sprite in self.sprites)
        weights = [sprite.area / largest for sprite in self.sprites]
        return tuple(w for i in (*range(len(weights)), *self.turning) for w in (weights[i], weights[i]))
