"""Both inflaters, ISA-L and zlib, check what they inflate; ISA-L may be absent."""

from __future__ import annotations

import builtins
import gzip
import importlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from grids import grid
from napari_medseg import io
from napari_medseg.errors import FileError
from napari_medseg.io.disk import inflate
from napari_medseg.volume import Volume
from reader_suite import noise

CONTENT = bytes(100_000) + np.random.default_rng(0).bytes(3_000)


@pytest.fixture(params=["isal", "zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    if request.param == "isal":
        pytest.importorskip("isal", reason="ISA-L is not installed here")
        yield inflate
        return
    found = builtins.__import__

    def without_isal(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("isal"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without_isal)
        importlib.reload(inflate)
    assert inflate.GzipFile is gzip.GzipFile
    yield inflate
    importlib.reload(inflate)


def test_a_stream_is_inflated_in_parts(inflater: ModuleType) -> None:
    for coded in (zlib.compress(CONTENT), gzip.compress(CONTENT)):
        stream = inflater.inflater()
        start = stream.decompress(coded, 1000)
        assert len(start) == 1000
        assert start + stream.decompress(stream.unconsumed_tail, 1 << 20) == CONTENT
        assert stream.eof


def test_a_wrong_checksum_is_damage(inflater: ModuleType) -> None:
    coded = bytearray(zlib.compress(CONTENT))
    coded[-1] ^= 1
    with pytest.raises(inflater.ERRORS, match=r"(?i)incorrect (data check|checksum)"):
        inflater.inflater().decompress(bytes(coded), 1 << 20)


def nifti(folder: Path) -> tuple[Path, bytes]:
    path = folder / "a.nii.gz"
    io.write(path, Volume(noise((1, 13, 14, 15), "int16"), grid("SPL", (13, 14, 15))))
    return path, gzip.decompress(path.read_bytes())


def test_a_file_of_several_members_is_read(inflater: ModuleType, tmp_path: Path) -> None:
    path, content = nifti(tmp_path)
    whole = np.asarray(io.read(path).data)
    path.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert np.array_equal(np.asarray(io.read(path).data), whole)


@pytest.mark.parametrize("at", [-1, -5, -2000], ids=["length", "checksum", "voxels"])
def test_a_flipped_bit_is_told(inflater: ModuleType, tmp_path: Path, at: int) -> None:
    path, content = nifti(tmp_path)
    coded = bytearray(gzip.compress(content))
    coded[at] ^= 4
    path.write_bytes(coded)
    with pytest.raises(FileError, match=r"a\.nii\.gz: the (gzip stream (is damaged|ends)|voxels are cut)"):
        io.read(path)


def test_what_inflates_without_end_is_not_inflated(inflater: ModuleType, tmp_path: Path) -> None:
    path, content = nifti(tmp_path)
    path.write_bytes(gzip.compress(content) + gzip.compress(bytes(80 << 20)))
    with pytest.raises(FileError, match="more than 64 MiB follow the voxels"):
        io.read(path)
