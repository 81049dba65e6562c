"""Tasks: what each environment family tells the rest of the package, one file per family.

Every file in this folder is imported here and registers its task. A task of another package calls `register_task`.
"""

from importlib import import_module
from pkgutil import iter_modules

from grasp_agent.tasks.registry import (
    GYMNASIUM,
    TASKS,
    advice_for,
    foreign_to,
    objective_for,
    register_task,
    task_for,
)
from grasp_agent.tasks.task import Task

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

DEFAULT_TASK = next(task for task in TASKS.values() if task.default)
"""What the commands play when no environment is named."""

__all__ = [
    "DEFAULT_TASK",
    "GYMNASIUM",
    "TASKS",
    "Task",
    "advice_for",
    "foreign_to",
    "objective_for",
    "register_task",
    "task_for",
]
