"""What recipes train last, on latents that stay as they are: distances in steps, and rewards. Both are optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.training.distance import DISTANCE, DISTANCE_HIDDEN, distance_errors, distance_stage
from grasp_agent.training.loop import Stage
from grasp_agent.training.outcomes import OUTCOME_HIDDEN, OUTCOMES, check_rewards, held_out_outcomes, outcomes_stage
from grasp_agent.training.recipe import Recipe, RecipeStage, Run, task_of


@dataclass(frozen=True, kw_only=True)
class HeadsRecipe(Recipe):
    """A recipe whose model may tell distances in steps and rewards.

    Attributes:
        distance: schedule of the distances in steps; its batch counts pairs of frames.
        detours: whether the model learns how many steps lie between states, for worlds in which the straight way is
            often none.
        outcomes: schedule of the rewards; its batch counts steps.
        rewards: whether the model foresees rewards.
        discount: what a reward one step later is worth.
    """

    distance: Stage = DISTANCE
    detours: bool = False
    outcomes: Stage = OUTCOMES
    rewards: bool = False
    discount: float = 0.99

    def heads(self, data: EpisodeDataset) -> dict[str, Any]:
        """What the settings of a model for these data say of its heads.

        Raises:
            ValueError: rewards are asked for, which the data lack.
        """
        if self.rewards:
            check_rewards(data)
        return {
            "distance_hidden": DISTANCE_HIDDEN if self.detours else 0,
            "outcome_hidden": OUTCOME_HIDDEN if self.rewards else 0,
            "discount": self.discount,
        }

    def head_stages(self) -> tuple[RecipeStage, ...]:
        """The last stages."""
        distance = (distance_stage(self.distance, self.seed),) if self.detours else ()
        return (*distance, outcomes_stage(self.outcomes)) if self.rewards else distance

    def head_metrics(self, run: Run) -> dict[str, Any]:
        """Errors on held-out episodes."""
        metrics: dict[str, Any] = {}
        if self.detours:
            metrics["distance"] = distance_errors(run, self.seed)
        if self.rewards:
            metrics["outcomes"] = held_out_outcomes(run, self.outcomes.batch)
        return metrics


def heads_for(data: EpisodeDataset) -> dict[str, Any]:
    """Which heads suit the data: distances in steps for mazes, rewards where the environment shows no goal."""
    return {"detours": task_of(data).detours, "rewards": data.rewards is not None and not data.shows_goals}
