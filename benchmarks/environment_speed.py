"""Environment steps per second on this machine, with gym-pusht beside where it is installed.

python benchmarks/environment_speed.py
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

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


if __name__ == "__main__":
    Console().print(environment_table(seconds=3.0))
