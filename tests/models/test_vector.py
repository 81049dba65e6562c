"""World models of vectors: standardised inside, saved and loaded, and what they foresee."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from grasp_agent.core.capabilities import Rewarding, distance_weights_of, foresees_rewards, image_size_of, proposes
from grasp_agent.models import VectorModel, load_world_model, save_pretrained
from grasp_agent.models.vector import VectorConfig


def model(**changes: object) -> VectorModel:
    torch.manual_seed(0)
    return VectorModel(VectorConfig(**{"size": 3, "action_dim": 2, "hidden": 16, **changes}))  # type: ignore[arg-type]


def test_observations_are_standardised_by_the_data() -> None:
    made = model()
    seen = torch.tensor([[0.0, 10.0, 5.0], [2.0, 30.0, 5.0]])
    made.fit_scales(seen, torch.tensor([[0.1, 2.0, 0.0], [-0.1, -2.0, 0.0]]))
    latents = made.encode(seen)
    torch.testing.assert_close(latents.mean(0)[:2], torch.zeros(2))
    torch.testing.assert_close(latents.std(0)[:2], torch.ones(2))
    # what never changed stays as it is, wherever the actions go
    following = made.predict(latents.unsqueeze(1), torch.randn(2, 1, 2))
    torch.testing.assert_close(following[:, 2], latents[:, 2])
    assert not torch.equal(following[:, 0], latents[:, 0])


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(1, 4), torch.zeros(1, 3, 1)])
def test_other_observations_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected vectors of 3 numbers"):
        model().encode(wrong)


def test_only_what_goals_are_about_counts_in_their_distance() -> None:
    assert distance_weights_of(model(goal_size=1)) == (0.0, 0.0, 1.0)
    assert distance_weights_of(model()) is None
    with pytest.raises(ValueError, match="goal_size: expected at most size"):
        VectorConfig(size=2, action_dim=1, goal_size=3)


def test_abilities_follow_from_the_settings() -> None:
    plain, able = model(), model(proposal_hidden=8, outcome_hidden=8, discount=0.9)
    assert (proposes(plain), foresees_rewards(plain), image_size_of(plain)) == (False, False, None)
    assert (proposes(able), foresees_rewards(able), able.discount) == (True, True, 0.9)
    assert isinstance(able, Rewarding)
    with pytest.raises(ValueError, match="foresees none"):
        plain.outcome(torch.zeros(1, 1, 3), torch.zeros(1, 2))


def test_it_is_saved_and_loaded_with_its_scales(tmp_path: Path) -> None:
    made = model(proposal_hidden=8, outcome_hidden=8)
    made.fit_scales(torch.randn(9, 3) * 4 + 2, torch.randn(9, 3))
    assert made.outcomes is not None
    made.outcomes.fit_scales(torch.randn(9, 1, 3), torch.arange(9.0), torch.arange(9.0) * 10)
    again = load_world_model(save_pretrained(made, tmp_path / "m"))
    assert isinstance(again, VectorModel)
    obs, actions = torch.randn(4, 3), torch.randn(4, 2)
    torch.testing.assert_close(again.encode(obs), made.encode(obs))
    seen = made.encode(obs)[:, None]
    for told, wanted in zip(again.outcome(seen, actions), made.outcome(seen, actions), strict=True):
        torch.testing.assert_close(told, wanted)
    torch.testing.assert_close(again.value(seen), made.value(seen))
