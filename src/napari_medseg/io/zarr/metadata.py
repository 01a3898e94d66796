"""The metadata of a zarr array, checked before zarr sees it: impossible sizes and forbidden codecs are refused.

The file names its codecs, and some codecs of numcodecs run what they read (pickle). Only the codecs in the tables here
are accepted, whatever else is installed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.disk import files, memory

V3_CODECS = ("bytes", "transpose", "gzip", "zstd", "blosc", "crc32c", "sharding_indexed")
"""The codecs of zarr v3 that are read."""
V2_CODECS = ("blosc", "gzip", "zlib", "zstd", "lz4", "shuffle", "delta")
"""The codecs of numcodecs that are read in zarr v2."""
_TYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
_V2_TYPE = re.compile(r"[<>|][biuf]([1248])")
_NODE_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_MAX_METADATA = 64 << 20
_MAX_CHUNK = 2 << 30
_MAX_SHARDING = 2


def root_of(folder: Path) -> Path:
    """The outermost group around a node; the node itself where no group is around it. By its path: links are kept."""
    folder = Path(os.path.abspath(folder))
    while is_group(folder.parent):
        folder = folder.parent
    return folder


def check_inside(root: Path, path: str | Path) -> None:
    """FileError where links lead from a path in a store out of it: such a store could show any file of the user."""
    target = os.path.realpath(path)
    if not Path(target).is_relative_to(os.path.realpath(root)):
        raise FileError(
            f"{root}: {os.path.relpath(path, root)} is a link that leads out of the store: if you trust it, put a copy "
            f"of its target there"
        )


def check_node(folder: Path) -> None:
    """Raise FileError or NotSupportedError if a node of a store, array or group, is not safe to open with zarr."""
    root = root_of(folder)
    for name in _NODE_FILES:
        if not (folder / name).exists():
            continue
        check_inside(root, folder / name)
        if files.check_regular(folder / name) > _MAX_METADATA:
            raise FileError(f"{folder}: its zarr metadata {name} is larger than {_MAX_METADATA >> 20} MiB")
        content = _json(folder, name)
        if name == ".zarray":
            _check_v2(folder, content)
        if name == "zarr.json" and content.get("node_type") == "array":
            _check_v3(folder, content)


def is_array(folder: Path) -> bool:
    """Whether a folder is an array by its own metadata. Raises FileError for damaged metadata."""
    if _is_file(folder, "zarr.json"):
        return _json(folder, "zarr.json").get("node_type") == "array"
    return _is_file(folder, ".zarray")


def shape_of(folder: Path) -> tuple[int, ...] | None:
    """The shape of an array by its metadata; None if there is no array or its shape is impossible."""
    if not is_array(folder):
        return None
    shape = _json(folder, "zarr.json" if _is_file(folder, "zarr.json") else ".zarray").get("shape")
    return tuple(shape) if _is_shape(shape, smallest=1) else None


def is_group(folder: Path) -> bool:
    """Whether a folder has metadata, but not those of an array."""
    return any(_is_file(folder, name) for name in _NODE_FILES) and not is_array(folder)


def _is_file(folder: Path, name: str) -> bool:
    """As `Path.is_file`, but also for a path that no file can have: too long, or with a null byte."""
    return os.path.isfile(folder / name)


def _json(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{folder}: its zarr metadata {name} is damaged (no JSON): {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{folder}: its zarr metadata {name} is damaged: it holds no JSON object")
    return content


def _check_v3(folder: Path, content: Mapping[str, Any]) -> None:
    kind = content.get("data_type")
    if kind not in _TYPES:
        raise NotSupportedError(f"{folder}: an array of type {kind!r:.50} is not read: expected real numbers")
    grid = _dict(content.get("chunk_grid"))
    if grid.get("name") != "regular":
        raise NotSupportedError(f"{folder}: a chunk grid of kind {grid.get('name')!r:.50} is not read")
    itemsize = 1 if kind == "bool" else int(re.sub(r"\D", "", kind)) // 8
    shape = content.get("shape")
    chunk = _check_shapes(folder, shape, _dict(grid.get("configuration")).get("chunk_shape"), itemsize)
    _check_v3_codecs(folder, content.get("codecs"), chunk, itemsize, depth=0)


def _check_v3_codecs(folder: Path, codecs: object, chunk: list[int], itemsize: int, depth: int) -> None:
    if not isinstance(codecs, list) or not codecs:
        raise FileError(f"{folder}: its zarr metadata lists no codecs")
    for codec in codecs:
        name = codec if isinstance(codec, str) else _dict(codec).get("name")
        _check_codec(folder, name, V3_CODECS)
        if name != "sharding_indexed":
            continue
        configuration = _dict(_dict(codec).get("configuration"))
        if depth == _MAX_SHARDING:
            raise FileError(f"{folder}: its shards are nested too deep")
        inner = _check_shapes(folder, chunk, configuration.get("chunk_shape"), itemsize)
        _check_v3_codecs(folder, configuration.get("codecs"), inner, itemsize, depth + 1)
        index = configuration.get("index_codecs")
        names = [_dict(part).get("name") for part in index] if isinstance(index, list) else []
        if codec is not codecs[-1] or names not in (["bytes"], ["bytes", "crc32c"]):
            raise NotSupportedError(f"{folder}: its shards, or their indices, are compressed: that is not read")


def _check_v2(folder: Path, content: Mapping[str, Any]) -> None:
    kind = _V2_TYPE.fullmatch(str(content.get("dtype")))
    if kind is None:
        raise NotSupportedError(
            f"{folder}: an array of type {content.get('dtype')!r:.50} (objects, text or records) is not read: expected "
            f"real numbers"
        )
    _check_shapes(folder, content.get("shape"), content.get("chunks"), int(kind[1]))
    for codec in (content.get("compressor"), *(content.get("filters") or [])):
        if codec is not None:
            _check_codec(folder, _dict(codec).get("id"), V2_CODECS)


def _check_codec(folder: Path, name: object, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        raise FileError(
            f"{folder}: its chunks are coded with {name!r:.50}, a codec that is not allowed: expected one of "
            f"{', '.join(allowed)}"
        )


def _check_shapes(folder: Path, shape: object, chunk: object, itemsize: int) -> list[int]:
    """The chunk shape. Raises FileError if it or the array's shape is impossible, or a chunk exceeds the memory."""
    if not _is_shape(shape, smallest=0):
        told = f"its zarr metadata gives an impossible shape (negative or no numbers): {shape!s:.100}"
        raise FileError(f"{folder}: {told}")
    if not _is_shape(chunk, smallest=1) or len(chunk) != len(shape):
        told = f"its zarr metadata gives an impossible chunk shape for the shape {shape!s:.100}: {chunk!s:.100}"
        raise FileError(f"{folder}: {told}")
    size = math.prod(chunk) * itemsize
    if size > min(_MAX_CHUNK, memory.limit_bytes()):
        told = f"one chunk of shape {chunk!s:.100} takes {size / memory.GIB:.1f} GiB: too large to be read"
        raise FileError(f"{folder}: {told}")
    return chunk


def _is_shape(value: object, smallest: int) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and smallest <= n < 2**53 for n in value)


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
