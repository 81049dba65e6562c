"""Tasks: what each environment family tells the rest, one file per family."""

from grasp_agent.tasks.pusht import PUSHT
from grasp_agent.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (PUSHT,)}
"""Every known family by its name."""

DEFAULT_TASK = PUSHT
"""What the commands play when no environment is named."""

GYMNASIUM = Task("gymnasium")
"""Any other environment."""


def task_for(env_id: str) -> Task:
    """The task that an environment id belongs to ("module:" prefixes do not matter), else `GYMNASIUM`."""
    bare = env_id.rpartition(":")[2]
    return next((task for task in TASKS.values() if bare in task.env_ids), GYMNASIUM)


__all__ = ["DEFAULT_TASK", "GYMNASIUM", "TASKS", "Task", "task_for"]
