"""Checkpoints made to do harm: they change nothing in the process, and take no more memory than they should."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from grasp_agent.files import reading
from grasp_agent.models.dino_wm import inert_pickle
from grasp_agent.models.dino_wm.inert_pickle import Inert, read_inert, state_dict

AREA = "hostile checkpoints"


def hostile(folder: Path, program: bytes, **storages: bytes) -> Path:
    """A file as `torch.save` writes it, around a pickle that is written by hand."""
    file = folder / "model.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + program + b".")
        for name, content in storages.items():
            archive.writestr(f"model/data/{name}", content)
    return file


def named(name: str) -> bytes:
    """Puts what a name stands for on the stack."""
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def pickled(value: Any) -> bytes:
    """Puts a value of plain Python on the stack."""
    return pickle.dumps(value, 2)[2:-1]


TENSOR, PARAMETER = named("torch._utils._rebuild_tensor_v2"), named("torch._utils._rebuild_parameter")


def storage(count: int, name: str = "0", kind: str = "FloatStorage") -> bytes:
    return b"(" + pickled("storage") + named(f"torch.{kind}") + pickled(name) + pickled("cpu") + pickled(count) + b"tQ"


def tensor(size: Any, stride: Any, offset: Any = 0, count: int = 4) -> bytes:
    return TENSOR + b"(" + storage(count) + pickled(offset) + pickled(size) + pickled(stride) + b"tR"


GIVEN = {"__defaults__": (7,), "__doc__": "changed", "kind": "changed"}


@pytest.mark.parametrize("state", [GIVEN, (None, GIVEN), ({}, GIVEN)], ids=["attributes", "slots", "both"])
@pytest.mark.parametrize(
    "thing",
    [
        TENSOR,
        PARAMETER,
        named("collections.OrderedDict"),
        named("collections.defaultdict"),
        named("builtins.dict"),
        named("torch.FloatStorage"),
        named("foreign.Model"),
        pickled({}),
        pickled([1]),
        storage(4),
        tensor((4,), (1,)),
    ],
    ids=[
        "function",
        "function2",
        "class",
        "call",
        "type",
        "dtype",
        "shell's class",
        "dict",
        "list",
        "numbers",
        "tensor",
    ],
)
def test_nothing_is_given_attributes_but_shells(thing: bytes, state: Any, tmp_path: Path) -> None:
    file = hostile(tmp_path, thing + pickled(state) + b"b", **{"0": bytes(16)})
    before = known()
    with pytest.raises(ValueError, match="expected a checkpoint of modules, got one that changes a") as caught:
        read_inert(file)
    assert "\n" not in str(caught.value) and "model.pth" in str(caught.value) and "was not run" in str(caught.value)
    assert known() == before and Inert.kind == "" and torch.empty(0).__dict__ == {}


def known() -> dict[str, Any]:
    """What the reader consists of: attributes, and of functions their defaults."""
    things = vars(inert_pickle).items()
    return {
        name: (dict(vars(thing)), getattr(thing, "__defaults__", None), thing.__doc__)
        for name, thing in things
        if hasattr(thing, "__dict__")
    }


def test_shells_and_ordered_dictionaries_are_read_as_before(tmp_path: Path) -> None:
    shell = named("foreign.Model") + b")\x81" + pickled({"size": 3}) + b"b"
    ordered = named("collections.OrderedDict") + b")R" + pickled({"_metadata": 1}) + b"b"
    content = read_inert(hostile(tmp_path, shell + ordered + b"\x86"))
    assert (content[0].kind, content[0].state, dict(content[1])) == ("foreign.Model", {"size": 3}, {})
    assert not hasattr(content[1], "_metadata")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (tensor((10**12,), (0,)), "expected tensors that hold each number of their storage once"),
        (tensor((2, 10**9), (4, 0)), "expected tensors that hold each number of their storage once"),
        (tensor((4, 4), (1, 1)), r"once, got one of shape \(4, 4\) from 4 numbers with strides \(1, 1\)"),
        (tensor((5,), (1,)), "expected tensors that hold each number"),
        (tensor((2,), (4,)), "setStorage|out of bounds"),
        (tensor((2,), (1,), 3), "setStorage|out of bounds"),
        (tensor((2,), (-1,), 3), "whole numbers of steps"),
        (tensor((2,), (1,), -1), "whole numbers of steps"),
        (tensor((2,), (1, 1)), "whole numbers of steps"),
        (tensor((2.0,), (1,)), "whole numbers of steps"),
        (tensor("ab", "ab"), "whole numbers of steps"),
        (TENSOR + b"(" + pickled([1]) + pickled(0) + pickled((1,)) + pickled((1,)) + b"tR", "whole numbers of steps"),
        (tensor((4,), (1,), count=10**12), "damaged or other file"),
    ],
)
def test_tensors_are_no_larger_than_what_they_are_made_of(program: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_inert(hostile(tmp_path, program, **{"0": bytes(16)}))
    assert "\n" not in str(caught.value)


def test_tensors_of_all_sizes_that_fit_are_read(tmp_path: Path) -> None:
    parts = [
        tensor((2, 2), (2, 1)),
        tensor((2, 2), (1, 2)),
        tensor((1, 4), (0, 1)),
        tensor((0, 3), (3, 1)),
        tensor((), ()),
    ]
    content = read_inert(hostile(tmp_path, b"(" + b"".join(parts) + b"t", **{"0": bytes(range(16))}))
    assert [tuple(one.shape) for one in content] == [(2, 2), (2, 2), (1, 4), (0, 3), ()]
    assert torch.equal(content[0], content[1].T)


def test_a_pickle_takes_no_memory_for_places_that_it_does_not_use(tmp_path: Path) -> None:
    far = b"r\xff\xff\xff\xff"  # keeps the object at place 2**32 - 1, for which the unpickler in C makes room
    assert read_inert(hostile(tmp_path, pickled("a") + far)) == "a"


def test_archives_and_pickles_have_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hostile(tmp_path, pickled("a" * 1000), **{"0": bytes(1_000_000)})
    assert read_inert(file) == "a" * 1000
    with monkeypatch.context() as patch:
        patch.setattr(inert_pickle, "PICKLE_LIMIT", 500)
        with pytest.raises(ValueError, match=r"model\.pth: expected a pickle of at most 500 bytes"):
            read_inert(file)
    monkeypatch.setattr(reading, "SMALL", 100_000)
    with pytest.raises(ValueError, match=r"model\.pth: expected an archive that grows at most 100 times"):
        read_inert(file)


def module(**parts: Inert) -> Inert:
    made = Inert()
    made.state = {"_parameters": {}, "_buffers": {}, "_modules": dict(parts)}
    return made


def test_modules_that_hold_themselves_or_each_other_many_times_are_refused() -> None:
    loop = module()
    loop.state["_modules"]["again"] = loop
    many = module()
    for _ in range(200):
        many = module(one=many, other=many)
    for made in (loop, many):
        with pytest.raises(ValueError, match="expected at most 100000 modules within a module, got more"):
            state_dict(made)
    broken = module()
    broken.state["_parameters"] = [1]
    with pytest.raises(ValueError, match=r"expected a pickled torch\.nn\.Module"):
        state_dict(module(inner=broken))
