"""Opens a PyTorch file, weights only, in a child process: see `napari_medseg.io.sandbox.parent`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from napari_medseg.errors import FileError
from napari_medseg.foreign.checkpoint import NUMPY_ARRAYS, NUMPY_SCALARS, NUMPY_TYPES

STATE_KEYS = ("network_weights", "state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training programs store the weights beside other data."""
_FACTS = ("trainer_name", "configuration")
_MIRRORS = "inference_allowed_mirroring_axes"
_PLAIN = ("f8", "f4", "i8", "i4", "b1", "u1")
_NO_WEIGHTS = (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, EOFError)


def prepare() -> None:
    """Does nothing: importing this module loads torch."""


def answer(request: Mapping[str, Any]) -> tuple[dict[str, object], list[npt.NDArray[np.uint8]]]:
    """The weights of a file as the bytes of a safetensors file, {name: the name that its tensor is sent under} in the
    order of the file, and facts about the model.

    request: path; tables: whether all tensors and arrays by name are wanted instead of a state dict. Raises FileError
    where there are none; without the path, which the parent has.
    """
    try:
        content = _load(request["path"])
        tensors = tables_of(content) if request.get("tables") else state_of(content)
        names = _sent_names(tensors)
        facts: dict[str, object] = {"names": names, "told": _facts(content)}
        sent = {name: tensors[name] for name in names.values()}
        return facts, [np.frombuffer(_serialised(sent), np.uint8)]
    except _NO_WEIGHTS as error:
        raise FileError(_line(error)) from error


class NumpyType:
    """Replaces numpy.dtype in a pickle: keeps the letter code, allocates nothing."""

    def __init__(self, code: str = "f8", *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: plain numbers do not need it."""


class NumpyArray:
    """Replaces numpy.ndarray in a pickle: a table of plain numbers, made of its bytes."""

    tensor: torch.Tensor | None = None

    def __init__(self, *_: object) -> None:
        """What numpy passes here says nothing yet."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """state: (version, shape, type, whether columns come first, bytes)."""
        _, shape, kind, columns_first, raw = state
        if not isinstance(kind, NumpyType) or kind.code not in _PLAIN or not isinstance(raw, bytes):
            raise ValueError("a numpy array of something else than plain numbers is unsupported")
        flat = np.frombuffer(raw, dtype=np.dtype(f"<{kind.code}"))
        self.tensor = torch.from_numpy(flat.reshape(shape, order="F" if columns_first else "C").copy())


def _new_array(kind: type, *_: object) -> NumpyArray:
    """Replaces numpy's function that makes an empty array, whose state follows."""
    return NumpyArray()


def number(kind: NumpyType, raw: bytes) -> float | int | bool:
    """Replaces numpy's scalar: the number in little-endian bytes. Raises ValueError for kinds that are not plain."""
    if kind.code not in _PLAIN:
        raise ValueError(f"a numpy scalar of type {kind.code[:20]!a} is unsupported")
    value: float | int | bool = np.frombuffer(raw, dtype=np.dtype(f"<{kind.code}"), count=1)[0].item()
    return value


def _load(source: str) -> Any:
    stand_ins: list[Any] = [(number, name.replace(" ", ".")) for name in sorted(NUMPY_SCALARS)]
    stand_ins += [
        (NumpyArray if name.endswith("ndarray") else _new_array, name.replace(" ", ".")) for name in NUMPY_ARRAYS
    ]
    stand_ins += [(NumpyType, name.replace(" ", ".")) for name in sorted(NUMPY_TYPES)]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(source, map_location="cpu", weights_only=True)


def state_of(content: Any) -> dict[str, torch.Tensor]:
    """The state dict in a loaded file: the file itself, or the value under one of the usual keys."""
    for candidate in (content, *(content.get(key) for key in STATE_KEYS if isinstance(content, Mapping))):
        if isinstance(candidate, Mapping) and candidate and _all_tensors(candidate):
            return {str(name): tensor for name, tensor in candidate.items()}
    raise ValueError(
        f"no weights found: expected a state dict, or one under {', '.join(STATE_KEYS)}; convert takes weights only"
    )


def tables_of(content: Any) -> dict[str, torch.Tensor]:
    """The tensors and arrays in a loaded file by name. Raises ValueError where there are none."""
    found = {}
    for name, value in content.items() if isinstance(content, Mapping) else ():
        table = value.tensor if isinstance(value, NumpyArray) else value
        if isinstance(name, str) and isinstance(table, torch.Tensor):
            found[name] = table
    if not found:
        raise ValueError("no tables of numbers by name were found in it")
    return found


def _all_tensors(table: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in table.items())


def _sent_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """{name: the first name of the same tensor}: nnU-Net lists its encoder up to four times."""
    first: dict[object, str] = {}
    names = {}
    for name, t in tensors.items():
        same = (t.untyped_storage().data_ptr(), t.storage_offset(), t.shape, t.stride(), t.dtype)
        names[name] = first.setdefault(same if t.numel() else name, name)
    return names


def _serialised(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # Tensors that overlap, which a safetensors file cannot hold, become copies.
    copies = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    blob: bytes = safetensors.torch.save(copies)
    return blob


def _facts(content: Any) -> dict[str, str]:
    if not isinstance(content, Mapping):
        return {}
    given = content.get("init_args")
    told = {**(given if isinstance(given, Mapping) else {}), **content}
    facts = {key: told[key][:200] for key in _FACTS if isinstance(told.get(key), str)}
    axes = told.get(_MIRRORS, "")
    if axes is None:  # nnU-Net mirrors along none then
        axes = ()
    if isinstance(axes, tuple | list) and all(type(axis) is int and 0 <= axis < 3 for axis in axes):
        facts["mirror_axes"] = "".join(map(str, sorted(set(axes))))
    return facts


def _line(error: Exception) -> str:
    """The first line of torch's message, without its advice to switch the check off."""
    text = " ".join(str(error).split("\n\n")[0].split()) if isinstance(error, ValueError) else ""
    return (
        text[:300] or f"PyTorch does not read it as a file of weights ({type(error).__name__}): corrupt or unsupported"
    )
