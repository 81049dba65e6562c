"""An environment with goals, opened as a world model needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from grasp_agent.agent.observations import GOAL_KEYS
from grasp_agent.core.capabilities import look_ahead_of
from grasp_agent.core.types import WorldModel
from grasp_agent.rollouts.environments import open_for_model
from grasp_agent.rollouts.policies import announced_goal, as_agents_see
from grasp_agent.tasks import DEFAULT_TASK, Task, task_for
from grasp_agent.tasks.task import bare_id


@dataclass(frozen=True)
class GoalEnv:
    """Where planners meet goals.

    Some environments can be asked for goals that are so many steps away. Others set their goals themselves.

    Attributes:
        env_id: as `gymnasium.make` takes it; its observations show goals, or the `info` of `reset` announces them.
        env_kwargs: arguments of the environment.
    """

    env_id: str = DEFAULT_TASK.default_env_ids[0]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        return task_for(self.env_id)

    @property
    def sets_distance(self) -> bool:
        """Whether the environment can be asked how far away goals are."""
        return bare_id(self.env_id) in self.task.goal_distance_kwargs

    def look_ahead(self, model: WorldModel) -> int:
        """Environment steps that plans span, unless somebody says otherwise."""
        return look_ahead_of(model) or self.task.look_ahead

    def open(
        self, model: WorldModel, steps: int | None = None, **more: Any
    ) -> tuple[gym.Env[Any, Any], dict[str, Any]]:
        """Make the environment.

        Args:
            model: who looks.
            steps: to the goals, where the environment can be asked; None leaves it the choice.
            more: further arguments.

        Returns:
            The environment, and the arguments it was made with.

        Raises:
            ValueError: no such environment, or it does not show what the model sees.
        """
        goals = self.task.goals_at(self.env_id, steps) if self.sets_distance else {}
        return open_for_model(model, self.env_id, {**self.env_kwargs, **goals, **more})

    def begin(self, env: gym.Env[Any, Any], seed: int) -> dict[str, Any]:
        """Begin an episode -> its first observation and its goal, under the names that agents know.

        Raises:
            ValueError: there is no goal.
        """
        observation, info = env.reset(seed=seed)
        seen = as_agents_see(self.task, observation, announced_goal(self.task, observation, info))
        if not any(key in seen for key in GOAL_KEYS):
            raise ValueError(
                f"environment {self.env_id!r}: expected goals, in observations or in the info of reset, got none; try"
                " `grasp-agent evaluate`, which compares returns"
            )
        return seen
