"""Plan proposals: what they are conditioned on, the symmetry they keep, and that the flow learns a distribution."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from grasp_agent.core.capabilities import proposes
from grasp_agent.models import LatentWorldModel, WorldModelConfig
from grasp_agent.models.proposals.flow import PlanProposal, WindowContext


def model(layout: str = "planar_push", **changes: object) -> LatentWorldModel:
    settings: dict[str, object] = {
        "image_size": 16,
        "encoder_channels": 4,
        "encoder_keypoints": 4,
        "encoder_hidden": 16,
        "dynamics_hidden": 16,
        "decoder_channels": 0,
        "layout": layout,
        "state_size": 6,
        "proposal_hidden": 16,
        "proposal_depth": 1,
        "proposal_steps": 5,
    }
    torch.manual_seed(0)
    made = LatentWorldModel(WorldModelConfig(**{**settings, **changes})).eval()  # type: ignore[arg-type]
    if made.proposal is not None:
        torch.nn.init.normal_(made.proposal.out.weight)  # an untrained flow hands its noise on as it is
    return made


def a_problem(rows: int, block: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """History, past actions and goal of layout "planar_push"."""
    place = torch.randn(rows, 4, 4)
    angle = torch.rand(rows, 4) * 2 * math.pi
    states = torch.cat([place, angle.cos().unsqueeze(2), angle.sin().unsqueeze(2)], dim=2)
    return states[:, :3], torch.randn(rows, 2, 2 * block), states[:, 3]


def test_a_model_without_proposals_says_so() -> None:
    silent = model(proposal_hidden=0)
    assert not proposes(silent) and proposes(model())
    with pytest.raises(ValueError, match="makes no proposals"):
        silent.propose(*a_problem(1), torch.randn(1, 2, 5, 2))


@pytest.mark.parametrize("layout", ["planar_push", "free"])
def test_each_plan_follows_from_its_own_noise_and_row(layout: str) -> None:
    proposing = model(layout, action_block=1 if layout == "planar_push" else 2)
    states, past, goal = a_problem(3, proposing.action_block)
    noise = torch.randn(3, 4, 6, 2)
    plans = proposing.propose(states, past, goal, noise)
    assert plans.shape == (3, 4, 6, 2)
    alone = proposing.propose(states[1:2], past[1:2], goal[1:2], noise[1:2, 2:4])
    torch.testing.assert_close(alone, plans[1:2, 2:4], rtol=1e-4, atol=1e-4)
    shorter = proposing.propose(states, past, goal, noise[:, :, :3])
    assert shorter.shape == (3, 4, 3, 2)
    assert not torch.equal(proposing.propose(states, past, goal + 1, noise), plans)


@pytest.mark.parametrize(("layout", "block", "piece"), [("planar_push", 1, 5), ("free", 2, 4)])
def test_a_long_plan_goes_on_from_where_its_first_piece_leads(layout: str, block: int, piece: int) -> None:
    proposing = model(layout, action_block=block, action_limit=0.5)
    states, past, goal = a_problem(2, block)
    noise = torch.randn(2, 1, 6, 2)  # proposals have 5 steps, and a piece is made of whole blocks
    plans = proposing.propose(states, past, goal, noise)
    torch.testing.assert_close(
        plans[:, :, :piece], proposing.propose(states, past, goal, noise[:, :, :5])[:, :, :piece]
    )
    for actions in plans[:, 0, :piece].clamp(-0.5, 0.5).reshape(2, -1, 2 * block).unbind(1):
        window = torch.cat([past, actions.unsqueeze(1)], dim=1)
        states = torch.cat([states[:, 1:], proposing.predict(states, window).unsqueeze(1)], dim=1)
        past = window[:, 1:]
    later = torch.arange(piece, piece + 5) % 6
    torch.testing.assert_close(
        plans[:, :, piece:], proposing.propose(states, past, goal, noise[:, :, later])[:, :, : 6 - piece]
    )


def test_every_other_plan_looks_past_where_the_pusher_shall_stand() -> None:
    proposing = model()
    states, past, goal = a_problem(2)
    elsewhere = torch.cat([goal[:, :2] + 3.0, goal[:, 2:]], dim=1)
    noise = torch.randn(2, 6, 5, 2)
    gap = (proposing.propose(states, past, goal, noise) - proposing.propose(states, past, elsewhere, noise)).abs()
    assert not gap[:, 0::2].any() and gap[:, 1::2].amax(dim=(2, 3)).min() > 1e-4


def test_the_flow_learns_both_ways_round() -> None:
    """Data that go left or right with equal odds: proposals must do the same, and never their mean."""
    torch.manual_seed(0)
    context = WindowContext(state_size=1, action_dim=1, action_block=1, history=1, action_scale=0.5)
    proposal = PlanProposal(context, steps=2, action_dim=1, hidden=48, depth=1, action_scale=0.5)
    optimiser = torch.optim.Adam(proposal.parameters(), 5e-3)
    rows = 512

    def inputs(n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return torch.zeros(n, 1, 1), torch.zeros(n, 0, 1), torch.ones(n, 1), torch.ones(n, 1)

    for _ in range(250):
        side = torch.randint(0, 2, (rows, 1, 1)) * 2.0 - 1.0
        loss = proposal.loss(
            *inputs(rows), actions=side.expand(-1, 2, 1), noise=torch.randn(rows, 2, 1), time=torch.rand(rows, 1)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        plans = proposal(*inputs(1000), torch.randn(1000, 2, 1)).squeeze(2)
    assert 0.4 < (plans[:, 0] > 0).float().mean() < 0.6
    assert ((plans.abs() - 1).abs() < 0.4).all(dim=1).float().mean() > 0.8
    assert (plans[:, 0] * plans[:, 1] > 0).float().mean() > 0.95, "both steps to the same side"
