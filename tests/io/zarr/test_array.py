from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import LZ4, Blosc, Delta, GZip, Shuffle, Zlib, Zstd  # type: ignore[import-untyped]
from zarr.abc.codec import ArrayBytesCodec
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from napari_medseg.arrays.views import AxisView, Inside, absent_value
from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.disk import memory
from napari_medseg.io.zarr.array import StoredArray, open_array
from reader_suite import noise

VOXELS = noise((8, 6, 4), "int16")
COMPRESSORS = {"blosc": BloscCodec(), "gzip": GzipCodec(), "zstd": ZstdCodec(), "none": None}
V2_COMPRESSORS = {"blosc": Blosc(), "gzip": GZip(), "zlib": Zlib(), "zstd": Zstd(), "lz4": LZ4(), "none": None}


def store(path: Path, compressor: Any = None, *, shards: tuple[int, ...] | None = None) -> Path:
    chunks = (2, 3, 4) if shards else (4, 6, 4)
    zarr.create_array(path, data=VOXELS, chunks=chunks, shards=shards, compressors=compressor)
    return path


def v2_store(path: Path, compressor: Any) -> Path:
    zarr.create_array(path, data=VOXELS, chunks=(4, 6, 4), compressors=compressor, zarr_format=2)
    return path


def edited(path: Path, **changes: object) -> Path:
    content = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**content, **changes}))
    return path


@pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)
@pytest.mark.parametrize("shards", [None, (4, 6, 4)], ids=["chunks", "shards"])
def test_every_codec_is_read(tmp_path: Path, compressor: Any, shards: tuple[int, ...] | None) -> None:
    array = open_array(store(tmp_path / "a.zarr", compressor, shards=shards))
    assert np.array_equal(np.asarray(array), VOXELS)
    assert np.array_equal(array[3:5, 1, ::2], VOXELS[3:5, 1, ::2])
    assert not array.missing_chunks()


@pytest.mark.parametrize("compressor", V2_COMPRESSORS.values(), ids=V2_COMPRESSORS)
def test_every_codec_of_version_2_is_read(tmp_path: Path, compressor: Any) -> None:
    assert np.array_equal(np.asarray(open_array(v2_store(tmp_path / "a.zarr", compressor))), VOXELS)


V2_OTHERS = {
    "Fortran order": {"order": "F", "compressors": Zstd()},
    "big-endian": {"dtype": ">i2"},
    "filters": {"filters": [Delta("<i2"), Shuffle(2)], "compressors": GZip()},
}


@pytest.mark.parametrize("options", V2_OTHERS.values(), ids=V2_OTHERS)
def test_the_rest_of_version_2_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.zarr"
    options = {"dtype": VOXELS.dtype, **options}
    zarr.create_array(path, shape=VOXELS.shape, chunks=(3, 4, 4), zarr_format=2, **options)[...] = VOXELS
    assert np.array_equal(np.asarray(open_array(path)), VOXELS)


def sharded(inner: ArrayBytesCodec, **options: Any) -> ShardingCodec:
    return ShardingCodec(chunk_shape=(2, 3, 4), codecs=[inner], **options)


V3_OTHERS = {
    "transposed": {"filters": TransposeCodec(order=(2, 0, 1)), "compressors": ZstdCodec()},
    "big-endian": {"serializer": BytesCodec(endian="big"), "compressors": None},
    "checksums": {"compressors": [GzipCodec(), Crc32cCodec()]},
    "compressed twice": {"compressors": [ZstdCodec(), BloscCodec()]},
    "index in front": {"serializer": sharded(BytesCodec(), index_location="start"), "compressors": None},
    "shards of shards": {
        "serializer": sharded(ShardingCodec(chunk_shape=(1, 3, 2), codecs=[BytesCodec(), GzipCodec()])),
        "compressors": None,
    },
    "transposed shards": {
        "filters": TransposeCodec(order=(1, 0, 2)),
        "serializer": ShardingCodec(chunk_shape=(2, 2, 4), codecs=[BytesCodec()]),
        "compressors": None,
    },
}


# "shards of shards": zarr warns that it may become slow, which it does.
@pytest.mark.filterwarnings("ignore:.*disables partial reads")
@pytest.mark.parametrize("options", V3_OTHERS.values(), ids=V3_OTHERS)
def test_the_rest_of_version_3_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.zarr"
    made = zarr.create_array(path, shape=VOXELS.shape, chunks=(4, 6, 4), dtype=VOXELS.dtype, fill_value=-3, **options)
    made[:4] = VOXELS[:4]
    read = np.asarray(open_array(path))
    assert np.array_equal(read[:4], VOXELS[:4])
    assert np.array_equal(read, made[...])


def test_missing_chunks_of_a_shard_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    options: Any = {"shape": VOXELS.shape, "chunks": (2, 3, 4), "shards": (4, 6, 4), "dtype": VOXELS.dtype}
    zarr.create_array(path, fill_value=9, **options)[2:4, :3] = 5
    read = np.asarray(open_array(path))
    assert (read[2:4, :3] == 5).all()
    assert (np.delete(read[:4], [2, 3], axis=0) == 9).all()
    assert (read[4:] == 9).all()


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", GzipCodec(), shards=(4, 6, 4))
    codecs = json.loads((path / "zarr.json").read_text())["codecs"]
    with pytest.raises(NotSupportedError, match=r"a\.zarr: its shards, or their indices, are compressed"):
        open_array(edited(path, codecs=[*codecs, {"name": "gzip", "configuration": {"level": 1}}]))


def test_a_large_part_asks_for_memory_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(2000, 1000, 1000), chunks=(100, 1000, 1000), dtype="int16")
    array = open_array(tmp_path / "a.zarr")
    monkeypatch.setenv(memory.SETTING, "1")
    with pytest.raises(FileError, match=r"a\.zarr: too large for the memory: 3\.7 GiB needed, 1\.0 GiB allowed"):
        array[...]
    assert array[7, ::-1, 3].shape == (1000,)


def assert_names_the_chunk(array: StoredArray, key: str) -> None:
    """Reading what is in another chunk works; reading this one names it."""
    assert np.array_equal(array[:4], VOXELS[:4])
    with pytest.raises(FileError, match=rf"a\.zarr: (chunk|shard) {key} is corrupt: .*copy the store again"):
        array[4:]


@pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)
def test_a_cut_chunk_is_named(tmp_path: Path, compressor: Any) -> None:
    path = store(tmp_path / "a.zarr", compressor)
    chunk = path / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-40])
    assert_names_the_chunk(open_array(path), "c/1/0/0")


@pytest.mark.parametrize("compressor", COMPRESSORS.values(), ids=COMPRESSORS)
def test_a_chunk_of_noise_is_named(tmp_path: Path, compressor: Any) -> None:
    path = store(tmp_path / "a.zarr", compressor)
    (path / "c" / "1" / "0" / "0").write_bytes(np.random.default_rng(0).bytes(300))
    assert_names_the_chunk(open_array(path), "c/1/0/0")


@pytest.mark.parametrize("compressor", V2_COMPRESSORS.values(), ids=V2_COMPRESSORS)
def test_a_chunk_of_noise_in_version_2_is_named(tmp_path: Path, compressor: Any) -> None:
    path = v2_store(tmp_path / "a.zarr", compressor)
    (path / "1.0.0").write_bytes(np.random.default_rng(0).bytes(301))
    assert_names_the_chunk(open_array(path), "1.0.0")


@pytest.mark.parametrize("cut", [5, 60, 200])
def test_a_cut_shard_is_named(tmp_path: Path, cut: int) -> None:
    path = store(tmp_path / "a.zarr", GzipCodec(), shards=(4, 6, 4))
    shard = path / "c" / "1" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-cut])
    assert_names_the_chunk(open_array(path), "c/1/0/0")


def test_a_chunk_does_not_become_larger_than_a_chunk(tmp_path: Path) -> None:
    member = gzip.compress(bytes(1 << 20), mtime=0)
    path = store(tmp_path / "a.zarr", GzipCodec())
    (path / "c" / "1" / "0" / "0").write_bytes(gzip.compress(VOXELS[4:].tobytes()) + member * 64)
    with pytest.raises(FileError, match=r"chunk c/1/0/0 is corrupt: it would become larger than a chunk's 192 bytes"):
        open_array(path)[4:]


@pytest.mark.parametrize("codec", [Zstd(), Blosc(), LZ4()], ids=lambda codec: str(codec.codec_id))
def test_a_chunk_that_says_it_is_larger_is_not_inflated(tmp_path: Path, codec: Any) -> None:
    path = v2_store(tmp_path / "a.zarr", codec)
    (path / "1.0.0").write_bytes(codec.encode(bytes(1 << 24)))
    with pytest.raises(FileError, match=r"chunk 1\.0\.0 is corrupt: it would become larger \(16777216 bytes\)"):
        open_array(path)[4:]


def test_a_wrong_index_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        open_array(store(tmp_path / "a.zarr"))[99]


def test_missing_chunks_are_listed(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    (path / "c" / "1" / "0" / "0").unlink()
    assert open_array(path).missing_chunks() == ["c/1/0/0"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    (path / "c" / "1" / "0" / "0").unlink()
    os.mkfifo(path / "c" / "1" / "0" / "0")
    with pytest.raises(FileError, match="not a regular file but a named pipe"):
        open_array(path)[:]


@pytest.fixture(params=["a chunk", "a folder of chunks", "metadata", "an array"])
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A store with one level, a part of which is a link out of it, and that part."""
    part = {"a chunk": "0/c/1/0/0", "a folder of chunks": "0/c/1", "metadata": "0/zarr.json", "an array": "0"}
    root = tmp_path / "store"
    zarr.create_group(root)
    store(root / "0")
    name = part[request.param]
    (root / name).rename(tmp_path / "outside")
    (root / name).symlink_to(tmp_path / "outside")
    return root, name


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
def test_a_link_out_of_the_store_is_refused(linked: tuple[Path, str]) -> None:
    root, name = linked
    with pytest.raises(FileError, match=rf"store: .*{name}.* is a link that leads out of the store"):
        open_array(root / "0")[:]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
def test_links_within_the_store_and_to_it_are_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    zarr.create_group(root)
    store(root / "0")
    (root / "0" / "c" / "1").rename(root / "kept")
    (root / "0" / "c" / "1").symlink_to("../../kept")
    (root / "1").symlink_to("0")
    (tmp_path / "link").symlink_to(root)
    for path in (root / "0", root / "1", tmp_path / "link" / "1"):
        assert np.array_equal(open_array(path)[:], VOXELS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few users make links")
def test_a_link_to_nothing_is_no_background(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr")
    (path / "c" / "1" / "0" / "0").unlink()
    (path / "c" / "1" / "0" / "0").symlink_to("gone")
    with pytest.raises(FileError, match="a link to nothing"):
        open_array(path)[:]


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("payload-ran"),)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}, id="objects"),
        pytest.param({"dtype": "<i2", "filters": [{"id": "pickle", "protocol": 5}]}, id="filter"),
        pytest.param({"dtype": "<i2", "compressor": {"id": "pickle", "protocol": 5}}, id="compressor"),
    ],
)
def test_no_pickle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, object]) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.zarr"
    path.mkdir()
    plain = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "compressor": None, "filters": None}
    content = {**plain, "fill_value": None, "order": "C", **metadata}
    (path / ".zarray").write_text(json.dumps(content))
    (path / "0.0.0").write_bytes(pickle.dumps(Payload()))
    with pytest.raises((FileError, NotSupportedError), match=r"a\.zarr: .*(not allowed|is not read)"):
        open_array(path)
    assert not (tmp_path / "payload-ran").exists()


def grid_of(*chunk: int) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"shape": [-8, 6, 4]}, "impossible shape", id="negative"),
        pytest.param({"shape": [8.5, 6, 4]}, "impossible shape", id="fraction"),
        pytest.param({"chunk_grid": grid_of(4, 6, 0)}, "impossible chunk shape", id="no chunk"),
        pytest.param({"chunk_grid": grid_of(4, 6)}, "impossible chunk shape", id="too few axes"),
        pytest.param({"chunk_grid": grid_of(1 << 20, 1 << 20, 4)}, "too large to be read", id="huge chunk"),
        pytest.param({"chunk_grid": {"name": "rectilinear"}}, "chunk grid of kind 'rectilinear'", id="grid"),
        pytest.param({"shape": [10**6] * 3}, "too large an array", id="huge"),
        pytest.param({"data_type": "string"}, "an array of type 'string' is not read", id="text"),
        pytest.param({"codecs": []}, "lists no codecs", id="no codec"),
        pytest.param({"codecs": [{"name": "acme"}]}, "coded with 'acme', a codec that is not allowed", id="codec"),
    ],
)
def test_impossible_metadata_are_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    path = edited(store(tmp_path / "a.zarr"), **changes)
    with pytest.raises((FileError, NotSupportedError), match=rf"a\.zarr: .*{match}"):
        open_array(path)


@pytest.mark.parametrize("content", ["[]", '{"node_type": ', "[" * 100_000], ids=["list", "cut", "deep"])
def test_damaged_metadata_are_told(tmp_path: Path, content: str) -> None:
    path = store(tmp_path / "a.zarr")
    (path / "zarr.json").write_text(content)
    with pytest.raises(FileError, match=r"a\.zarr: its zarr metadata zarr\.json is damaged"):
        open_array(path)


def test_a_box_that_is_not_on_the_disk_has_one_value(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(4, 6), chunks=(2, 3), dtype="i2", fill_value=-7)
    array[2:4, 0:3] = 1
    view = AxisView(found := open_array(tmp_path / "a.zarr"), (None, 1, 0))
    assert found.absent_value((slice(0, 2), slice(0, 6))) == -7
    assert found.absent_value((slice(1, 4), slice(3, 6))) == -7
    assert found.absent_value((slice(1, 3), slice(2, 4))) is None
    assert view.absent_value((slice(0, 1), slice(3, 6), slice(0, 4))) == -7
    assert view.absent_value((slice(0, 1), slice(2, 6), slice(0, 4))) is None
    inside = Inside(found, (slice(1, 4), slice(2, 6)))
    assert inside.absent_value((slice(0, 3), slice(1, 4))) == -7
    assert inside.absent_value((slice(1, 2), slice(0, 1))) is None
    assert absent_value(np.zeros((2, 2)), (slice(0, 1), slice(0, 1))) is None
