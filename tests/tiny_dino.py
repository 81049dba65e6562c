"""A DINO-WM small enough for tests: a DINOv2 of one layer with random weights, nothing downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from grasp_agent.models import DinoWMConfig, DinoWorldModel
from grasp_agent.models.dino_wm.backbone import fit_to_grid

FEATURES = 24
PATCH = 8


def tiny_backbone(grid: int, seed: int = 1) -> nn.Module:
    """DINOv2 with patches of 8 px, `grid` x `grid` of them."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=FEATURES,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=PATCH,
        image_size=PATCH * grid,
    )
    backbone = Dinov2Model(config)
    generator = torch.Generator().manual_seed(seed)
    for weight in backbone.parameters():  # drawn here, since every version of transformers draws others
        if weight.ndim > 1:
            deviation = (weight[0].numel() if weight.ndim != 3 else 4) ** -0.5
            nn.init.normal_(weight, std=deviation, generator=generator)
    return fit_to_grid(backbone, grid)


def tiny_dino(**changes: Any) -> DinoWorldModel:
    """Frames of 32 px, 2 x 2 patches, blocks of 5; dropout is on, as published, for training."""
    settings: dict[str, Any] = {
        "image_size": 32,
        "grid": 2,
        "action_features": 6,
        "proprio_features": 4,
        "depth": 2,
        "heads": 2,
        "dim_head": 8,
        "mlp_dim": 32,
    }
    config = DinoWMConfig(**{**settings, **changes})
    torch.manual_seed(0)
    return DinoWorldModel(config, tiny_backbone(config.grid)).eval()
