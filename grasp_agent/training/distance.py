"""The stage that learns how many steps lie between states, from the shortest ways that the data know.

    landmarks   latents of the data, each as far as can be from those before it (farthest-point sampling), until all
                others are within half a step of one
    graph       an edge from i to j, as long as the fewest steps, up to REACH, in which the data go from a frame near i
                to one near j
    D           the shortest ways in the graph (Dijkstra)
    loss        mean over pairs of frames of  huber( || phi(s) - phi(g) || - D(i(s), i(g)) )

i(s) is the landmark nearest to s, by the model's own distance. Ways are pieced together from what different episodes
did, as in search on the replay buffer (Eysenbach et al., arXiv 1906.05253): nobody need ever have gone all the way.
phi lays them out in a space, as Isomap does (Tenenbaum et al., 2000); where the way back is another one, it takes the
mean of both. Steps are few rather than many: near a landmark counts as at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from grasp_agent.core.capabilities import distance_weights_of
from grasp_agent.data.dataset import EpisodeDataset
from grasp_agent.models.steps_apart import TellingSteps
from grasp_agent.training.latent import latents_of
from grasp_agent.training.loop import Batch, Losses, Stage
from grasp_agent.training.recipe import RecipeStage, Run

DISTANCE = Stage("distance", steps=3_000, batch=512, learning_rate=1e-3)
DISTANCE_HIDDEN = 128

LANDMARKS = 1500
"""At most: the shortest ways between them take seconds and a few MB."""
CANDIDATES = 20_000
"""Frames among which landmarks are looked for."""
REACH = 10
"""Environment steps of the longest edge."""
HUBER = 5.0
"""Steps of error up to which errors count squared."""


def shortest_ways(
    points: NDArray[np.float32], data: EpisodeDataset, episodes: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The shortest ways between landmarks of the data.

    Args:
        points: all frames in a space whose straight lines tell what is near, [F, D].
        data: boundaries of the episodes.
        episodes: whose transitions make the graph.
        seed: of the choice among many frames.

    Returns:
        The landmark nearest to each frame [F], and the steps from landmark to landmark [M, M], infinite where no way is
        known.
    """
    frames = data.frame_numbers(episodes)
    generator = np.random.default_rng(seed)
    some = points[generator.choice(frames, min(CANDIDATES, len(frames)), replace=False)]
    begin = data.windows(episodes, 2)
    moves = np.linalg.norm(points[begin + 1] - points[begin], axis=1)
    step = np.median(moves[moves > 0]) if moves.any() else 0.0
    marks = some[_far_apart(some, LANDMARKS, step / 2)]
    nearest = cKDTree(marks).query(points)[1].astype(np.int64)
    last = np.repeat(data.starts + data.lengths - 1, data.lengths)
    fewest = np.full(len(marks) ** 2, np.inf, dtype=np.float32)
    for steps in range(REACH, 0, -1):  # fewer steps overwrite more
        begin = frames[frames + steps <= last[frames]]
        fewest[nearest[begin] * len(marks) + nearest[begin + steps]] = steps
    edges = np.flatnonzero(np.isfinite(fewest))
    one, other = np.divmod(edges, len(marks))
    between = one != other
    graph = coo_matrix((fewest[edges[between]], (one[between], other[between])), shape=(len(marks), len(marks)))
    return nearest, dijkstra(graph.tocsr()).astype(np.float32)


def _far_apart(points: NDArray[np.float32], most: int, near: float) -> NDArray[np.int64]:
    """Numbers of up to `most` points [N, D], each the farthest from those before it and farther than `near`."""
    chosen, gaps = [0], ((points - points[0]) ** 2).sum(1)
    while len(chosen) < most and gaps.max() > near**2:
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, ((points - points[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)


class DistanceTask:
    """Batches and losses of the stage.

    Args:
        model: its `steps_apart` is trained.
        data: boundaries of the episodes.
        latents: of all frames, [F, *S].
        episodes: to train on.
        batch: pairs per step.
        seed: of the landmarks.

    Raises:
        ValueError: the model has no such network.
    """

    def __init__(
        self,
        model: Any,
        data: EpisodeDataset,
        latents: NDArray[np.float32],
        episodes: NDArray[np.int64],
        batch: int,
        seed: int = 0,
    ) -> None:
        network = model.steps_apart if isinstance(model, TellingSteps) else None
        if network is None:
            raise ValueError("training a distance: expected a model that has one, got distance_hidden = 0")
        self.module = network
        self.frames = data.frame_numbers(episodes)
        self.latents = torch.from_numpy(latents.reshape(len(latents), -1))
        nearest, ways = shortest_ways(points_of(model, latents), data, episodes, seed)
        self.nearest, self.ways = torch.from_numpy(nearest), torch.from_numpy(ways)
        self.batch = batch

    def fit_scales(self) -> None:
        """Standardise latents by the task's episodes; before the first step of training."""
        self.module.fit_scales(self.latents[torch.from_numpy(self.frames)])

    def draw(self, generator: np.random.Generator) -> Batch:
        one, other = (torch.from_numpy(generator.choice(self.frames, self.batch)) for _ in range(2))
        return self.latents[one], self.latents[other], self.ways[self.nearest[one], self.nearest[other]]

    def losses(self, batch: Batch, progress: float) -> Losses:
        states, goals, steps = batch
        known = steps.isfinite()
        told = (self.module(states) - self.module(goals)).square().sum(1).clamp(min=1e-8).sqrt()
        errors = functional.huber_loss(told, torch.where(known, steps, told.detach()), delta=HUBER, reduction="sum")
        return {"loss": errors / known.sum().clamp(min=1)}


def points_of(model: Any, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Latents [F, *S] as points [F, D] that lie as far apart as the model says of its latents."""
    flat, weights = latents.reshape(len(latents), -1), distance_weights_of(model)
    return flat if weights is None else flat * np.sqrt(np.asarray(weights, np.float32).reshape(-1))


def distance_stage(schedule: Stage, seed: int) -> RecipeStage:
    """The stage as recipes declare it, on the latents of the stages before it."""

    def task(run: Run) -> DistanceTask:
        made = DistanceTask(run.model, run.data, latents_of(run), run.training, schedule.batch, seed)
        made.fit_scales()
        if (known := float(made.ways.isfinite().float().mean())) < 0.9:
            run.say(f"the data know a way between only {known:.0%} of their places; record more, or longer episodes")
        return made

    return RecipeStage(schedule, "distances in steps", "pairs", task)


@torch.inference_mode()
def distance_errors(run: Run, seed: int, pairs: int = 5000) -> dict[str, float]:
    """How well distances are told between held-out frames, compared to the shortest ways that all the data know.

    Returns:
        "known": share of pairs between which the data know a way; "error": median error in steps; "ranks" and
        "straight_ranks": Spearman's rank correlation with these ways, of the learned distance and of the straight one
        between latents. Without known pairs, "known" alone.
    """
    latents, everything = latents_of(run), np.concatenate([run.training, run.held_out])
    points = points_of(run.model, latents)
    nearest, ways = (torch.from_numpy(x) for x in shortest_ways(points, run.data, everything, seed))
    generator = np.random.default_rng(seed)
    frames = run.data.frame_numbers(run.held_out)
    one, other = (torch.from_numpy(generator.choice(frames, pairs)) for _ in range(2))
    steps = ways[nearest[one], nearest[other]]
    known = steps.isfinite()
    table = {"known": round(float(known.float().mean()), 4)}
    if known.any():
        space = run.model.in_steps(torch.from_numpy(latents)[torch.cat([one, other])].to(run.model.device)).cpu()
        told = (space[:pairs] - space[pairs:]).norm(dim=1)[known]
        straight = torch.from_numpy(points[one] - points[other]).norm(dim=1)[known]
        table["error"] = round(float((told - steps[known]).abs().median()), 3)
        table["ranks"], table["straight_ranks"] = (_ranks(x, steps[known]) for x in (told, straight))
    return table


def distance_sentence(metrics: Mapping[str, Any]) -> str | None:
    """How well distances in steps are told, as `train` found it; None if they were not learned."""
    found = metrics.get("distance", {})
    if "ranks" not in found:
        return None
    return (
        f"distances are told to {found['error']:.1f} steps (median) and sort pairs of places with a rank correlation of"
        f" {found['ranks']:.3f}; straight ones with {found['straight_ranks']:.3f}"
    )


def _ranks(one: Tensor, other: Tensor) -> float:
    return round(float(spearmanr(one.numpy(), other.numpy())[0]), 4)
