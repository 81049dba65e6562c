"""Tensors out of a file of pickled modules, without running any of the code that the file names.

`torch.save(module)` writes a zip archive: data.pkl, a pickle that names classes and functions and what to call them
with, and data/<key>, the numbers of each tensor storage. Unpickling it the usual way imports those classes and
calls those functions, which needs the foreign code and trusts whoever wrote the file. Here a pickle can only ever
build numbers, strings, containers and tensors: every other class becomes an `Inert` shell that keeps what it was
given and does nothing. A name from Python's own library that is not on the short list of containers is refused: no
module's weights need it, and every known attack does.
"""

from __future__ import annotations

import collections
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Inert:
    """A shell in the place of an object of a foreign class.

    Attributes:
        kind: the class it stands for, "module.name".
        state: the attributes that the object had.
    """

    kind = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
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
            with archive.open(names[0]) as file:
                return _Unpickler(file, archive, names[0].removesuffix("data.pkl")).load()
    except _Refused as error:
        raise ValueError(f"{path}: expected a checkpoint of modules, got one that {error}; it was not run") from None
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
    if not isinstance(module, Inert) or not {"_parameters", "_buffers", "_modules"} <= module.state.keys():
        raise ValueError(f"expected a pickled torch.nn.Module, got {_kind(module)}")
    return dict(_tensors(module.state, ""))


def _tensors(state: dict[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    passing = state.get("_non_persistent_buffers_set", ())
    for name, value in [*state["_parameters"].items(), *state["_buffers"].items()]:
        if isinstance(value, Tensor) and name not in passing:
            yield prefix + name, value
    for name, module in state["_modules"].items():
        if module is not None:
            yield from ((f"{prefix}{name}.{rest}", value) for rest, value in state_dict(module).items())


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Inert) else type(value).__name__


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset).clone()


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
    """The pickle names something of Python's own."""


class _Unpickler(pickle.Unpickler):
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
            raise _Refused(f"names {module}.{name}, which no weights need")
        return type(name, (Inert,), {"kind": f"{module}.{name}"})

    def persistent_load(self, key: Any) -> Tensor:
        _, dtype, name, _, count = key
        if name not in self.storages:
            content = bytearray(self.archive.read(f"{self.prefix}data/{name}"))
            self.storages[name] = torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0)
        return self.storages[name]
