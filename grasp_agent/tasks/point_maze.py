"""PointMaze: forces drive a ball through a maze to a place shown by a picture."""

from __future__ import annotations

from grasp_agent.tasks.registry import register_task
from grasp_agent.tasks.task import Task

POINT_MAZE = register_task(
    Task(
        name="point_maze",
        about="PointMaze from pixels: drive a ball through a maze to the place that a picture shows",
        env_ids=("grasp_envs/PointMaze-v0",),
        default_env_ids=("grasp_envs:grasp_envs/PointMaze-v0",),
        picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
        policy_kwargs=({"obs_type": "state"}, {"obs_type": "pixels"}),
        goal_kwargs=("goals", "reward_type", "max_steps"),
        look_ahead=50,
        detours=True,
        recipe="sprites",
        model="umaze",
        models={"umaze": {"maze": "umaze"}, "medium-maze": {"maze": "medium"}},
    )
)
