"""Headers of NRRD and MetaImage as text: what is taken from them, and what is refused before ITK sees it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_medseg.errors import FileError, MedsegWarning, NotSupportedError
from napari_medseg.io.itk.header import check_stream, read

NRRD = "NRRD0004\n# a comment: type: double\ntype: short\ndimension: 3\nsizes: 4 3 2\nencoding: raw\nspace: LPS\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = "
VOXELS = bytes(48)


def nrrd(folder: Path, text: str = NRRD, voxels: bytes = VOXELS, name: str = "a.nrrd") -> Path:
    path = folder / name
    path.write_bytes(text.encode() + b"\n" + voxels)
    return path


def meta(folder: Path, text: str = META + "LOCAL\n", voxels: bytes = VOXELS, name: str = "a.mha") -> Path:
    path = folder / name
    path.write_bytes(text.encode() + voxels)
    return path


def test_nrrd(tmp_path: Path) -> None:
    header = read(nrrd(tmp_path))
    assert (header.files, header.start) == ((tmp_path / "a.nrrd",), len(NRRD) + 1)
    assert (header.encoding, header.size) == ("raw", 4 * 3 * 2 * 2)
    assert header.fields["type"] == "short"


def test_meta_image(tmp_path: Path) -> None:
    header = read(meta(tmp_path))
    assert (header.files, header.start) == ((tmp_path / "a.mha",), len(META) + len("LOCAL\n"))
    assert (header.encoding, header.size) == ("raw", 48)


@pytest.mark.parametrize("make", [nrrd, meta])
def test_bytes_behind_the_voxels_are_told(tmp_path: Path, make: Callable[..., Path]) -> None:
    with pytest.warns(MedsegWarning, match="4 extra bytes after the voxels"):
        read(make(tmp_path, voxels=VOXELS + b"more"))


def test_bytes_in_front_of_voxels_at_the_end_are_none_behind_them(tmp_path: Path) -> None:
    assert read(nrrd(tmp_path, NRRD + "byte skip: -1\n", b"junk" + VOXELS)).size == 48


def test_channels_multiply_the_bytes(tmp_path: Path) -> None:
    text = "ElementNumberOfChannels = 3\n" + META + "LOCAL\n"
    assert read(meta(tmp_path, text, bytes(144))).size == 144


def test_voxels_beside_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(5) + VOXELS)
    header = read(meta(tmp_path, "HeaderSize = 5\n" + META + "a.raw\n", b"", "a.mhd"))
    assert (header.files, header.start) == ((tmp_path / "a.raw",), 5)
    header = read(nrrd(tmp_path, NRRD + "byte skip: 5\ndata file: ./a.raw\n", b"", "a.nhdr"))
    assert (header.files[0].name, header.start) == ("a.raw", 5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(("sizes: 4 3 2", "sizes: 4 3"), "impossible dimensions: 3 axes of sizes 4 3", id="two sizes"),
        pytest.param(("sizes: 4 3 2", "sizes: 4 3 0"), "impossible dimensions", id="size 0"),
        pytest.param(("sizes: 4 3 2", "sizes: 4 3 -2"), "impossible dimensions", id="negative size"),
        pytest.param(("sizes: 4 3 2", "sizes: 4 3 3"), "72 bytes expected, at most 48 there", id="cut"),
        pytest.param(("type: short", "type: half"), "type of its voxels is not known: half", id="type"),
        pytest.param(("space: LPS", "Sizes: 4 3 2"), "'sizes' stands in it twice", id="twice"),
        pytest.param(("space: LPS", "spacings: 1 0 1"), "spacing must be positive", id="spacing"),
        pytest.param(("space: LPS", "spacings: 1 one 1"), "spacings must be 3 finite numbers", id="word"),
        pytest.param(
            ("space: LPS", "space directions: (1,0,0) (2,0,0) (0,0,1)"), "direction matrix is singular", id="parallel"
        ),
        pytest.param(("space: LPS", "space directions: (1,0) (0,1) (0,0)"), "fit no space", id="flat"),
        pytest.param(("space: LPS", "byte skip: 3"), "impossible offset of the voxels: 3", id="offset"),
        pytest.param(("space: LPS", "data file: ../b.raw"), "lies outside of its folder", id="outside"),
        pytest.param(("space: LPS", "data file: b.raw"), "its data file cannot be read", id="absent"),
        pytest.param(("space: LPS", "data file: /etc/hosts"), "lies outside of its folder", id="absolute"),
        pytest.param(("space: LPS", "data file: b/../../b.raw"), "lies outside of its folder", id="above"),
        pytest.param(("space: LPS", "data file: .ssh/key"), "lies outside of its folder", id="hidden"),
        pytest.param(("space: LPS", "data file: LIST"), "it names 1 data files", id="empty list"),
        pytest.param(("space: LPS", "data file: LIST\n../b.raw"), "lies outside of its folder", id="outside by list"),
        pytest.param(("space: LPS", "data file: ../%d.raw 0 1 1"), "outside of its folder", id="outside by pattern"),
        pytest.param(("space: LPS", "data file: %d.raw 0 1"), "are no pattern with first, last", id="short pattern"),
        pytest.param(("space: LPS", "data file: a%d.raw"), "are no pattern with first, last", id="bare pattern"),
        pytest.param(("space: LPS", "data file: %s%d.raw 0 1 1"), "are no pattern", id="pattern of text"),
        pytest.param(("space: LPS", "data file: %d.raw 0 1 0"), "count from 0 to 1 by 0: impossible", id="step 0"),
        pytest.param(("space: LPS", "data file: %d.raw 0 1 -1"), "count from 0 to 1 by -1", id="step away"),
        pytest.param(("space: LPS", "data file: %d.raw 0 99999999 1"), "impossible", id="many files"),
        pytest.param(("NRRD0004", "NRRB0004"), "does not start with NRRD", id="magic"),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path: Path, change: tuple[str, str], match: str) -> None:
    with pytest.raises(FileError, match=rf"a\.nrrd: .*{re.escape(match)}"):
        read(nrrd(tmp_path, NRRD.replace(*change)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(("encoding: raw", "encoding: bzip2"), "encoding 'bzip2' are not read", id="encoding"),
        pytest.param(("space: LPS", "line skip: 1"), "skipping lines", id="lines"),
    ],
)
def test_what_is_not_read_is_told(tmp_path: Path, change: tuple[str, str], match: str) -> None:
    with pytest.raises(NotSupportedError, match=rf"a\.nrrd: .*{match}"):
        read(nrrd(tmp_path, NRRD.replace(*change)))


@pytest.mark.parametrize(
    ("voxels", "match"),
    [
        pytest.param(gzip.compress(VOXELS), None, id="whole"),
        pytest.param(gzip.compress(VOXELS)[:-9], "end early", id="cut"),
        pytest.param(gzip.compress(bytes(47)), "48 bytes expected, at most 47 there", id="too few"),
        pytest.param(gzip.compress(bytes(49)), "larger than the header says", id="too many"),
        pytest.param(b"x" * 40, "are damaged", id="no gzip"),
        pytest.param(zlib.compress(bytes(48)), "are damaged", id="zlib, which NRRD does not know"),
    ],
)
def test_a_compressed_stream_is_inflated_to_its_end(tmp_path: Path, voxels: bytes, match: str | None) -> None:
    path = nrrd(tmp_path, NRRD.replace("raw", "gzip"), voxels)
    header = read(path)
    if match is None:
        check_stream(path, header)
        return
    with pytest.raises(FileError, match=rf"a\.nrrd: the .*{match}"):
        check_stream(path, header)
