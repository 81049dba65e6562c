"""What an environment family must tell, so that everything else can stay general.

A `Task` says under which arguments an environment shows pictures, where picture and goal are in an observation, what
counts as success, and which recipe and model belong to it. It is a plain object of facts: it makes no environment and
never reads a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """The facts of one environment family. The defaults suit a goal-conditioned environment with dictionary
    observations.

    Attributes:
        name: what users call the family.
        env_ids: Gymnasium ids that belong to it, without module prefix.
        picture_key: where the picture is in a dictionary observation.
        goal_key: where the picture of the goal is, in a dictionary observation or in the reset's `info`.
        success_key: the entry of `info` that says whether the task is solved in this step.
        progress_key: the entry of `info` whose best value is reported beside success; None reports none.
        picture_kwargs: environment arguments under which observations hold pictures. "{side}" as a value stands for
            the pictures' height and width.
        policy_kwargs: arguments to try in turn, for a policy that was trained on another observation than the
            default one.
        goal_distance_kwarg: the argument that sets how many steps away goals are; None if there is none.
        default_env_ids: ids that `collect` records when none is named; the first is what the commands play.
        recipe: training recipe that suits the family.
        model: shipped world model of the family; None if there is none.
        baselines: shipped stable-baselines3 policies by the name that users type.
        goal_weights: per environment id, weights of the latent numbers in a goal's distance where the goal is not the
            whole latent.
    """

    name: str
    env_ids: tuple[str, ...] = ()
    picture_key: str = "pixels"
    goal_key: str = "goal"
    success_key: str = "is_success"
    progress_key: str | None = None
    picture_kwargs: Mapping[str, Any] = field(default_factory=dict)
    policy_kwargs: tuple[Mapping[str, Any], ...] = ()
    goal_distance_kwarg: str | None = None
    default_env_ids: tuple[str, ...] = ()
    recipe: str = "generic"
    model: str | None = None
    baselines: Mapping[str, Path] = field(default_factory=dict)
    goal_weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def pictures(self, side: int) -> dict[str, Any]:
        """Environment arguments for pictures of `side` x `side` pixels."""
        return {key: side if value == "{side}" else value for key, value in self.picture_kwargs.items()}

    def picture(self, observation: Any) -> Any:
        """The picture in an observation, which may be the whole of it."""
        return observation[self.picture_key] if isinstance(observation, Mapping) else observation

    def goal(self, observation: Any, info: Mapping[str, Any]) -> Any:
        """The goal that an observation shows or that the reset's `info` announces, or None."""
        shown = observation.get(self.goal_key) if isinstance(observation, Mapping) else None
        return info.get(self.goal_key) if shown is None else shown

    def solved(self, info: Mapping[str, Any]) -> bool:
        """Whether a step's `info` says that the task is solved in it.

        Raises:
            ValueError: `info` does not say.
        """
        if self.success_key not in info:
            found = ", ".join(map(str, info)) or "an empty info"
            raise ValueError(
                f"environment: expected info[{self.success_key!r}] after a step, got {found}; evaluation needs to be"
                " told about success"
            )
        return bool(info[self.success_key])

    def progress(self, info: Mapping[str, Any]) -> float | None:
        """The quantity reported beside success, if the task has one and `info` holds it."""
        value = None if self.progress_key is None else info.get(self.progress_key)
        return None if value is None else float(value)
