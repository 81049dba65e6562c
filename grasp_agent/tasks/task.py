"""What an environment family must tell, so that everything else can stay general.

A `Task` says which arguments make an environment show pictures, where picture and goal are in an observation, what
counts as success, and which recipe, model and baselines suit. It is a plain object of facts: it makes no environment
and reads no simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grasp_agent.agent.observations import GOAL_KEYS
from grasp_agent.core.capabilities import readout_of
from grasp_agent.core.types import WorldModel
from grasp_agent.models.latent.layout import StateLayout

RENDERED = "rendered"
"""An environment argument for square pictures of what it renders as observations; its value is their side."""

GOAL_IMAGE = "goal_image"
"""An environment argument for a goal that a picture shows; its value is the picture's file."""

GOAL_FUNCTION = "goal_function"
"""An environment argument for goals that a function of the user's returns; its value is "module:function"."""

HINDSIGHT = "hindsight"
"""An environment argument for goals that random actions lead to; its value is how many steps."""

GIVEN_GOALS = (HINDSIGHT, GOAL_IMAGE, GOAL_FUNCTION)
"""Environment arguments for goals that environments do not set themselves, of which one can be given."""

SUCCESSES: tuple[str, ...] = ("is_success", "success")
"""What success is called in `info`, by stable-baselines3 and by Gymnasium-Robotics."""

SUCCESS_KEY = "success_key"
"""An environment argument for the entry of `info` that tells success, where it has a name of its own."""

SUCCESS_FUNCTION = "success_function"
"""An environment argument for a function of the user's that tells success; its value is "module:function"."""

TOLD_SUCCESS = (SUCCESS_KEY, SUCCESS_FUNCTION)
"""Environment arguments by which the user tells success, of which one can be given."""

REPEAT_ACTION = "repeat_action"
"""An environment argument for actions that last for several steps; its value is how many."""


@dataclass(frozen=True)
class Task:
    """The facts of one environment family.

    The defaults suit a goal-conditioned environment whose observations are dictionaries.

    Attributes:
        name: what users call the family.
        about: one sentence for `grasp-agent demo`: what is to be done.
        env_ids: Gymnasium ids that belong to it, without "module:" in front.
        known_as: by ids of other packages, the id under which the same world shows pictures of its goals and takes
            what the family's models do, as `gymnasium.make` takes it.
        default_env_ids: ids as `gymnasium.make` takes them. `collect` records all of them when none is named; the first
            is what the other commands play.
        default: whether the commands play this family when no environment is named; one registered task says so.
        picture_key: where the picture is in a dictionary observation.
        goal_key: where the picture of the goal is, in a dictionary observation or in the `info` of `reset`.
        success_key: the entry of `info` that says whether the task is solved in this step; where it is "is_success",
            as stable-baselines3 has it, "success", as Gymnasium-Robotics has it, will do as well.
        tells_success: whether environments must say that; where they need not, and do not, returns are compared.
        progress_key: the entry of `info` whose best value is reported beside success; None reports nothing.
        picture_kwargs: environment arguments that make observations hold pictures. The value "{side}" stands for the
            pictures' height and width in pixels.
        rendered: whether what the environment renders will do where its observations hold no picture.
        policy_kwargs: environment arguments to try in turn for a policy that does not fit the default observation.
        goal_kwargs: environment arguments that decide about goals and success, and change nothing in the world itself.
        goal_distance_kwargs: per environment id, the argument that sets how many steps away goals are, where there is
            one.
        look_ahead: environment steps that plans to its goals should span.
        detours: whether the straight way to a goal is often none, so that models should learn how many steps lie
            between states.
        driven_weights: per environment id, how much the place of what the actions move themselves counts in the
            distance to a goal, the most important thing counting 1; for environments whose goals leave it open.
        states: the layout of latents that tells what the simulator's states mean; None if none does. It serves
            supervised training and errors in physical units.
        scene_side: height and width of the square scene that `render` shows, in the units of the simulator's states;
            None if scene and states do not lie over each other.
        recipe: training recipe that suits the family.
        model: shipped world model; None if there is none.
        models: shipped world models by name, with the arguments that the environment must have for them; for families
            of several worlds.
        baselines: shipped stable-baselines3 policies by the names that users type.
    """

    name: str
    about: str = ""
    env_ids: tuple[str, ...] = ()
    known_as: Mapping[str, str] = field(default_factory=dict)
    default_env_ids: tuple[str, ...] = ()
    default: bool = False
    picture_key: str = "pixels"
    goal_key: str = "goal"
    success_key: str = "is_success"
    tells_success: bool = True
    progress_key: str | None = None
    picture_kwargs: Mapping[str, Any] = field(default_factory=dict)
    rendered: bool = False
    policy_kwargs: tuple[Mapping[str, Any], ...] = ()
    goal_kwargs: tuple[str, ...] = ()
    goal_distance_kwargs: Mapping[str, str] = field(default_factory=dict)
    look_ahead: int = 25
    detours: bool = False
    driven_weights: Mapping[str, float] = field(default_factory=dict)
    states: StateLayout | None = None
    scene_side: float | None = None
    recipe: str = "generic"
    model: str | None = None
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    baselines: Mapping[str, Path] = field(default_factory=dict)

    def reads(self, model: WorldModel) -> bool:
        """Whether the task knows what the model's latents mean: their layout is `states`."""
        return self.states is not None and isinstance(readout_of(model), type(self.states))

    def pictures(self, side: int) -> dict[str, Any]:
        """Environment arguments for pictures of `side` x `side` pixels."""
        return {key: side if value == "{side}" else value for key, value in self.picture_kwargs.items()}

    def model_for(self, env_kwargs: Mapping[str, Any]) -> str | None:
        """The shipped world model for an environment with these arguments, or None."""
        telling = {name for wants in self.models.values() for name in wants if name in env_kwargs}
        if not telling:
            return self.model
        return next(
            (model for model, wants in self.models.items() if all(env_kwargs[name] == wants[name] for name in telling)),
            None,
        )

    def picture_wishes(self, side: int) -> list[dict[str, Any]]:
        """Environment arguments to try in turn for pictures of `side` x `side` pixels."""
        return [self.pictures(side), {}, *([{RENDERED: side}] if self.rendered else [])]

    def picture(self, observation: Any) -> Any:
        """The picture in an observation, which may be the whole of it."""
        return observation[self.picture_key] if isinstance(observation, Mapping) else observation

    def goal(self, observation: Any, info: Mapping[str, Any]) -> Any:
        """The goal that an observation shows or that the reset's `info` announces, or None.

        Observations may also show it under `GOAL_KEYS`, as goal environments do.
        """
        places: Mapping[str, Any] = observation if isinstance(observation, Mapping) else {}
        shown = next((places[key] for key in (self.goal_key, *GOAL_KEYS) if key in places), None)
        return info.get(self.goal_key) if shown is None else shown

    def solved(self, info: Mapping[str, Any]) -> bool | None:
        """Whether a step's `info` says that the task is solved in it; None if it says nothing of success.

        Raises:
            ValueError: `info` does not say, and must.
        """
        key = self.success_key
        usual, other = SUCCESSES
        if key == usual and key not in info:
            key = other
        if key not in info and not self.tells_success:
            return None
        if key not in info:
            found = ", ".join(map(str, info)) or "an empty info"
            raise ValueError(
                f"environment: expected info[{self.success_key!r}] after a step, got {found}; evaluation needs to be"
                " told about success"
            )
        return bool(info[key])

    def progress(self, info: Mapping[str, Any]) -> float | None:
        """The quantity reported beside success, if the task has one and `info` holds it."""
        value = None if self.progress_key is None else info.get(self.progress_key)
        return None if value is None else float(value)

    def goals_at(self, env_id: str, steps: int | None) -> dict[str, Any]:
        """Environment arguments for goals that are so many steps away; None leaves the environment its own distance.

        Raises:
            ValueError: the environment has no argument for it.
        """
        if steps is None:
            return {}
        if (argument := self.goal_distance_kwargs.get(bare_id(env_id))) is None:
            raise ValueError(
                f"goal distance: expected an environment with an argument for it, got {env_id!r}, which has none; leave"
                " the distance out"
            )
        return {argument: steps}


def bare_id(env_id: str) -> str:
    """An environment id without "module:" in front."""
    return env_id.rpartition(":")[2]
