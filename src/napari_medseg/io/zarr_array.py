"""A zarr array from the disk that is read as needed and never trusted: see `open_array`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import RangeByteRequest
from zarr.core.array import AsyncArray
from zarr.storage import LocalStore

from napari_medseg.errors import FileError
from napari_medseg.io import files, zarr_metadata
from napari_medseg.io.zarr_codecs import bounded

Array = npt.NDArray[Any]

#: what decoding a damaged chunk raises, by codec: blosc and zstd, sizes and checksums, short shards
_DAMAGE = (RuntimeError, ValueError, TypeError, OSError, EOFError, OverflowError)
#: more chunks than this are more than dask can list
_MAX_CHUNKS = 2_000_000
#: more chunks than this are not looked for one by one
_MAX_LOOKED_FOR = 200_000


class StoredArray:
    """A read-only array on the disk, indexed like numpy; FileError names the store and the chunk that is damaged."""

    read_only = True

    def __init__(self, array: zarr.Array[Any], path: Path) -> None:
        self._array = array
        self._path = path
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.chunks: tuple[int, ...] = array.chunks
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __getitem__(self, key: Any, /) -> Any:
        try:
            return self._array[key]
        except FileError:
            raise
        except _DAMAGE as error:
            raise self._named(key, error) from error

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredArray {self._path} {self.shape} {self.dtype}>"

    def missing_chunks(self) -> list[str]:
        """The keys of the chunks that are not on the disk, and are read as the fill value; none where they are too many
        to be looked for."""
        if math.prod(math.ceil(n / c) for n, c in zip(self.shape, self._files, strict=True)) > _MAX_LOOKED_FOR:
            return []
        return [key for _, key in self._chunks_of(()) if not (self._path / key).exists()]

    @property
    def fill_value(self) -> Any:
        return self._array.fill_value

    @property
    def _files(self) -> tuple[int, ...]:
        """Voxels per file: those of a shard where chunks lie in shards."""
        return self._array.shards or self._array.chunks

    def _chunks_of(self, key: Any) -> Iterator[tuple[tuple[slice, ...], str]]:
        """The files that an index touches: their voxels and their names."""
        ranges = [
            range(start // step, math.ceil(stop / step))
            for (start, stop), step in zip(_bounds(key, self.shape), self._files, strict=True)
        ]
        for at in itertools.product(*ranges):
            voxels = tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, self._files, strict=True))
            yield voxels, self._array.metadata.encode_chunk_key(at)

    def _named(self, key: Any, error: Exception) -> Exception:
        """The error that names the first damaged chunk; the error itself where every chunk is well (a wrong index)."""
        for voxels, name in self._chunks_of(key):
            try:
                self._array[voxels]
            except _DAMAGE as damage:
                where = "shard" if self._array.shards else "chunk"
                return FileError(f"{self._path}: {where} {name} is corrupt: {damage}: copy the store again")
        return error


def open_array(path: Path) -> StoredArray:
    """Open an array that was not opened yet. Raises FileError and NotSupportedError for what is not safe to read."""
    zarr_metadata.check_node(path)
    opened = zarr.open_array(CheckedStore(path, read_only=True), mode="r")
    chunks = math.prod(math.ceil(n / c) for n, c in zip(opened.shape, opened.chunks, strict=True))
    if chunks > _MAX_CHUNKS:
        raise FileError(f"{path}: too large an array: shape {opened.shape} in {chunks} chunks of {opened.chunks}")
    store_path, config = opened.store_path, opened.async_array.config
    return StoredArray(zarr.Array(AsyncArray(bounded(opened.metadata), store_path, config)), path)


class CheckedStore(LocalStore):
    """A folder of chunks that are regular files: a named pipe would be waited for without end."""

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        path = self.root / key
        if path.exists() and not path.is_dir():
            size = files.check_file(path)
            if isinstance(byte_range, RangeByteRequest) and not 0 <= byte_range.start <= byte_range.end <= size:
                raise FileError(f"{self.root}: shard {key} is cut short: {byte_range.end} bytes expected, {size} there")
        return await super().get(key, prototype, byte_range)


def _bounds(key: Any, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """The range of each axis that an index can touch; an axis that is indexed by arrays counts as a whole."""
    items = list(key) if isinstance(key, tuple) else [key]
    if any(item is Ellipsis for item in items):
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    return [_range(item, n) for item, n in zip(items, shape, strict=False)]


def _range(item: Any, n: int) -> tuple[int, int]:
    if isinstance(item, int | np.integer):
        at = int(item) % n
        return at, at + 1
    if isinstance(item, slice) and (item.step is None or item.step > 0):
        start, stop, _ = item.indices(n)
        return start, max(start, stop)
    return 0, n
