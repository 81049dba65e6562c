"""DINOv2 as a frozen source of patch features, through `transformers` (extra `[dino]`).

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193. Its position
embeddings belong to the grid it was trained on (37 x 37 patches of 14 px). They are resampled once, when the
backbone is loaded, the way the original code does it: bicubic, with the scale (g + 0.1) / 37 for a grid of g x g.
`transformers` scales by g / 37, which at g = 14 moves the far corner by a quarter of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

OFFSET = 0.1


def load_backbone(name_or_path: str | Path, grid: int) -> nn.Module:
    """Load a DINOv2 model, frozen, for images of `grid` x `grid` patches.

    Args:
        name_or_path: a folder that `transformers` wrote, or a Hugging Face hub id such as
            "facebook/dinov2-small".
        grid: patches per side of the images it will see.

    Returns:
        A `transformers.Dinov2Model` in evaluation mode; its `config.image_size` is the side in px of the images it
        now expects.

    Raises:
        ImportError: `transformers` is not installed.
        ValueError: nothing of that name, another kind of model, or weights that are missing.
    """
    try:
        import transformers
    except ImportError:
        raise ImportError("DINOv2 features need the package transformers: pip install 'grasp-agent[dino]'") from None
    model: Any = transformers.Dinov2Model
    try:
        kind = transformers.AutoConfig.from_pretrained(str(name_or_path)).model_type
        if kind != "dinov2":
            raise ValueError(f"it is a model of type {kind!r}")
        with _quiet(), torch.random.fork_rng():  # some versions draw weights before they load them
            backbone, report = model.from_pretrained(str(name_or_path), output_loading_info=True)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"backbone {str(name_or_path)!r}: expected a folder or a hub id with a DINOv2 model, such as"
            f" 'facebook/dinov2-small', got none ({reason})"
        ) from None
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise ValueError(f"backbone {str(name_or_path)!r}: expected all weights of a DINOv2 model, missing {missing}")
    return fit_to_grid(backbone.float(), grid)


def save_backbone(backbone: nn.Module, folder: Path) -> None:
    """Write the backbone to `folder` so that `load_backbone` reads it, with whichever version of `transformers`."""
    model: Any = backbone
    with _quiet():
        model.save_pretrained(folder)


def fit_to_grid(backbone: nn.Module, grid: int) -> nn.Module:
    """Freeze a `transformers.Dinov2Model` and resample its position embeddings, in place, for `grid` x `grid` patches.

    Raises:
        ValueError: the grid has no patches.
    """
    if grid < 1:
        raise ValueError(f"grid: expected at least 1 patch per side, got {grid}")
    model: Any = backbone
    table: Tensor = model.embeddings.position_embeddings.data
    if table.shape[1] != 1 + grid**2:
        model.embeddings.position_embeddings = nn.Parameter(_resampled(table, grid))
    model.config.image_size = grid * int(model.config.patch_size)
    return backbone.requires_grad_(False).eval()


def _resampled(table: Tensor, grid: int) -> Tensor:
    """Position embeddings [1, 1 + g * g, F], the class token's first -> [1, 1 + grid * grid, F]."""
    side = math.isqrt(table.shape[1] - 1)
    square = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = (grid + OFFSET) / side
    square = functional.interpolate(square.float(), scale_factor=(scale, scale), mode="bicubic").to(table.dtype)
    return torch.cat([table[:, :1], square.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `transformers`, which would end up among the caller's output."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
