"""How long a decision takes on this machine, for every planner. Nothing here is a pass mark."""

from __future__ import annotations

import itertools

import numpy as np
from rich.table import Table

from grasp_agent.agent import MPCAgent
from grasp_agent.core.capabilities import proposes
from grasp_agent.models import load_world_model
from grasp_agent.planning import PLANNERS, planner_for
from grasp_agent.rollouts.goal_env import GoalEnv
from grasp_agent.rollouts.policies import AgentPolicy
from grasp_agent.rollouts.vector import Episode, play

LEAST_DECISIONS = 10


def decision_table(where: GoalEnv, model: str, seconds: float) -> Table:
    """Decision latency of every planner at its default settings.

    Args:
        where: the environment.
        model: world model.
        seconds: least time of measurement per planner.

    Raises:
        ValueError: the environment does not show what the model sees.
    """
    world_model = load_world_model(model)
    env, _ = where.open(world_model)
    table = Table(title="decision latency, default settings")
    for column in ("planner", "iterations", "p50 ms", "p95 ms", "decisions"):
        table.add_column(column, justify="left" if column == "planner" else "right")
    for name in PLANNERS:
        if name == "prior" and not proposes(world_model):
            continue
        agent = MPCAgent(world_model, env.action_space, planner_for(name, world_model))
        times: list[float] = []
        for step in play(AgentPolicy(agent, where.task), [env], (Episode(i, i, i) for i in itertools.count())):
            times += [1e3 * step.seconds] * (step.number > 0)
            if sum(times) > 1e3 * seconds and len(times) >= LEAST_DECISIONS:
                break
        p50, p95 = np.percentile(times, [50, 95])
        table.add_row(name, str(agent.budget.iterations), f"{p50:.0f}", f"{p95:.0f}", str(len(times)))
    env.close()
    return table
