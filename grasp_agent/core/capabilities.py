"""What world models may offer beyond `WorldModel`, and objectives beyond `Objective`: one small protocol per ability.

`isinstance(model, Picturing)` asks for an ability. Where it may also be switched off, or its value be None, there is a
function: `image_size_of(model)`, `proposes(model)` and so on. Attributes must be plain attributes or properties: from
Python 3.12 on, `isinstance` does not see what `torch.nn.Module` keeps apart, such as buffers.

Shape letters as in `grasp_agent.core.types`; `...` is any batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

from torch import Tensor

from grasp_agent.core.types import Objective, WorldModel


@runtime_checkable
class Picturing(Protocol):
    """Reads square pictures of one size."""

    image_size: int
    """Height and width of the uint8 pictures [B, image_size, image_size, 3] that `encode` takes."""


PROPRIO_KEYS = ("proprio", "agent_pos")
"""Where proprioception, such as the place of one's own hand, is in a dictionary observation."""


@runtime_checkable
class Proprioceptive(Protocol):
    """Reads proprioception beside pictures: `encode` takes {"pixels": pictures, "proprio": [B, proprio_dim]}."""

    proprio_dim: int
    """How many numbers, environment units; 0: this model reads pictures alone."""


@runtime_checkable
class Bounded(Protocol):
    """Knows how far its training data go."""

    action_limit: float | None
    """Largest absolute number in an action that the training data cover, environment units; None is no limit."""


@runtime_checkable
class Weighing(Protocol):
    """Says what of a goal matters."""

    distance_weights: Sequence[Any] | None
    """Weight of every latent number in the distance to a goal, nested as S is; None weighs all alike."""


@runtime_checkable
class Measuring(Protocol):
    """Knows how many steps lie between two states."""

    measures: bool
    """Whether this model has learned to."""

    def in_steps(self, states: Tensor) -> Tensor:
        """Latents [N, *S] as points [N, E] whose distance is how many environment steps lie between them."""
        ...


@runtime_checkable
class Driven(Protocol):
    """Says what of its latent the actions move themselves, as they do a hand, but not what it touches."""

    driven: Sequence[bool] | None
    """Whether each latent number belongs to it, shape S; None if that is not known."""


@runtime_checkable
class Decoding(Protocol):
    """Draws its latents."""

    decodes: bool
    """Whether this model has a decoder."""

    def decode(self, states: Tensor) -> Tensor:
        """Latents [B, *S] -> pictures in 0..1, [B, image_size, image_size, 3]."""
        ...


@runtime_checkable
class Proposing(Protocol):
    """Offers plans worth starting from, learned from the data that it was trained on."""

    proposes: bool
    """Whether this model has learned to."""

    def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
        """Turn noise into plausible plans towards a goal.

        Args:
            states: the last h states, [B, h, *S].
            past_actions: the h - 1 blocks between them in environment units, [B, h - 1, A].
            goal: [B, *S].
            noise: standard normal numbers, [B, N, T * k, action_dim]; each draw gives another plan.

        Returns:
            Environment actions, [B, N, T * k, action_dim], within no bounds.
        """
        ...


@runtime_checkable
class Rewarding(Protocol):
    """Foresees the rewards of the task that its data are recordings of."""

    history: int
    """How many last states outcomes are told from, as in `WorldModel`."""

    rewards: bool
    """Whether this model has learned to."""

    def outcome(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """What a step earns, and whether the episode goes on after it.

        Args:
            states: the last h states, the last of which is where the step led, [N, h, *S].
            actions: the blocks that led there, environment units, [N, A].

        Returns:
            Sum of the block's rewards [N], and the chance that the episode did not end in it [N], 0 to 1.
        """
        ...

    def value(self, states: Tensor) -> Tensor:
        """What whoever made the data earned after the last h `states` [N, h, *S], each step later worth `discount`
        -> [N]."""
        ...

    @property
    def discount(self) -> float:
        """What a reward one model step later is worth, 0 to 1."""
        ...


@runtime_checkable
class LookingAhead(Protocol):
    """Knows how far away the goals of its task are."""

    look_ahead: int
    """Environment steps that plans should span."""


@runtime_checkable
class Remembering(Protocol):
    """Knows what it was trained on."""

    trained_on: Sequence[Mapping[str, Any]]
    """How each of the data folders was collected (`data.CollectSettings` as a dictionary, and `centred_actions` where
    actions were recorded so, see `agent.actions.ActionCode`); empty if that is unknown."""


@runtime_checkable
class Trusted(Protocol):
    """Knows how far ahead its predictions were near, on episodes that it had not seen."""

    trusted_steps: int | None
    """Environment steps; None if that was not measured."""


@runtime_checkable
class Goalless(Protocol):
    """An objective that asks for no goal: `Problem.goal` is then a filler, and nothing may depend on it."""

    goalless: bool


class Readout(Protocol):
    """The physical meaning of latents."""

    def errors(self, latents: Tensor, goal: Tensor) -> dict[str, Tensor]:
        """Distances between latents [..., *S] and goals [..., *S] by what they measure, each [...].

        The key ends in the unit, as in "body_px" or "body_deg".
        """
        ...

    def reaches(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Whether latents [..., *S] meet the task's own test of success for the goals [..., *S], booleans [...].

        A model that knows no task is about as strict.
        """
        ...


@runtime_checkable
class ReadingOut(Protocol):
    """Tells what its latents mean."""

    readout: Readout | None
    """Reads this model's latents; None if their numbers have no prescribed meaning."""


def image_size_of(model: WorldModel) -> int | None:
    """Side of the pictures that the model reads, see `Picturing`; None if it reads something else."""
    return model.image_size if isinstance(model, Picturing) else None


def proprio_dim_of(model: WorldModel) -> int:
    """Numbers of proprioception that the model reads beside pictures, see `Proprioceptive`."""
    return model.proprio_dim if isinstance(model, Proprioceptive) else 0


def action_limit_of(model: WorldModel) -> float | None:
    """Largest action that the model knows, see `Bounded`; None is no limit."""
    return model.action_limit if isinstance(model, Bounded) else None


def centred_actions_of(model: WorldModel) -> bool:
    """Whether the model's actions are told from the middle of the action space, in half-ranges; see `Remembering`."""
    return any(isinstance(of, Mapping) and of.get("centred_actions") is True for of in trained_on(model))


def distance_weights_of(model: WorldModel) -> Sequence[Any] | None:
    """How much each latent number counts in a goal's distance, see `Weighing`; None weighs all alike."""
    return model.distance_weights if isinstance(model, Weighing) else None


def measures_steps(model: object) -> TypeGuard[Measuring]:
    """Whether the model tells how many steps lie between states, see `Measuring`."""
    return isinstance(model, Measuring) and model.measures


def driven_of(model: WorldModel) -> Sequence[bool] | None:
    """Which latent numbers are of what the actions move themselves, see `Driven`; None if that is not known."""
    return model.driven if isinstance(model, Driven) else None


def decodes(model: WorldModel) -> bool:
    """Whether the model draws its latents, see `Decoding`."""
    return isinstance(model, Decoding) and model.decodes


def proposes(model: WorldModel) -> bool:
    """Whether the model proposes plans, see `Proposing`."""
    return isinstance(model, Proposing) and model.proposes


def foresees_rewards(model: object) -> TypeGuard[Rewarding]:
    """Whether the model tells rewards, see `Rewarding`."""
    return isinstance(model, Rewarding) and model.rewards


def look_ahead_of(model: WorldModel) -> int | None:
    """Environment steps that plans should span, see `LookingAhead`; None if the model does not say."""
    return model.look_ahead if isinstance(model, LookingAhead) else None


def trained_on(model: WorldModel) -> Sequence[Mapping[str, Any]]:
    """How the data were collected that the model was trained on, see `Remembering`; empty if that is unknown."""
    return model.trained_on if isinstance(model, Remembering) else ()


def trusted_steps_of(model: WorldModel) -> int | None:
    """Environment steps ahead up to which the model is to be believed, see `Trusted`; None if that is unknown."""
    return model.trusted_steps if isinstance(model, Trusted) else None


def needs_goal(objective: Objective) -> bool:
    """Whether plans are judged by a goal, see `Goalless`."""
    return not (isinstance(objective, Goalless) and objective.goalless)


def readout_of(model: WorldModel) -> Readout | None:
    """What tells the meaning of the model's latents, see `ReadingOut`; None if nothing does."""
    return model.readout if isinstance(model, ReadingOut) else None
