"""Speed on this machine: environment steps beside gym-pusht, and decisions of the planners. Nothing here is
a pass mark."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.table import Table

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.models import load_world_model
from grasp_agent.planning import PLANNERS, planner_for
from grasp_agent.rollouts.environments import make_env

ROUNDS = 5


def environment_table(seconds: float) -> Table:
    """Steps per second with random actions, observation included; rivals take turns within one run.

    Args:
        seconds: of measurement per row, in all.
    """
    rivals: list[tuple[str, str, dict[str, Any]]] = [
        ("grasp_envs/PushT-v0", "state", {"control": "absolute"}),
        ("grasp_envs/PushT-v0", "pixels", {"control": "absolute"}),
    ]
    if importlib.util.find_spec("gym_pusht") is not None:
        rivals += [("gym_pusht:gym_pusht/PushT-v0", kind, {}) for kind in ("state", "pixels")]
    table = Table(title=f"environment steps per second (median of {ROUNDS} interleaved rounds, 96 px)")
    for column in ("environment", "observation", "steps/s", "times gym-pusht"):
        table.add_column(column, justify="left" if column[0] in "eo" else "right")
    envs = [make_env(name, obs_type=kind, **kwargs) for name, kind, kwargs in rivals]
    rates = np.zeros((ROUNDS, len(envs)))
    for k in range(ROUNDS):
        for i, env in enumerate(envs):
            env.reset(seed=k)
            rates[k, i] = _rate(_stepper(env, k), seconds / ROUNDS)
    for i, (name, kind, _) in enumerate(rivals):
        reference = [j for j, other in enumerate(rivals) if "gym_pusht" in other[0] and other[1] == kind]
        ratio = f"{np.median(rates[:, i] / rates[:, reference[0]]):.1f}" if reference else "not installed"
        table.add_row(name, kind, f"{np.median(rates[:, i]):,.0f}", ratio)
    for env in envs:
        env.close()
    return table


def _stepper(env: Any, seed: int) -> Callable[[], None]:
    """One step towards targets that walk round the arena, so that the block is pushed now and then."""
    generator = np.random.default_rng(seed)
    target = np.full(2, 256.0)

    def step() -> None:
        nonlocal target
        target = np.clip(target + generator.normal(0, 25, 2), 20, 490)
        _, _, terminated, truncated, _ = env.step(target.astype(np.float32))
        if terminated or truncated:
            env.reset()

    return step


def _rate(step: Callable[[], None], seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - start)


def decision_table(model: str, seconds: float, env_id: str = "grasp_envs/PushTReach-v0") -> Table:
    """Decision latency of every planner at its default settings, from pixels, one environment.

    Args:
        model: world model.
        seconds: least time of measurement per planner.
        env_id: where the observations come from.
    """
    world_model = load_world_model(model)
    env = make_env(env_id, obs_type="pixels", resolution=world_model.image_size)
    table = Table(title="decision latency from pixels, default settings")
    for column in ("planner", "iterations", "p50 ms", "p95 ms", "decisions"):
        table.add_column(column, justify="left" if column == "planner" else "right")
    for name in PLANNERS:
        agent = MPCAgent(world_model, env.action_space, planner_for(name, world_model))
        times: list[float] = []
        start = time.perf_counter()
        seed = 0
        while time.perf_counter() - start < seconds or len(times) < 10:
            observation, _ = env.reset(seed=seed)
            agent.reset()
            over = False
            while not over and (time.perf_counter() - start < seconds or len(times) < 10):
                began = time.perf_counter()
                action = agent.act(observation)
                times.append((time.perf_counter() - began) * 1e3)
                observation, _, terminated, truncated, _ = env.step(action)
                over = terminated or truncated
            seed += 1
        p50, p95 = np.percentile(times, [50, 95])
        iterations = str(agent.budget.iterations)
        table.add_row(name, iterations, f"{p50:.0f}", f"{p95:.0f}", str(len(times)))
    env.close()
    return table
