"""Identities: the same for the same content, and for nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grasp_agent.files.digest import file_digest, json_sha256, model_digest, sha256, stable_repr


@dataclass(frozen=True)
class Weighted:
    weights: Any
    name: str = "a"


class Plain:
    pass


def test_a_files_digest_is_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # Of the well-known SHA-256 of "abc".
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea"


def test_models_are_told_apart_by_names_and_values() -> None:
    one, same, other = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    same.load_state_dict(one.state_dict())
    assert model_digest(one) == model_digest(same) != model_digest(other)
    assert model_digest(nn.Sequential(one)) != model_digest(one)


def test_a_repr_has_no_addresses_and_shows_all_of_a_tensor() -> None:
    assert stable_repr(Plain()) == stable_repr(Plain())
    assert stable_repr([Plain()]) == stable_repr([Plain()])
    large = torch.zeros(5000)  # its ordinary repr leaves the middle out
    changed = large.clone()
    changed[2500] = 1.0
    assert stable_repr(Weighted(large)) == stable_repr(Weighted(large.clone())) != stable_repr(Weighted(changed))
    assert stable_repr(Weighted(1.0)) == "Weighted(weights=1.0, name='a')"
    assert stable_repr(Weighted(Weighted(None))) == "Weighted(weights=Weighted(weights=None, name='a'), name='a')"


def test_a_repr_of_a_method_names_it_and_what_it_belongs_to() -> None:
    """By the weights of a network, not by all its layers."""
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert stable_repr(network.forward) == f"Linear {model_digest(network)}.forward" != stable_repr(other.forward)


def test_whole_digests_are_of_content_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == sha256(b"abc") == known and file_digest(tmp_path / "a") == known[:16]
    assert json_sha256({"b": [1, 2.5], "a": None}) == json_sha256({"a": None, "b": [1, 2.5]})
    assert len({json_sha256(content) for content in ({"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": [1]}, {"b": 1})}) == 5
