"""gymnasium-robotics' PointMaze, on MuJoCo: forces drive a ball through a maze to a place shown by a picture."""

from __future__ import annotations

from grasp_agent.tasks.registry import register_task
from grasp_agent.tasks.task import Task

MUJOCO_POINT_MAZE = register_task(
    Task(
        # A task of its own: models of the light counterpart never saw what MuJoCo draws.
        name="mujoco_point_maze",
        about="gymnasium-robotics' PointMaze from pixels: drive a ball through a maze to where a picture shows it",
        env_ids=("grasp_envs/MujocoPointMaze-v0",),
        known_as={"PointMaze_UMaze-v3": "grasp_envs:grasp_envs/MujocoPointMaze-v0"},
        default_env_ids=("grasp_envs:grasp_envs/MujocoPointMaze-v0",),
        picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
        policy_kwargs=({"obs_type": "state"}, {"obs_type": "pixels"}),
        goal_kwargs=("reward_type", "max_steps"),
        look_ahead=50,
        detours=True,
        recipe="sprites",
    )
)
