"""Every known task, and which one an environment belongs to."""

from __future__ import annotations

from grasp_agent.core.capabilities import distance_weights_of, driven_of
from grasp_agent.core.types import WorldModel
from grasp_agent.tasks.task import Task

TASKS: dict[str, Task] = {}
"""Every registered task by its name."""

GYMNASIUM = Task(
    "gymnasium",
    picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
    rendered=True,
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
    bare = _bare(env_id)
    return next((task for task in TASKS.values() if bare in task.env_ids), GYMNASIUM)


def goal_weights_for(env_id: str, model: WorldModel) -> tuple[float, ...] | None:
    """Weights of the latent numbers in the distance to this environment's goals.

    Args:
        env_id: the environment.
        model: whose latents are compared.

    Returns:
        One weight per latent number; None if the model's own weights will do, or if it does not know what the actions
        move.
    """
    weight, driven = task_for(env_id).driven_weights.get(_bare(env_id)), driven_of(model)
    if weight is None or driven is None:
        return None
    own = distance_weights_of(model) or (1.0,) * len(driven)
    return tuple(weight if moved else other for moved, other in zip(driven, own, strict=True))


def _bare(env_id: str) -> str:
    return env_id.rpartition(":")[2]
