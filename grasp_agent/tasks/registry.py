"""Every known task, and which one an environment belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grasp_agent.core.capabilities import distance_weights_of, driven_of, foresees_rewards, trained_on
from grasp_agent.core.types import Objective, WorldModel
from grasp_agent.objectives import GoalDistance, Rewards
from grasp_agent.tasks.task import GIVEN_GOALS, RENDERED, TOLD_SUCCESS, Task, bare_id

TASKS: dict[str, Task] = {}
"""Every registered task by its name."""

GYMNASIUM = Task(
    "gymnasium",
    picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
    rendered=True,
    tells_success=False,
    policy_kwargs=({"obs_type": "state"}, {"obs_type": "pixels"}),
)
"""Any other environment. It is asked for pictures in words that several families of environments share; where it does
not know these words, it is taken as it is, and if its observations hold no picture, it is rendered."""


def register_task(task: Task) -> Task:
    """Make a task known, so that commands, evaluation and data collection find it by its environments' ids.

    Args:
        task: the facts of an environment family.

    Returns:
        The same task.

    Raises:
        ValueError: another task has its name or one of its environments, or is the default already.
    """
    others = [other for other in (GYMNASIUM, *TASKS.values()) if other != task]
    for other in others:
        if other.name == task.name:
            raise ValueError(f"task {task.name!r}: expected a name of its own, got that of a registered task")
        if shared := sorted(set(other.env_ids) & set(task.env_ids)):
            raise ValueError(f"task {task.name!r}: expected environments of its own, got {shared[0]} of {other.name!r}")
        if other.default and task.default:
            raise ValueError(f"task {task.name!r}: expected one default task, got a second beside {other.name!r}")
    TASKS[task.name] = task
    return task


def task_for(env_id: str) -> Task:
    """The task that an environment id belongs to, else `GYMNASIUM`; a "module:" in front of the id does not matter."""
    bare = bare_id(env_id)
    return next((task for task in TASKS.values() if bare in task.env_ids), GYMNASIUM)


def advice_for(env_id: str) -> str:
    """What to play in place of an environment that some task knows under another id; empty for all others."""
    other = next((task.known_as[bare_id(env_id)] for task in TASKS.values() if bare_id(env_id) in task.known_as), None)
    return "" if other is None else f"; try --env {other}, the same world with pictures of goals"


def goal_weights_for(env_id: str, model: WorldModel) -> tuple[float, ...] | None:
    """Weights of the latent numbers in the distance to this environment's goals.

    Args:
        env_id: the environment.
        model: whose latents are compared.

    Returns:
        One weight per latent number; None if the model's own weights will do, or if it does not know what the actions
        move.
    """
    weight, driven = task_for(env_id).driven_weights.get(bare_id(env_id)), driven_of(model)
    if weight is None or driven is None:
        return None
    own = distance_weights_of(model) or (1.0,) * len(driven)
    return tuple(weight if moved else other for moved, other in zip(driven, own, strict=True))


def objective_for(
    env_id: str, model: WorldModel, shows_goal: bool, weights: tuple[float, ...] | None = None
) -> Objective | None:
    """What plans are judged by in an environment.

    Args:
        env_id: the environment.
        model: who predicts.
        shows_goal: whether the environment shows or announces a goal.
        weights: of the latent numbers in the distance to a goal; None means what the task says.

    Returns:
        The distance to the goal, if it is to be weighed otherwise than the model says; the rewards that the model
        foresees, where there is no goal; None if the agent's own objective will do.
    """
    weights = weights or goal_weights_for(env_id, model)
    if weights is not None:
        return GoalDistance(weights=weights)
    if not shows_goal and foresees_rewards(model):
        return Rewards(model)
    return None


def foreign_to(env_id: str, env_kwargs: Mapping[str, Any], model: WorldModel) -> str | None:
    """Say in one sentence that a model was trained on another world; None if it was not, or if that is unknown.

    Environments of one task are one world if their arguments agree. Arguments that decide what is shown, or where goals
    are, do not count.

    Args:
        env_id: where the model is to play.
        env_kwargs: the arguments of that environment.
        model: the model.
    """

    def world(name: str, kwargs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        task = task_for(name)
        shown = {*task.picture_kwargs, *(key for one in task.policy_kwargs for key in one), RENDERED}
        no_matter = {*shown, *task.goal_kwargs, *GIVEN_GOALS, *TOLD_SUCCESS, "max_episode_steps"}
        return bare_id(name), {key: value for key, value in kwargs.items() if key not in no_matter}

    ids = task_for(env_id).env_ids
    asked = world(env_id, env_kwargs)
    known = [
        world(name, dict(folder.get("env_kwargs", ())))
        for folder in trained_on(model)
        for name in folder.get("env_ids", ())
    ]
    if not known or any(kwargs == asked[1] and (name == asked[0] or name in ids) for name, kwargs in known):
        return None
    names = dict.fromkeys(_named(*one) for one in known)
    other = f"the world model was trained on {', '.join(names)}, and {_named(*asked)} may be another world"
    return other + advice_for(env_id)


def _named(name: str, kwargs: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in kwargs.items())])
