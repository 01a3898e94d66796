"""The header of a safetensors file, read by hand and without torch: checked before anything of its size is allocated.

Layout (huggingface/safetensors): 8 bytes little-endian length n, n bytes of JSON, then the tensors' bytes. The JSON is
{name: {"dtype", "shape", "data_offsets"}} and "__metadata__": {str: str}; the offsets tile the data without holes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from napari_medseg import strictjson

MAX_HEADER_BYTES = 10 * 2**20
"""The format allows 100 MB, which fill gigabytes once parsed; our headers stay far below this bound."""
MAX_DIMENSIONS = 8
"""Axes of a tensor."""
FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
"""Types of numbers that stand in for each other when weights are loaded."""
_BYTES = dict(
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
)
"""{dtype: bytes of a number}."""
_FOREIGN = {
    b"PK": "a zip archive, as PyTorch checkpoints are; pickled weights are never opened, since opening them runs code",
    b"\x80": "a Python pickle; pickled weights are never opened, since opening them runs code",
    b"\x93NUMPY": "a numpy file, which can hold pickled objects",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
}
"""{first bytes of a file: what it is}, for files that are no safetensors."""


@dataclass(frozen=True)
class Entry:
    """One tensor of the table: its safetensors dtype ("F32", "I64", ...) and shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Entry]


def read_header(file: BinaryIO, size: int) -> SafetensorsHeader:
    """The checked header of an open file of `size` bytes; ValueError with one line for what is no safetensors file."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= size - 8:
        raise ValueError(_what_it_is(start, size))
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header of {length} bytes is too long: at most {MAX_HEADER_BYTES}")
    try:
        document = strictjson.parse(file.read(length).decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"its header is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("its header is not a JSON object")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata in its header is not a table of texts")
    return SafetensorsHeader(metadata, _tensors(document, size - 8 - length))


def _what_it_is(start: bytes, size: int) -> str:
    """Why a file that does not start like safetensors cannot be read."""
    if size == 0:
        return "it is empty (0 bytes)"
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            return f"it is {kind}"
    return (
        f"the length of its header (its first 8 bytes) does not fit in {size} bytes: no safetensors file, or a cut one"
    )


def _tensors(table: dict[str, Any], data_size: int) -> dict[str, Entry]:
    """The entries, in the order of their bytes; the offsets must tile the data."""
    tensors, end = {}, 0
    for begin, stop, name, entry in sorted(_row(name, row) for name, row in table.items()):
        if begin != end:
            raise ValueError(f"tensor {name[:80]!a} has data offset {begin} where {end} is expected: overlap or hole")
        tensors[name], end = entry, stop
    if end != data_size:
        raise ValueError(f"its tensors need {end} bytes after the header but {data_size} are there: cut or incomplete")
    return tensors


def _row(name: str, row: Any) -> tuple[int, int, str, Entry]:
    """(begin, stop, name, entry) of one row; the shape's bytes must be what the offsets span."""
    who = f"tensor {name[:80]!a}"
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{who} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{who} has dtype {str(dtype)[:20]!a}: expected one of {', '.join(_BYTES)}")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{who} needs a shape of at most {MAX_DIMENSIONS} sizes >= 0")
    if not _sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{who} needs two data offsets >= 0")
    begin, stop = offsets
    if stop - begin != prod(shape) * _BYTES[dtype]:
        raise ValueError(f"{who} of shape {shape}, {dtype}, does not fit the size of its data, {stop - begin} bytes")
    return begin, stop, name, Entry(dtype, tuple(shape))


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
