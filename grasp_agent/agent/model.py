"""Making a world model ready for an agent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grasp_agent.core.types import WorldModel


def made_ready(model: WorldModel, device: torch.device | None) -> Tensor:
    """Put a module in evaluation mode and on `device` (None: where it is); other models stay as they are.

    Returns:
        An empty tensor with the device and the floating dtype that problems posed to the model have.
    """
    if isinstance(model, nn.Module):
        with torch.inference_mode(False):
            _without_inference_tensors(model)
            model.eval()
            if device is not None:
                model.to(device)
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    like = next((p for p in parameters if p.is_floating_point()), torch.empty(0))
    return torch.empty(0, dtype=like.dtype, device=like.device if device is None else device)


def _without_inference_tensors(module: nn.Module) -> None:
    """Replace weights made inside `torch.inference_mode()`, which could never take part in a gradient."""
    ordinary: dict[Tensor, Tensor] = {}  # modules may share weights
    for part in module.modules():
        parameters = part.named_parameters(recurse=False, remove_duplicate=False)
        buffers = part.named_buffers(recurse=False, remove_duplicate=False)
        for name, tensor in [*parameters, *buffers]:
            if not tensor.is_inference():
                continue
            if tensor not in ordinary:
                copy = tensor.detach().clone()
                ordinary[tensor] = (
                    nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
                )
            setattr(part, name, ordinary[tensor])
