"""The classes of world models that can be saved and loaded.

A class is registered with its config, a dataclass that JSON can hold: `cls(config)` makes an untrained model, and
`model.config` says how to make it again. A model around a pretrained part (a `Part`) is made by `cls(config, part)`.

    @dataclass(frozen=True)
    class MyConfig:
        size: int = 8

    register_model("my_kind", MyModel, MyConfig)
    save_pretrained(MyModel(MyConfig()), "runs/mine")
    load_world_model("runs/mine")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from grasp_agent.core.types import WorldModel


class SavedModel(WorldModel, Protocol):
    """A world model as `load_world_model` returns it: a `torch.nn.Module` that has a config."""

    image_size: int | None
    """Height and width of the pictures that it reads; None: it reads vectors."""
    trained_on: Sequence[Mapping[str, Any]]
    """How the data were collected that it was trained on."""
    trusted_steps: int | None
    """Environment steps ahead up to which its predictions are to be believed; None if that is unknown."""
    config: Any
    """The dataclass that it was made from."""
    state_dict: Any
    load_state_dict: Any
    to: Any
    eval: Any


@dataclass(frozen=True)
class Part:
    """A pretrained sub-module that keeps files of its own, such as a backbone.

    Attributes:
        name: its attribute in the model and its sub-folder; its weights are left out of the model's file.
        save: (sub-module, folder), writes it.
        load: (folder, config), reads it.
    """

    name: str
    save: Callable[[nn.Module, Path], None]
    load: Callable[[Path, Any], nn.Module]


@dataclass(frozen=True)
class ModelKind:
    """A registered class.

    Attributes:
        name: what config.json says under "kind".
        model: the class.
        config: of its config.
        part: its pretrained part, if it has one.
    """

    name: str
    model: type[nn.Module]
    config: type
    part: Part | None = None


KINDS: dict[str, ModelKind] = {}
"""Every registered class by the name of its kind."""


def register_model(kind: str, model: type[nn.Module], config: type, part: Part | None = None) -> None:
    """Make a class of world models known to `save_pretrained` and `load_world_model`.

    Args:
        kind: a name for config.json; files that hold it can be loaded only where it is registered.
        model: a class as `SavedModel` says, made by `model(config)`, or `model(config, part)` if there is a part.
        config: a dataclass whose fields JSON can hold.
        part: a pretrained sub-module with files of its own.

    Raises:
        ValueError: the name belongs to another class.
        TypeError: the config is no dataclass.
    """
    if not is_dataclass(config):
        raise TypeError(f"register_model: expected a dataclass as the config of {model.__name__}, got {config!r}")
    known = KINDS.get(kind)
    if known is not None and _named(known.model) != _named(
        model
    ):  # the same class may be defined again, as in a notebook
        raise ValueError(f"register_model: the kind {kind!r} is {known.model.__name__}'s; choose another name")
    KINDS[kind] = ModelKind(kind, model, config, part)


def kind_of(model: object) -> ModelKind:
    """The registered kind of a model: its class's, or that of the nearest class it derives from.

    Raises:
        TypeError: there is none.
    """
    for cls in type(model).__mro__:
        for kind in KINDS.values():
            if kind.model is cls:
                return kind
    known = ", ".join(kind.model.__name__ for kind in KINDS.values())
    name = type(model).__name__
    raise TypeError(
        f"save_pretrained: expected a model of a registered class ({known}), got {name}; "
        f"try register_model('my_kind', {name}, its config class) first"
    )


def _named(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__
