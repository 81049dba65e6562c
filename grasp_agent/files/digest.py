"""Short identities of files, models and settings, by which runs tell whether they are the same."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MethodType
from typing import Any

from torch import Tensor, nn


def sha256(content: bytes | Path) -> str:
    """The SHA-256 of some bytes, or of a file's, in hex digits."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: Any) -> str:
    """The SHA-256 of JSON content, whatever the order of its keys and its spaces."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def file_digest(path: str | Path) -> str:
    """First 16 hex digits of a file's SHA-256."""
    return sha256(Path(path))[:16]


def model_digest(model: Any) -> str:
    """First 16 hex digits of the SHA-256 of a model's state, names and values; `stable_repr` of what is no module."""
    return _state_digest(model) if isinstance(model, nn.Module) else stable_repr(model)


def stable_repr(value: Any) -> str:
    """A repr that is the same in every run: no memory addresses, tensors and networks by their whole content."""
    if isinstance(value, Tensor):
        return f"tensor {list(value.shape)} {_values_digest(value)}"
    if isinstance(value, nn.Module):
        return f"{type(value).__name__} {_state_digest(value)}"
    if isinstance(value, MethodType):
        return f"{stable_repr(value.__self__)}.{value.__name__}"
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{f.name}={stable_repr(getattr(value, f.name))}" for f in fields(value) if f.repr)
        return f"{type(value).__name__}({', '.join(parts)})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _state_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()[:16]


def _values_digest(value: Tensor) -> str:
    return hashlib.sha256(_bytes(value)).hexdigest()[:16]


def _bytes(value: Tensor) -> bytes:
    content: bytes = value.detach().cpu().contiguous().numpy().tobytes()
    return content
