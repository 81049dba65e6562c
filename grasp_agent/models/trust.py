"""How many steps ahead the predictions of a trained model are to be believed.

Training rolls the model out on held-out episodes and keeps, by steps ahead, the error of the predicted latent over the
latents' spread: at 1 the model knows no more than where things usually are. Believed are the steps before that error
first passes `BELIEVED`. How well this suits is measured in docs/planning.md, "How far a model is to be believed".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

LATENT_ERRORS = "relative_latent_error_by_step"
"""Where the metrics of a training hold these errors: {"5": 0.03, "10": 0.05, ...}, by environment steps ahead."""

BELIEVED = 0.25
"""Largest error over spread that is believed."""


def trusted_steps(metrics: Any) -> int | None:
    """Environment steps ahead up to which a model is to be believed.

    Args:
        metrics: of its training.

    Returns:
        The last step before the error passes `BELIEVED`, 0 if the first one does; the last one measured if none does.
        None if nothing was measured.
    """
    errors = metrics.get(LATENT_ERRORS) if isinstance(metrics, Mapping) else None
    if not isinstance(errors, Mapping) or not errors:
        return None
    try:
        by_step = sorted((int(step), float(error)) for step, error in errors.items())
    except (TypeError, ValueError):  # written by somebody else
        return None
    return max((step for step, _ in takewhile(lambda pair: pair[1] <= BELIEVED, by_step)), default=0)


def trust_sentence(metrics: Any) -> str | None:
    """The same in words; None if nothing was measured."""
    steps = trusted_steps(metrics)
    if steps is None:
        return None
    if steps == 0:
        return "the model is not to be believed even one step ahead; try more data or longer training"
    return f"predictions are to be believed up to {steps} environment steps ahead"
