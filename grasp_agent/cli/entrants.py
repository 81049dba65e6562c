"""From the words of a command to the entrants of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from grasp_agent.cli.options import env_options, say
from grasp_agent.core.by_name import by_name
from grasp_agent.tasks import DEFAULT_TASK, advice_for, foreign_to, objective_for, task_for

if TYPE_CHECKING:
    from grasp_agent.core.types import Budget, Objective

AS_MANY_AS_POSSIBLE = 10_000
"""Iterations that no time limit leaves room for."""


@dataclass(frozen=True)
class Planning:
    """How the planners among the entrants plan.

    Attributes:
        model: world model: a shipped name, a folder, a hub id, or "module:factory"; None means what ships for the
            environment.
        seconds: wall-clock limit of a decision; None means no limit.
        iterations: planner iterations of a decision; None means the planner's own, or as many as `seconds` allow.
        horizon: model steps a plan spans; None means what the model names, or 25 environment steps.
        replan_every: environment steps between plans.
        goal_weights: how much each latent number counts in the distance to a goal; none means what the task says.
    """

    model: str | None = None
    seconds: float | None = None
    iterations: int | None = None
    horizon: int | None = None
    replan_every: int = 1
    goal_weights: tuple[float, ...] = ()

    @property
    def budget(self) -> Budget | None:
        """When a decision is over; None means that the planner says so."""
        from grasp_agent.core.types import Budget

        if self.seconds is None and self.iterations is None:
            return None
        return Budget(AS_MANY_AS_POSSIBLE if self.iterations is None else self.iterations, self.seconds)


def entrants_of(
    policies: tuple[str, ...], env: str, env_kwargs: Mapping[str, Any], planning: Planning, trust: bool
) -> dict[str, Any]:
    """Turn policy names into entrants of an evaluation.

    Args:
        policies: names of planners, references and baselines; NAME=PATH.zip; NAME=module:factory, whose factory makes
            an object with `predict`.
        env: environment id.
        env_kwargs: its arguments.
        planning: how planners plan.
        trust: whether to load .zip files of others.

    Raises:
        ValueError: a name that is unknown or given twice, or settings that do not suit the model.
    """
    from grasp_agent.evaluation import REFERENCES
    from grasp_agent.evaluation.policies import saved_policy
    from grasp_agent.planning import PLANNERS

    entrants: dict[str, Any] = {}
    planned: _Planned | None = None
    baselines = {**DEFAULT_TASK.baselines, **task_for(env).baselines}
    for policy in policies:
        name, _, source = policy.partition("=")
        if not name:
            raise ValueError(f"--policy {policy}: expected a name before the =, as in mine=my_policy.zip")
        if name in entrants:
            raise ValueError(f"--policy {name}: expected different names, got {name!r} twice")
        if source.endswith(".zip"):
            entrants[name] = saved_policy(source, trust=trust)
        elif ":" in source:
            entrants[name] = made_by(f"--policy {name}", source)
        elif source:
            entrants[name] = source
        elif name in baselines:
            entrants[name] = baselines[name]
        elif name in REFERENCES:
            entrants[name] = name
        elif name in PLANNERS:
            if planned is None:
                planned = _Planned.of(env, env_kwargs, planning)
            entrants[name] = planned.agent(name)
        else:
            known = [*PLANNERS, *REFERENCES, *baselines, "NAME=PATH.zip", "NAME=module:factory"]
            raise ValueError(f"--policy {policy}: expected one of {', '.join(known)}")
    return entrants


def model_name(given: str | None, env: str, env_kwargs: Mapping[str, Any]) -> str:
    """The world model that the user names, else what ships for the environment.

    Raises:
        ValueError: none is named and none ships.
    """
    name = given or task_for(env).model_for(env_kwargs)
    if name is None:
        arguments = env_options(env_kwargs)
        raise ValueError(
            f"--model: expected a world model, none ships for {env}{arguments}; make one with"
            f" `grasp-agent collect --env {env}{arguments}` and `grasp-agent train`{advice_for(env)}"
        )
    return name


def made_by(option: str, source: str) -> Any:
    """What "module:factory" makes, called without arguments; see `by_name`."""
    return by_name(option, source)()


@dataclass(frozen=True)
class _Planned:
    """What the planners among the entrants share.

    Attributes:
        model: the world model.
        space: the environment's action space.
        objective: what plans are judged by; None means the agent's own choice.
        planning: how they plan.
    """

    model: Any
    space: Any
    objective: Objective | None
    planning: Planning

    @classmethod
    def of(cls, env: str, env_kwargs: Mapping[str, Any], planning: Planning) -> Self:
        """Load the world model and look at the environment once."""
        from grasp_agent.models import load_world_model
        from grasp_agent.rollouts.environments import open_for_model

        name = model_name(planning.model, env, env_kwargs)
        model: Any = made_by("--model", name) if _is_factory(name) else load_world_model(name)
        if foreign := foreign_to(env, env_kwargs, model):
            say(f"note: {foreign}")
        weights = planning.goal_weights
        if weights and (len(weights),) != tuple(model.state_shape):
            raise ValueError(
                f"--goal-weights: expected {model.state_shape[0]} numbers, one per number of the latent, got"
                f" {len(weights)}"
            )
        with closing(open_for_model(model, env, env_kwargs)[0]) as probe:
            shows_goal = task_for(env).goal(*probe.reset(seed=0)) is not None
            return cls(model, probe.action_space, objective_for(env, model, shows_goal, weights), planning)

    def agent(self, name: str) -> Any:
        """An agent with the planner of this name."""
        from grasp_agent.agent.agent import MPCAgent
        from grasp_agent.planning import planner_for

        planning = self.planning
        return MPCAgent(
            self.model,
            self.space,
            planner_for(name, self.model, self.objective),
            objective=self.objective,
            budget=planning.budget,
            horizon=planning.horizon,
            replan_every=planning.replan_every,
        )


def _is_factory(model: str) -> bool:
    return ":" in model and not model.startswith((".", "/", "~")) and "\\" not in model
