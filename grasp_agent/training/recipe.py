"""What can be trained: a recipe declares model, stages and metrics; `RECIPES` knows recipes by name.

Write a recipe of your own as a frozen dataclass that derives from `Recipe`, and make its name known:

    register_recipe("mine", lambda data: MyRecipe(size=data.image_size))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.tasks import Task, task_for
from grasp_agent.training.loop import Stage, TrainingTask

HORIZONS = (1, 5, 10, 25, 50)
"""How many environment steps ahead errors are reported, if the episodes are long enough."""


@dataclass(frozen=True)
class Run:
    """One training under way.

    Attributes:
        model: what is trained, a world model and `torch.nn.Module`.
        data: all episodes.
        training: numbers of the episodes to train on.
        held_out: numbers of the episodes to measure on.
        folder: where the state of training is kept.
        say: takes one line of text for the user.
    """

    model: Any
    data: EpisodeDataset
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    folder: Path
    say: Callable[[str], None]

    @property
    def horizon(self) -> int:
        """Model steps of the longest rollout that is measured, at least 1."""
        longest = min(HORIZONS[-1], int(self.data.lengths[self.held_out].max()) - 1)
        return longest // int(self.model.action_block)


@dataclass(frozen=True)
class RecipeStage:
    """One stage as a recipe declares it.

    Attributes:
        schedule: how long and how fast it learns.
        trains: what, in words.
        samples: what a batch counts, in words.
        task: makes its batches and losses; called when the stages before it are done.
    """

    schedule: Stage
    trains: str
    samples: str
    task: Callable[[Run], TrainingTask]


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """How a world model is trained. `train` calls the methods in the order in which they stand here.

    Attributes:
        held_out: share of the episodes kept for validation.
        seed: of initialisation and batches.
    """

    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out: expected a share between 0 and 1, got {self.held_out}; try 0.05")

    @abstractmethod
    def build(self, data: EpisodeDataset, training: NDArray[np.int64], held_out: NDArray[np.int64]) -> Any:
        """An untrained model of a registered class; its weights are drawn from torch's global generator.

        Args:
            data: all episodes.
            training: numbers of the episodes to train on.
            held_out: numbers of the episodes to measure on.

        Raises:
            ValueError: the data do not suit the recipe. What would fail after hours is said here.
        """

    @abstractmethod
    def stages(self) -> tuple[RecipeStage, ...]:
        """What is trained, one after the other."""

    @abstractmethod
    def report(self, run: Run) -> dict[str, Any]:
        """Metrics on the held-out episodes, JSON-serialisable; pictures of them go into the run's folder."""


RECIPES: dict[str, Callable[[EpisodeDataset], Recipe]] = {}
"""Every registered recipe by name, made for given data."""


def register_recipe(name: str, make: Callable[[EpisodeDataset], Recipe]) -> None:
    """Make a recipe known by its name, to `make_recipe` and to `grasp-agent train --recipe`.

    Args:
        name: of the recipe.
        make: the recipe for given data.
    """
    RECIPES[name] = make


def make_recipe(name: str, data: EpisodeDataset, steps: Mapping[str, int] | None = None, **settings: Any) -> Recipe:
    """A registered recipe for the data, with some of its settings changed.

    Args:
        name: one of `RECIPES`.
        data: what it will be trained on.
        steps: optimiser steps by the field that holds a stage's schedule, as in {"dynamics": 100}.
        settings: other fields of the recipe, as in seed=1.

    Raises:
        ValueError: no recipe of that name, or the recipe has no such stage or setting.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(sorted(RECIPES))}, got {name!r}")
    recipe = RECIPES[name](data)
    known = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    schedules = {field: value for field, value in known.items() if isinstance(value, Stage)}
    for kind, given, there in (("steps of", steps or {}, schedules), ("settings", settings, known)):
        if unknown := sorted(given.keys() - there.keys()):
            raise ValueError(f"recipe {name!r}: expected {kind} {', '.join(there)}, got {', '.join(unknown)}")
    changed: dict[str, Any] = {field: replace(schedules[field], steps=count) for field, count in (steps or {}).items()}
    return replace(recipe, **changed, **settings)


def task_of(data: EpisodeDataset) -> Task:
    """The task that the episodes of the first folder are recordings of."""
    return task_for(next(iter(data.settings[0].get("env_ids", ())), ""))
