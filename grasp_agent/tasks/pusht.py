"""Push-T: a round pusher moves a T-shaped body to a pose shown by a picture (PushTReach) or to a fixed one (PushT)."""

from __future__ import annotations

from pathlib import Path

from grasp_agent.tasks.task import Task

_PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"

PUSHT = Task(
    name="pusht",
    env_ids=("grasp_envs/PushTReach-v0", "grasp_envs/PushT-v0"),
    progress_key="coverage",
    picture_kwargs={"obs_type": "pixels", "resolution": "{side}"},
    policy_kwargs=tuple(
        {"obs_type": kind} for kind in ("state", "environment_state_agent_pos", "pixels", "pixels_agent_pos")
    ),
    goal_distance_kwarg="goal_horizon",
    default_env_ids=("grasp_envs:grasp_envs/PushTReach-v0", "grasp_envs:grasp_envs/PushT-v0"),
    recipe="pusht",
    model="pusht",
    baselines={"sac_her": _PRETRAINED / "sac_her_pusht_reach" / "model.zip"},
    # Only the body must arrive in the classic task; where the pusher stands hardly counts.
    goal_weights={"grasp_envs/PushT-v0": (0.001, 0.001, 1.0, 1.0, 1.0, 1.0)},
)
