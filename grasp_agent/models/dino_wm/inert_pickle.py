"""Tensors out of a file of pickled modules, without running any of the code that the file names.

`torch.save(module)` writes a zip archive: data.pkl, a pickle that names classes and functions and what to call them
with, and data/<key>, the numbers of each tensor storage. Unpickling it the usual way imports those classes and
calls those functions, which needs the foreign code and trusts whoever wrote the file. Here a pickle can only ever
build numbers, strings, containers and tensors: every other class becomes an `Inert` shell that keeps what it was
given and does nothing. A name from Python's own library that is not on the short list of containers is refused: no
module's weights need it, and every known attack does. A pickle may also give an object attributes; here it can do so
to the shells alone, so nothing that outlives the reading is changed. Sizes are limited: of the archive, of the pickle,
and of a tensor, which holds no more numbers than its storage.
"""

from __future__ import annotations

import collections
import math
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from grasp_agent.files.reading import TooLarge, check_archive

PICKLE_LIMIT = 16_000_000
"""Most bytes of a pickle. It names things; the numbers are apart."""
MODULES_LIMIT = 100_000
"""Most modules within a module."""


class Inert:
    """A shell in the place of an object of a foreign class.

    Attributes:
        kind: the class it stands for, "module.name".
        state: the attributes that the object had.
    """

    kind = ""

    state: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        shell = super().__new__(cls)
        shell.state = {}
        return shell

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def keep(self, state: Any) -> None:
        """Take what the pickle gives as the attributes."""
        self.state = dict(state) if isinstance(state, dict) else {}


def read_inert(path: Path) -> Any:
    """Read what `torch.save` wrote, with tensors as tensors and foreign objects as `Inert` shells.

    Args:
        path: a file in the zip format of torch 1.6 and later.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, a damaged file, or a pickle that names what is refused.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint file, found none")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("data.pkl") and name.count("/") <= 1]
            if len(names) != 1:
                raise ValueError("no data.pkl in the archive")
            check_archive(archive)
            if archive.getinfo(names[0]).file_size > PICKLE_LIMIT:
                raise TooLarge(f"expected a pickle of at most {PICKLE_LIMIT} bytes, got a larger one")
            with archive.open(names[0]) as file:
                return _Unpickler(file, archive, names[0].removesuffix("data.pkl")).load()
    except (_Refused, TooLarge) as error:
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: expected a whole checkpoint as torch.save writes it, got a damaged or other file ({reason})"
        ) from None


def state_dict(module: Any) -> dict[str, Tensor]:
    """The `state_dict` of a module that was read as an `Inert` shell.

    Raises:
        ValueError: it is not a module.
    """
    return dict(_tensors(_checked(module)))


def _tensors(module: Inert) -> Iterator[tuple[str, Tensor]]:
    count, waiting = 0, [("", module)]
    while waiting:
        prefix, here = waiting.pop()
        count += 1
        if count + len(waiting) > MODULES_LIMIT or prefix.count(".") > MODULES_LIMIT**0.5:
            raise ValueError(f"expected at most {MODULES_LIMIT} modules within a module, got more")
        passing = here.state.get("_non_persistent_buffers_set", ())
        for name, value in [*here.state["_parameters"].items(), *here.state["_buffers"].items()]:
            if isinstance(value, Tensor) and name not in passing:
                yield prefix + name, value
        inner = [(f"{prefix}{name}.", part) for name, part in here.state["_modules"].items() if part is not None]
        waiting += [(name, _checked(part)) for name, part in reversed(inner)]


def _checked(module: Any) -> Inert:
    parts = ("_parameters", "_buffers", "_modules")
    if not isinstance(module, Inert) or not all(isinstance(module.state.get(part), dict) for part in parts):
        raise ValueError(f"expected a pickled torch.nn.Module, got {_kind(module)}")
    return module


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Inert) else type(value).__name__


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    whole = all(isinstance(number, int) and number >= 0 for number in (offset, *size, *stride))
    if not isinstance(storage, Tensor) or storage.ndim != 1 or not whole or len(size) != len(stride):
        raise _Refused("expected tensors in whole numbers of steps through their storage, got another")
    repeats = any(step == 0 and length > 1 for length, step in zip(size, stride, strict=True))
    if repeats or math.prod(size) > len(storage):
        raise _Refused(
            f"expected tensors that hold each number of their storage once, got one of shape {tuple(size)} from"
            f" {len(storage)} numbers with strides {tuple(stride)}"
        )
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    **{("builtins", kind.__name__): kind for kind in (dict, float, frozenset, int, list, set, tuple)},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


class _Refused(Exception):
    """The file does what no checkpoint needs. The message is a sentence without the file's name."""


class _Unpickler(pickle._Unpickler):
    """Python's unpickler that is written in Python: the one in C leaves no choice of what a step does."""

    stack: list[Any]

    def __init__(self, file: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(file)
        self.archive, self.prefix = archive, prefix
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        # torch.save writes protocol 2, in which Python's own modules go by their names of Python 2
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module.partition(".")[0] in sys.stdlib_module_names:
            raise _Refused(
                f"expected a checkpoint of modules, got one that names {module}.{name}, which no weights need; it was"
                " not run"
            )
        return type(name, (Inert,), {"kind": f"{module}.{name}"})

    def persistent_load(self, key: Any) -> Tensor:
        _, dtype, name, _, count = key
        if name not in self.storages:
            content = bytearray(self.archive.read(f"{self.prefix}data/{name}"))
            self.storages[name] = torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0)
        return self.storages[name]

    def _build(self) -> None:
        """Give the object on the stack attributes, if it is a shell; those of an ordered dictionary are left out."""
        state, thing = self.stack.pop(), self.stack[-1]
        if isinstance(thing, Inert):
            thing.keep(state)
        elif not isinstance(thing, collections.OrderedDict):
            raise _Refused(
                f"expected a checkpoint of modules, got one that changes a {_kind(thing)}, which no weights need; it"
                " was not run"
            )

    dispatch: ClassVar[Any] = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: _build}
