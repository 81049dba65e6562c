"""Abilities of world models: found where they are, and not guessed where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dot_world import DotModel
from problems import LinearModel
from tiny_dino import tiny_dino
from tiny_model import TINY
from torch import Tensor

from grasp_agent.core.capabilities import (
    Bounded,
    Decoding,
    Picturing,
    Proposing,
    ReadingOut,
    Weighing,
    action_limit_of,
    decodes,
    distance_weights_of,
    image_size_of,
    proposes,
    readout_of,
)
from grasp_agent.models import LatentWorldModel


def bare() -> Any:
    return LinearModel([np.eye(2)], [np.ones((2, 1))], (2,), 1)


def test_a_bare_model_can_do_nothing_more() -> None:
    model = bare()
    assert not any(isinstance(model, each) for each in (Picturing, Bounded, Weighing, Decoding, Proposing, ReadingOut))
    assert (image_size_of(model), action_limit_of(model), distance_weights_of(model)) == (None, None, None)
    assert (decodes(model), proposes(model), readout_of(model)) == (False, False, None)


def test_an_ability_is_found_where_it_is() -> None:
    assert image_size_of(DotModel()) == 16 and image_size_of(DotModel(pixels=False)) is None
    model = bare()
    model.action_limit, model.distance_weights = 0.5, (1.0, 2.0)
    assert action_limit_of(model) == 0.5 and distance_weights_of(model) == (1.0, 2.0)


def test_an_ability_may_be_switched_off() -> None:
    class Silent:
        proposes = False
        decodes = True

        def propose(self, states: Tensor, past_actions: Tensor, goal: Tensor, noise: Tensor) -> Tensor:
            return noise

    silent: Any = Silent()
    assert isinstance(silent, Proposing) and not proposes(silent)
    assert not decodes(silent), "it says so, and has no method to"


def test_the_models_of_the_package_have_all_but_what_they_lack() -> None:
    torch.manual_seed(0)
    latent, patches = LatentWorldModel(TINY), tiny_dino(action_limit=0.25)
    for model in (latent, patches):
        assert isinstance(model, Picturing) and isinstance(model, Bounded) and isinstance(model, Decoding)
    assert isinstance(latent, Weighing) and isinstance(latent, Proposing) and isinstance(latent, ReadingOut)
    assert not isinstance(patches, Proposing) and not isinstance(patches, ReadingOut)
    assert (image_size_of(latent), image_size_of(patches)) == (16, 32)
    assert (decodes(latent), decodes(patches)) == (True, False)
    assert (action_limit_of(latent), action_limit_of(patches)) == (None, 0.25)
