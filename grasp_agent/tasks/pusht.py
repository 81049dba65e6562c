"""Push-T: a round pusher moves a T-shaped body to a pose shown by a picture (PushTReach) or to a fixed one (PushT)."""

from __future__ import annotations

from grasp_agent.models.io import PRETRAINED
from grasp_agent.models.planar_push import PLANAR_PUSH
from grasp_agent.tasks.registry import register_task
from grasp_agent.tasks.task import Task

PUSHT = register_task(
    Task(
        name="pusht",
        about="Push-T from pixels: reach the goal picture 25 expert steps away, in 50 steps",
        env_ids=("grasp_envs/PushTReach-v0", "grasp_envs/PushT-v0", "grasp_envs/GymPushT-v0"),
        known_as={"gym_pusht/PushT-v0": "grasp_envs:grasp_envs/GymPushT-v0"},
        default_env_ids=("grasp_envs:grasp_envs/PushTReach-v0", "grasp_envs:grasp_envs/PushT-v0"),
        default=True,
        progress_key="coverage",
        picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
        policy_kwargs=tuple(
            {"obs_type": kind} for kind in ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")
        ),
        goal_kwargs=("goal_horizon", "reward_type", "success"),
        goal_distance_kwargs={"grasp_envs/PushTReach-v0": "goal_horizon"},
        # In the classic task only the body must arrive; where the pusher ends up hardly counts.
        driven_weights={"grasp_envs/PushT-v0": 0.001, "grasp_envs/GymPushT-v0": 0.001},
        states=PLANAR_PUSH,
        scene_side=512.0,
        look_ahead=40,
        recipe="sprites",
        model="pusht",
        baselines={"sac_her": PRETRAINED / "sac_her_pusht_reach" / "model.zip"},
    )
)
