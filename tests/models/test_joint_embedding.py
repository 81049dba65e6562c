"""Models whose latent is learnt by predicting it: shapes, colours, order of the cells, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from grasp_agent.core.capabilities import decodes, image_size_of, proposes
from grasp_agent.models import JointEmbeddingConfig, JointEmbeddingModel, load_world_model, save_pretrained
from grasp_agent.models.joint_embedding.dynamics import ConvDynamics
from grasp_agent.models.joint_embedding.encoders import ColourWhitening, ConvVectorHead, GridHead
from grasp_agent.models.latent.dynamics import ResidualDynamics, ResidualMLP

VECTOR = JointEmbeddingConfig(
    image_size=16,
    state_size=6,
    encoder_width=6,
    encoder_depth=1,
    patch=4,
    dynamics_hidden=16,
    dynamics_depth=1,
    decoder_channels=4,
    action_mean=(0.5, -1.0),
    action_std=(2.0, 4.0),
    action_limit=3.0,
)
GRID = replace(VECTOR, grid=4, state_size=3)
CONVOLVED = replace(VECTOR, head_channels=4, dynamics_blocks=2)


def frames(count: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("encoder", ["conv", "vit"])
@pytest.mark.parametrize(
    ("config", "shape"), [(VECTOR, (6,)), (CONVOLVED, (6,)), (GRID, (16, 3)), (replace(GRID, grid=3), (9, 3))]
)
def test_shapes(config: JointEmbeddingConfig, shape: tuple[int, ...], encoder: str) -> None:
    torch.manual_seed(0)
    model = JointEmbeddingModel(replace(config, encoder=encoder)).eval()
    assert model.state_shape == shape and image_size_of(model) == 16 and decodes(model) and not proposes(model)
    with torch.no_grad():
        latents = model.encode(frames(5))
        assert latents.shape == (5, *shape)
        assert torch.equal(latents, model.encode({"pixels": frames(5)}))
        window = latents.unsqueeze(1).expand(-1, 3, *shape)
        assert model.predict(window, torch.zeros(5, 3, 10)).shape == (5, *shape)
        assert model.inverse(latents, latents).shape == (5, 10)
        images = model.decode(latents)
    assert images.shape == (5, 16, 16, 3) and 0 <= float(images.min()) <= float(images.max()) <= 1


@pytest.mark.parametrize("config", [VECTOR, CONVOLVED, GRID])
def test_saved_and_loaded(config: JointEmbeddingConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = JointEmbeddingModel(config)
    model.whitening.fit(frames(20))
    model.encode(frames(20))  # moves the statistics of the normalisation
    model.eval()
    save_pretrained(model, tmp_path)
    loaded = load_world_model(tmp_path)
    assert loaded.config == config
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(frames(3)), model.encode(frames(3)))


def test_actions_are_told_in_the_datas_deviations() -> None:
    model = JointEmbeddingModel(VECTOR)
    steps = torch.tensor([[0.5, -1.0], [2.5, 3.0], [-1.5, -5.0], [0.5, 3.0], [0.5, -1.0]])
    found = model.normalised(steps.flatten().expand(2, 3, 10))
    wanted = torch.tensor([0.0, 0, 1, 1, -1, -1, 0, 1, 0, 0])
    torch.testing.assert_close(found, wanted.expand(2, 3, 10))


def test_latents_have_mean_0_and_deviation_1_in_training() -> None:
    torch.manual_seed(0)
    for config in (VECTOR, GRID):
        latents = JointEmbeddingModel(config).train().encode(frames(64)).detach().reshape(-1, config.state_size)
        torch.testing.assert_close(latents.mean(0), torch.zeros(config.state_size), atol=1e-4, rtol=0.0)
        torch.testing.assert_close(latents.std(0, correction=0), torch.ones(config.state_size), atol=1e-2, rtol=0.0)


def test_cells_lie_row_by_row() -> None:
    """A mark in the second row and the last column is in cell 1 * 4 + 3."""
    head = GridHead(1, GRID).eval()
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 3] = 1.0
    with torch.no_grad():
        cells = head(maps) - head(torch.zeros_like(maps))
    assert [i for i in range(16) if float(cells[0, i].abs().max()) > 1e-6] == [7]


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_predicted_cells_keep_their_places(frame: int) -> None:
    """What is far from a change in one cell, beyond the convolutions' reach, changes only by the mean of all cells."""
    torch.manual_seed(0)
    dynamics = ConvDynamics(12, 3, 10, 3, 16, 1)
    torch.nn.init.normal_(dynamics.out.weight)
    states, actions = torch.randn(1, 3, 144, 3), torch.randn(1, 3, 10)
    changed = states.clone()
    changed[0, frame, 2 * 12 + 9] += 1.0  # row 2, column 9
    with torch.no_grad():
        gap = (dynamics(changed, actions) - dynamics(states, actions)).abs().amax(2).view(12, 12)
    row, column = divmod(int(gap.argmax()), 12)
    assert row in (1, 2, 3) and column in (8, 9, 10)
    assert float(gap[8:, :4].max()) < 0.1 * float(gap.max())


def test_an_untrained_grid_stands_still() -> None:
    """The network says the change from the last frame, and begins with almost none."""
    torch.manual_seed(0)
    dynamics = ConvDynamics(4, 3, 10, 3, 16, 1)
    states = torch.randn(2, 3, 16, 3)
    with torch.no_grad():
        following = dynamics(states, torch.randn(2, 3, 10))
    assert float((following - states[:, -1]).square().mean()) < 0.1 * float(states.var())
    assert float((following - states[:, 0]).square().mean()) > float(states.var())


def test_actions_reach_every_cell() -> None:
    torch.manual_seed(0)
    dynamics = ConvDynamics(4, 3, 10, 3, 16, 1)
    states = torch.randn(1, 3, 16, 3)
    with torch.no_grad():
        gap = dynamics(states, torch.ones(1, 3, 10)) - dynamics(states, torch.zeros(1, 3, 10))
    assert float(gap.abs().amax(2).min()) > 0


def test_layers_over_all_cells_begin_as_nothing_and_then_reach_every_cell() -> None:
    """Behind every other block: two for a depth of 3."""
    torch.manual_seed(0)
    plain, mixing = ConvDynamics(12, 3, 10, 3, 16, 3), ConvDynamics(12, 3, 10, 3, 16, 3, mixing=32)
    assert len(mixing.mixing) == 2 and not len(plain.mixing)
    mixing.load_state_dict(plain.state_dict(), strict=False)
    states, actions = torch.randn(1, 3, 144, 3), torch.randn(1, 3, 10)
    changed = states.clone()
    changed[0, 2, 2 * 12 + 9] += 1.0
    with torch.no_grad():
        torch.testing.assert_close(mixing(states, actions), plain(states, actions))
        torch.nn.init.normal_(mixing.out.weight)
        # Far away a mean over all cells changes every cell alike. Other layers do not.
        for widened, least, most in ((0.0, 0.0, 1e-4), (1.0, 1e-2, float("inf"))):
            for block in mixing.mixing:
                torch.nn.init.normal_(block.widen.weight, std=widened)
            gap = (mixing(changed, actions) - mixing(states, actions)).view(12, 12, 3)
            assert least <= float(gap[7:11, 1:6].std((0, 1)).max()) < most


def test_a_head_with_convolutions_reads_the_cells_of_a_grid() -> None:
    """Its cells are those of a grid with the same weights, before they are put in rows; two numbers each."""
    torch.manual_seed(0)
    grid, head = GridHead(6, replace(GRID, state_size=2)), ConvVectorHead(6, CONVOLVED)
    head.cells[0].load_state_dict(grid.project.state_dict())
    maps = torch.randn(8, 6, 4, 4)
    rows = head.cells(maps).flatten(2).transpose(1, 2)
    torch.testing.assert_close(rows, grid(maps))
    torch.testing.assert_close(head(maps), head.net(rows.transpose(1, 2).unflatten(2, (4, 4))))


def test_residual_dynamics_read_the_present_its_changes_and_the_actions() -> None:
    """In this order, the changes four times as large."""
    torch.manual_seed(0)
    dynamics = ResidualDynamics(2, 1, 3, 16, 2)
    states = torch.tensor([[[0.0, 0.0], [1.0, 0.5], [3.0, 0.0]]])
    actions = torch.tensor([[[5.0], [6.0], [7.0]]])
    with torch.no_grad():
        assert float((dynamics(states, actions) - states[:, 2]).abs().max()) < 0.5, "untrained: stands still"
    read: list[torch.Tensor] = []
    dynamics.net.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    dynamics(states, actions)
    wanted = torch.tensor([[3.0, 0.0, 4.0, 2.0, 8.0, -2.0, 5.0, 6.0, 7.0]])
    torch.testing.assert_close(read[0], wanted)


def test_residual_blocks_begin_as_nothing_and_then_take_part() -> None:
    torch.manual_seed(0)
    network = ResidualMLP(3, 8, 2, 2)
    x = torch.randn(5, 3)
    with torch.no_grad():
        before = network(x)
        torch.testing.assert_close(before, network.last(network.first(x)))
        torch.nn.init.normal_(network.blocks[1][3].weight)
        assert float((network(x) - before).abs().max()) > 1e-3


def test_colours_are_whitened_and_come_back() -> None:
    """Red noise that is ten times as strong as blue counts no more than it afterwards."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 8, 8, 3, generator=generator) * torch.tensor([50.0, 20.0, 10.0])
    pictures = (128 + noise).clamp(0, 255).round().to(torch.uint8)
    whitening = ColourWhitening(8)
    whitening.fit(pictures)
    images = whitening(pictures)
    colours = images.permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(colours.mean(1), torch.zeros(3), atol=1e-3, rtol=0.0)
    torch.testing.assert_close(torch.cov(colours), torch.eye(3), atol=5e-2, rtol=0.0)
    torch.testing.assert_close(whitening.colours(images), pictures / 255, atol=1e-4, rtol=0.0)


def test_colours_that_never_change_are_not_blown_up() -> None:
    pictures = torch.full((4, 8, 8, 3), 200, dtype=torch.uint8)
    pictures[:, :4] = 100  # only brightness differs
    whitening = ColourWhitening(8)
    whitening.fit(pictures)
    pictures[0, 0, 0, 0] += 1
    assert float(whitening(pictures).abs().max()) < 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "mlp"}, "encoder: expected 'conv' or 'vit', got 'mlp'"),
        ({"state_size": 0}, "state_size: expected 1 or more, got 0"),
        ({"image_size": 18}, r"image_size: expected a multiple of patch \(4\), got 18"),
        ({"patch": 6, "image_size": 18}, "patch: expected a power of two from 4 up for encoder 'conv', got 6"),
        ({"encoder": "vit", "encoder_width": 7}, r"encoder_width: expected a multiple of encoder_heads \(3\), got 7"),
        ({"action_std": (1.0, 0.0)}, "action_std: expected positive numbers"),
        ({"action_mean": (1.0,)}, "action_mean: expected 2 finite numbers"),
        ({"action_limit": -1.0}, "action_limit: expected a positive number or None, got -1.0"),
        ({"grid": 4, "proposal_hidden": 8}, "proposal_hidden: expected 0 for a grid latent"),
        ({"head_channels": 3}, "head_channels: expected an even number, got 3"),
        ({"grid": 4, "head_channels": 4}, "head_channels: expected 0 for a grid latent"),
        ({"grid": 4, "dynamics_blocks": 2}, "dynamics_blocks: expected 0 for a grid latent"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(VECTOR, **changes)


def test_what_is_no_picture() -> None:
    model = JointEmbeddingModel(replace(VECTOR, decoder_channels=0))
    with pytest.raises(ValueError, match=r"encode: expected uint8 images of shape \[B, 16, 16, 3\], got torch.float32"):
        model.encode(torch.zeros(2, 16, 16, 3))
    with pytest.raises(ValueError, match="built without a decoder"):
        model.decode(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="makes no proposals"):
        model.propose(torch.zeros(1, 3, 6), torch.zeros(1, 2, 10), torch.zeros(1, 6), torch.zeros(1, 2, 10, 2))
