"""Who takes part in an evaluation: agents, stable-baselines3 policies and the simple references.

An `Entrant` knows which observation it needs, what tells it from others, and who plays for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
from gymnasium import spaces
from torch import nn

from grasp_agent.agent.agent import MPCAgent
from grasp_agent.evaluation.sb3 import load_policy
from grasp_agent.files.digest import file_digest, model_digest, stable_repr
from grasp_agent.rollouts.environments import open_env, open_for_model, same_space
from grasp_agent.rollouts.policies import (
    AgentPolicy,
    RowByRow,
    box_actions,
    check_expert,
    expert_policy,
    predicting,
    random_policy,
    zero_policy,
)
from grasp_agent.rollouts.rendered import image_side
from grasp_agent.rollouts.vector import VectorPolicy
from grasp_agent.tasks import task_for

REFERENCES = ("random", "zero", "expert")

TO_THE_GOAL = {"goal": "task"}
"""What `make_expert` is told, so that the expert heads for the episode's goal."""

PICTURE_SIDE = 64
"""Of the pictures that are compared with a goal image, where nobody looks at them."""

OpenedEnv = tuple[gym.Env[Any, Any], dict[str, Any]]
"""An environment, and the arguments that it was made with."""


class Entrant(Protocol):
    """One participant."""

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> OpenedEnv:
        """Make an environment that suits."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what determines its actions, JSON-serialisable."""
        ...

    def policy(self, env_id: str) -> VectorPolicy:
        """Return who plays, without memory of other episodes."""
        ...


def make_entrants(entrants: Mapping[str, Any] | Sequence[str], *, trust: bool = False) -> dict[str, Entrant]:
    """Turn what users hand over into entrants.

    Args:
        entrants: name to participant: an `MPCAgent`, any object with stable-baselines3's `predict`, the path
            of a stable-baselines3 .zip, what `saved_policy` returns, or one of "random", "zero" and "expert". A plain
            sequence of the latter will do.
        trust: load .zip files that do not ship with this package, too, although they can run any code.

    Raises:
        ValueError: none given, or an unknown name, a file that is missing, damaged, of an unknown
            algorithm, or not trusted.
        TypeError: a participant of another kind.
    """
    if not isinstance(entrants, Mapping):
        entrants = {str(entrant): entrant for entrant in entrants}
    if not entrants:
        raise ValueError("entrants: expected at least one, got none")
    return {name: _make_entrant(name, participant, trust) for name, participant in entrants.items()}


def saved_policy(path: str | Path, *, trust: bool = False) -> PolicyEntrant:
    """A stable-baselines3 .zip as an entrant.

    Args:
        path: the file.
        trust: load it although it can run any code; what ships with this package needs no trust.

    Raises:
        ValueError: as `load_policy`.
    """
    return PolicyEntrant(load_policy(path, trust=trust), {"file": file_digest(path)})


def _make_entrant(name: str, participant: Any, trust: bool) -> Entrant:
    if isinstance(participant, AgentEntrant | PolicyEntrant | ReferenceEntrant):
        return participant
    if isinstance(participant, MPCAgent):
        return AgentEntrant(participant)
    if isinstance(participant, str | Path):
        if str(participant) in REFERENCES:
            return ReferenceEntrant(str(participant))
        if Path(participant).suffix == ".zip":
            return saved_policy(participant, trust=trust)
        raise ValueError(
            f"entrant {name!r}: expected {', '.join(REFERENCES)}, the path of a stable-baselines3 .zip,"
            f" or an agent, got {str(participant)!r}"
        )
    if callable(getattr(participant, "predict", None)):
        identity = {"class": f"{type(participant).__module__}.{type(participant).__qualname__}"}
        network = getattr(participant, "policy", participant)  # of a stable-baselines3 algorithm, or the object itself
        if isinstance(network, nn.Module):
            identity["weights"] = model_digest(network)
        return PolicyEntrant(participant, identity)
    raise TypeError(
        f"entrant {name!r}: expected an MPCAgent, an object with predict, a .zip path or one of"
        f" {', '.join(REFERENCES)}, got {type(participant).__name__}"
    )


class AgentEntrant:
    """An `MPCAgent`: sees pictures of its world model's size, and is told the goal if observations lack it."""

    def __init__(self, agent: MPCAgent) -> None:
        self.agent = agent

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> OpenedEnv:
        return open_for_model(self.agent.world_model, env_id, env_kwargs, self.agent.action_space)

    def describe(self) -> dict[str, Any]:
        agent = self.agent
        return {
            "kind": type(agent).__name__,
            "world_model": model_digest(agent.world_model),
            "planner": stable_repr(agent.planner),
            "objective": stable_repr(agent.objective),
            "horizon": agent.horizon,
            "budget": dataclasses.asdict(agent.budget),
            "first_budget": dataclasses.asdict(agent.first_budget),
            "replan_every": agent.replan_every,
            "seed": agent.seed,
        }

    def policy(self, env_id: str) -> AgentPolicy:
        return AgentPolicy(self.agent, task_for(env_id))


class PolicyEntrant:
    """Any object with stable-baselines3's `predict`.

    Args:
        sb3_policy: the object; its `observation_space` and `action_space`, where it has them, say which
            environment it needs.
        identity: what tells it from others, JSON-serialisable.
    """

    def __init__(self, sb3_policy: Any, identity: dict[str, Any]) -> None:
        self.sb3_policy = sb3_policy
        self.identity = identity

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> OpenedEnv:
        seen: spaces.Space[Any] | None = getattr(self.sb3_policy, "observation_space", None)
        acts: spaces.Space[Any] | None = getattr(self.sb3_policy, "action_space", None)

        def fits(env: gym.Env[Any, Any]) -> bool:
            suits = seen is None or same_space(seen, env.observation_space)
            return suits and (acts is None or acts == env.action_space)

        task = task_for(env_id)
        side = None if seen is None else image_side(seen)
        sized = {} if side is None else task.pictures(side)
        wishes = [{}, *({**sized, **kwargs} for kwargs in task.policy_kwargs)]
        return open_env(env_id, env_kwargs, wishes, fits, f"the policy's spaces, {seen} and {acts}")

    def describe(self) -> dict[str, Any]:
        return {"kind": type(self.sb3_policy).__name__, **self.identity}

    def policy(self, env_id: str) -> RowByRow:
        return predicting(self.sb3_policy)


class ReferenceEntrant:
    """One of `REFERENCES`: takes the environment as it comes. The expert is no competitor, it reads the simulator."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, env_id: str, env_kwargs: Mapping[str, Any]) -> OpenedEnv:
        wishes = [{}, *task_for(env_id).picture_wishes(PICTURE_SIDE)]
        env, kwargs = open_env(env_id, env_kwargs, wishes, lambda env: True, "any observation")
        try:
            if self.name == "expert":
                check_expert(env, **TO_THE_GOAL)
            elif self.name == "zero":
                box_actions("entrant 'zero'", env)
        except BaseException:
            env.close()
            raise
        return env, kwargs

    def describe(self) -> dict[str, Any]:
        return {"kind": self.name}

    def policy(self, env_id: str) -> RowByRow:
        make: dict[str, Callable[[], RowByRow]] = {"random": random_policy, "zero": zero_policy}
        return expert_policy(**TO_THE_GOAL) if self.name == "expert" else make[self.name]()
