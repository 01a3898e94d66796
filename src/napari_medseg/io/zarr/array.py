"""A zarr array on the disk that is read as needed and never trusted: see `open_array`."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from napari_medseg.arrays.boxes import BoxND
from napari_medseg.arrays.views import BasicIndexed
from napari_medseg.errors import FileError
from napari_medseg.io.disk import files, memory
from napari_medseg.io.zarr import metadata
from napari_medseg.io.zarr.chunks import Room, chunk_of, fill_value_of, pieces

Array = npt.NDArray[Any]

_DAMAGE = (RuntimeError, ValueError, TypeError, OSError, EOFError, ArithmeticError)
"""The errors of decoding a damaged chunk: of blosc and zstd, of sizes and checksums, of short shards."""
_MAX_CHUNKS = 2_000_000
"""The most chunks: dask cannot list more."""
_MAX_LOOKED_FOR = 200_000
"""The most chunks that are looked for one by one."""
_LARGE = 1 << 28
"""Bytes of a part above which the available memory is checked first."""


class StoredArray(BasicIndexed):
    """A read-only array on the disk, indexed like numpy; FileError names the store and its damaged chunk."""

    read_only = True

    def __init__(self, array: zarr.Array[Any], path: Path) -> None:
        self._chunk = chunk_of(array.metadata)
        self._key_of = array.metadata.encode_chunk_key
        self._files: tuple[int, ...] = array.shards or array.chunks
        self._file_kind = "shard" if array.shards else "chunk"
        self._path = path
        self._root = metadata.root_of(path)
        self._inside: set[str] = set()
        """The folders that are known to lie in the store."""
        self.fill_value = fill_value_of(array.metadata)
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.chunks: tuple[int, ...] = array.chunks
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<StoredArray {self._path} {self.shape} {self.dtype}>"

    def missing_chunks(self) -> list[str]:
        """The keys of the chunks that are not on the disk, which are read as the fill value.

        Empty if the array has too many chunks to look for each.
        """
        counts = [math.ceil(n / c) for n, c in zip(self.shape, self._files, strict=True)]
        if math.prod(counts) > _MAX_LOOKED_FOR:
            return []
        keys = (self._key_of(at) for at in itertools.product(*map(range, counts)))
        return [key for key in keys if not os.path.exists(f"{self._path}/{key}")]

    def absent_value(self, wanted: BoxND) -> Any:
        """The value of a box none of whose chunks is on the disk; None where one is. Nothing is read."""
        keys = (self._key_of(at) for at, _, _ in pieces(wanted, self._files))
        return None if any(os.path.lexists(f"{self._path}/{key}") for key in keys) else self.fill_value

    def _read(self, wanted: BoxND) -> Array:
        shape = tuple(w.stop - w.start for w in wanted)
        size = math.prod(shape) * self.dtype.itemsize
        if size > _LARGE:
            memory.check(self._path, size)
        target, room = np.empty(shape, self.dtype), Room()
        for at, inside, where in pieces(wanted, self._files):
            self._fill(target[where], self._key_of(at), inside, room)
        return target

    def _fill(self, target: Array, key: str, inside: BoxND, room: Room) -> None:
        name = f"{self._path}/{key}"  # a Path would cost a tenth of the time of many chunks
        self._check_links(name)
        if not os.path.isfile(name):
            if os.path.lexists(name):
                files.check_file(Path(name))  # refuses it: a link to nothing; opening a named pipe may never end
            target[...] = self.fill_value
            return
        try:
            with open(name, "rb", buffering=0) as file:
                self._chunk.read(file, inside, target, room)
        except _DAMAGE as error:
            raise FileError(
                f"{self._path}: {self._file_kind} {key} is corrupt: {error}: copy the store again"
            ) from error

    def _check_links(self, name: str) -> None:
        """FileError where a chunk lies outside the store. Folders are looked at once: they are few, chunks are many."""
        folder = os.path.dirname(name)
        if folder not in self._inside or os.path.islink(name):
            metadata.check_inside(self._root, name)
            self._inside.add(folder)


def open_array(path: Path) -> StoredArray:
    """An array of a store. Raises FileError and NotSupportedError for what is not safe to read."""
    metadata.check_node(path)
    opened = zarr.open_array(path, mode="r")
    chunks = math.prod(math.ceil(n / c) for n, c in zip(opened.shape, opened.chunks, strict=True))
    if chunks > _MAX_CHUNKS:
        raise FileError(f"{path}: too large an array: shape {opened.shape} in {chunks} chunks of {opened.chunks}")
    return StoredArray(opened, path)
