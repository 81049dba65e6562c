"""Stage 3: hindsight goals, and plans that stand still once there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grasp_agent.data import EpisodeDataset
from grasp_agent.models import LatentWorldModel, load_world_model
from grasp_agent.training import LatentRecipe, train
from grasp_agent.training.proposal import ProposalTask

MakeRecipe = Callable[..., LatentRecipe]


def with_proposal(recipe: LatentRecipe) -> LatentRecipe:
    model = replace(recipe.model, proposal_hidden=16, proposal_depth=1, proposal_steps=10)
    return replace(recipe, model=model, proposal=replace(recipe.encoder, name="proposal"))


def test_goals_lie_ahead_on_the_same_trajectory_and_plans_end_there(
    write_episodes: Callable[..., EpisodeDataset], tiny_recipe: MakeRecipe
) -> None:
    numbers = np.arange(50, dtype=np.float32) + 1  # frame i has latent i + 1 throughout, and action (i + 1, -(i + 1))
    data = write_episodes([20, 30], actions=np.stack([numbers, -numbers], 1))
    recipe = with_proposal(tiny_recipe("free"))
    model = LatentWorldModel(replace(recipe.model, action_block=1, state_size=1))
    task = ProposalTask(model, data, numbers[:, None], np.arange(2), batch=400, symmetry=False)
    states, past, goal, shown, actions, noise, time = task.draw(np.random.default_rng(0))
    now, then = states[:, -1, 0].long(), goal[:, 0].long()
    assert states.shape == (400, 3, 1) and past.shape == (400, 2, 2) and actions.shape == noise.shape == (400, 10, 2)
    assert ((now > 20) == (then > 20)).all() and (then > now).all()
    assert {int(gap) for gap in then - now} >= {1, 2, 5, 10, 19}
    for t in range(10):
        wanted = torch.where(now + t < then, now + t, 0)
        assert torch.equal(actions[:, t, 0].long(), wanted) and torch.equal(actions[:, t, 1], -actions[:, t, 0])
    assert set(shown.flatten().tolist()) == {0.0, 1.0} and 0 <= float(time.min()) < float(time.max()) < 1
    with pytest.raises(ValueError, match="proposal_hidden = 0"):
        ProposalTask(
            LatentWorldModel(replace(model.config, proposal_hidden=0)), data, numbers[:, None], np.arange(2), 4, False
        )


@pytest.mark.parametrize("layout", ["planar_push", "free"])
def test_training_adds_proposals_to_a_model(
    layout: str, pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe(layout)
    train(pusht_data, recipe, tmp_path / "plain")
    plain = load_world_model(tmp_path / "plain" / "model")
    messages: list[str] = []
    quick = replace(with_proposal(recipe), encoder=replace(recipe.encoder, steps=1, learning_rate=1e-9))
    train(pusht_data, quick, tmp_path / "more", initial=tmp_path / "plain" / "model", on_message=messages.append)
    model = load_world_model(tmp_path / "more" / "model")
    assert [m[:12] for m in messages if m.startswith("stage")] == [f"stage {i} of 3" for i in (1, 2, 3)]
    assert isinstance(model, LatentWorldModel) and isinstance(plain, LatentWorldModel)
    for name, weight in plain.encoder.named_parameters():
        torch.testing.assert_close(weight, model.encoder.get_parameter(name), rtol=0, atol=1e-6)
    assert model.proposes and model.proposal is not None and model.proposal.out.weight.abs().max() > 0


def test_stages_of_no_steps_keep_what_the_initial_model_has(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = with_proposal(tiny_recipe("planar_push", steps=2))
    train(pusht_data, recipe, tmp_path / "one")
    one = load_world_model(tmp_path / "one" / "model")
    still = {name: replace(getattr(recipe, name), steps=0) for name in ("encoder", "dynamics", "proposal")}
    units = replace(recipe.model, action_scale=9.0, radius=7.0, action_limit=0.25)  # as other data might have it
    further = replace(recipe, model=units, encoder=still["encoder"], proposal=still["proposal"])
    messages: list[str] = []
    train(pusht_data, further, tmp_path / "two", initial=tmp_path / "one" / "model", on_message=messages.append)
    two = load_world_model(tmp_path / "two" / "model")
    assert [m.rpartition(": ")[2] for m in messages if m.startswith("stage")][::2] == ["kept", "kept"]
    assert replace(two.config, action_limit=None) == replace(one.config, action_limit=None)
    assert two.config.action_limit == 0.25, "what the new data cover"
    changed = {
        n.split(".")[0] for n, weight in one.state_dict().items() if not torch.equal(weight, two.state_dict()[n])
    }
    assert changed == {"dynamics"}
    with pytest.raises(
        ValueError, match=r"encoder\.steps: expected at least 1, got 0, which would leave random weights"
    ):
        train(pusht_data, further, tmp_path / "three")
    with pytest.raises(ValueError, match="got 0 for all, which would train nothing"):
        train(pusht_data, replace(recipe, **still), tmp_path / "three", initial=tmp_path / "one" / "model")
    assert not (tmp_path / "three").exists()


def test_a_model_of_other_sizes_is_no_beginning(
    pusht_data: EpisodeDataset, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("planar_push", steps=1)
    train(pusht_data, recipe, tmp_path / "one")
    wider = replace(recipe, model=replace(recipe.model, dynamics_hidden=17))
    with pytest.raises(ValueError, match="expected a model with the recipe's sizes, but dynamics"):
        train(pusht_data, wider, tmp_path / "two", initial=tmp_path / "one" / "model")
    with pytest.raises(ValueError, match="unknown world model 'nothing'"):
        train(pusht_data, recipe, tmp_path / "two", initial="nothing")
    assert not (tmp_path / "two").exists(), "a mistake leaves nothing behind"
