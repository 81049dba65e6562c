"""Wall: a dot goes through a door to a place in the other room, shown by a picture."""

from __future__ import annotations

from grasp_agent.tasks.registry import register_task
from grasp_agent.tasks.task import Task

WALL = register_task(
    Task(
        name="wall",
        about="Wall from pixels: go through the door to the place in the other room that a picture shows",
        env_ids=("grasp_envs/Wall-v0",),
        default_env_ids=("grasp_envs:grasp_envs/Wall-v0",),
        picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
        policy_kwargs=({"obs_type": "state"}, {"obs_type": "pixels"}),
        goal_kwargs=("success", "reward_type", "max_steps"),
        look_ahead=45,
        recipe="sprites",
        model="wall",
    )
)
