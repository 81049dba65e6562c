"""BallNav: a ball goes past a barrier to a place straight behind it."""

from __future__ import annotations

from grasp_agent.tasks.registry import register_task
from grasp_agent.tasks.task import Task

BALL_NAV = register_task(
    Task(
        name="ball_nav",
        about="BallNav: bring a ball past a barrier to a place",
        env_ids=("grasp_envs/BallNav-v0",),
        default_env_ids=("grasp_envs:grasp_envs/BallNav-v0",),
        picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
        policy_kwargs=({"obs_type": "state"}, {"obs_type": "pixels"}),
        goal_kwargs=("reward_type", "max_steps"),
        look_ahead=40,
        detours=True,
        recipe="sprites",
    )
)
