from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from grids import grid
from napari_medseg import io
from napari_medseg.errors import FileError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.volume import Grid, Segmentation, Volume
from reader_suite import DetachedReaderSuite, FileReaderSuite, farthest_mm, noise, sitk_affine

Array = npt.NDArray[np.int16]
VOXELS = noise((3, 4, 5), "int16")
NRRD = """NRRD0004
type: short
dimension: 3
space: {space}
sizes: 5 4 3
space directions: (0.8,0,0) (0,0.9,0) (0,0,2.5)
endian: little
encoding: {encoding}
space origin: (1,2,3)
{extra}
"""
META = """ObjectType = Image
NDims = {ndims}
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 1 2 3
ElementSpacing = {spacing}
DimSize = {sizes}
ElementType = MET_SHORT
ElementDataFile = {data}
"""


class TestNrrd(FileReaderSuite):
    suffix = ".nrrd"


class TestMetaImage(FileReaderSuite):
    suffix = ".mha"


class TestDetachedNrrd(DetachedReaderSuite):
    suffix = ".nhdr"


class TestDetachedMetaImage(DetachedReaderSuite):
    suffix = ".mhd"


def nrrd(
    path: Path, space: str = "left-posterior-superior", encoding: str = "raw", extra: str = "", data: Array = VOXELS
) -> Path:
    voxels = data.tobytes()
    content = gzip.compress(voxels) if encoding == "gzip" else voxels
    path.write_bytes(NRRD.format(space=space, encoding=encoding, extra=extra).encode() + content)
    return path


def meta(path: Path, *, ndims: int = 3, sizes: str = "5 4 3", spacing: str = "1 1 1", data: str = "LOCAL") -> Path:
    header = META.format(ndims=ndims, sizes=sizes, spacing=spacing, data=data)
    path.write_bytes(header.encode() + (VOXELS.tobytes() if data == "LOCAL" else b""))
    return path


@pytest.mark.parametrize(
    ("space", "orientation", "origin"),
    [
        ("left-posterior-superior", "SPL", (3, 2, 1)),
        ("right-anterior-superior", "SAR", (3, -2, -1)),
        ("left-anterior-superior", "SAL", (3, -2, 1)),
    ],
)
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_spaces_of_nrrd(
    tmp_path: Path, space: str, orientation: str, origin: tuple[float, float, float], encoding: str
) -> None:
    volume = io.read(nrrd(tmp_path / "a.nrrd", space, encoding))
    assert np.array_equal(volume.data[0], VOXELS)
    assert (volume.grid.orientation, volume.grid.origin) == (orientation, origin)
    assert volume.grid.spacing == pytest.approx((2.5, 0.9, 0.8))


def test_without_a_space_left_and_right_are_unknown(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    text = path.read_bytes()
    text = text.replace(b"space: left-posterior-superior\n", b"").replace(b"space origin: (1,2,3)\n", b"")
    path.write_bytes(text.replace(b"space directions: (0.8,0,0) (0,0.9,0) (0,0,2.5)", b"spacings: 0.8 0.9 2.5"))
    with pytest.warns(MedsegWarning, match="no orientation is stored .*left and right are unknown"):
        volume = io.read(path)
    assert volume.grid.spacing == pytest.approx((2.5, 0.9, 0.8))


def test_names_of_3d_slicer_are_read(tmp_path: Path) -> None:
    extra = "Segment0_Name:=liver\nSegment0_LabelValue:=4\nSegment0_Color:=1 0.501961 0\nSegment1_Name:=nameless\n"
    nrrd(tmp_path / "a.nrrd", extra=extra, data=np.abs(VOXELS // 2))
    read = io.load(tmp_path / "a.nrrd")
    assert isinstance(read, Segmentation)
    assert read.labels == {4: "liver"}
    assert read.colours == {4: (255, 128, 0)}


def test_no_text_of_others_leaves_the_child_or_is_written(tmp_path: Path) -> None:
    nrrd(tmp_path / "a.nrrd", extra="0010|0010:=CANARY^NAME\nPatientName:=CANARY^NAME\n")
    assert "CANARY" not in repr(io.load(tmp_path / "a.nrrd"))
    io.write(tmp_path / "b.nrrd", io.read(tmp_path / "a.nrrd"))
    io.write(tmp_path / "b.mha", io.read(tmp_path / "a.nrrd"))
    for name in ("b.nrrd", "b.mha"):
        assert b"CANARY" not in (tmp_path / name).read_bytes()


def test_names_are_written_for_3d_slicer(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nrrd", Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"), {4: "liver"}))
    header = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n")[0]
    assert b"Segment0_LabelValue:=4" in header
    assert b"Segment0_Name:=liver" in header


def test_a_detached_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    assert np.array_equal(io.read(meta(tmp_path / "a.mhd", data="a.raw")).data[0], VOXELS)
    nrrd(tmp_path / "b.nhdr", extra="data file: a.raw\n")
    (tmp_path / "b.nhdr").write_bytes((tmp_path / "b.nhdr").read_bytes().split(b"\n\n")[0] + b"\n")
    assert np.array_equal(io.read(tmp_path / "b.nhdr").data[0], VOXELS)
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes()[:-40])
    with pytest.raises(FileError, match=r"a\.mhd: the voxels are cut short .*120 bytes expected, at most 80 there"):
        io.read(tmp_path / "a.mhd")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(FileError, match=r"no such file: .*a\.raw"):
        io.read(tmp_path / "a.mhd")


def test_a_data_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(VOXELS.tobytes())
    (tmp_path / "inside").mkdir()
    with pytest.raises(FileError, match=r"data file '\.\./secret' lies outside of its folder"):
        io.read(meta(tmp_path / "inside" / "a.mhd", data="../secret"))


@pytest.mark.parametrize(
    ("ndims", "sizes", "spacing", "match"),
    [
        pytest.param(3, "5 4", "1 1 1", "impossible dimensions", id="too few sizes"),
        pytest.param(99, "5 4 3", "1 1 1", "impossible dimensions", id="99 axes"),
        pytest.param(3, "5 -4 3", "1 1 1", "impossible dimensions", id="negative size"),
        pytest.param(3, "100000 100000 100000", "1 1 1", "cut short .*bytes expected", id="huge"),
        pytest.param(3, "5 4 30", "1 1 1", "cut short .*1200 bytes expected, at most 120 there", id="cut"),
        pytest.param(3, "5 4 3", "1 1 0", "[sS]pacing", id="zero spacing"),
        pytest.param(3, "5 4 3", "1 1 -2", "spacing must be positive", id="negative spacing"),
    ],
)
def test_an_impossible_header_is_refused(tmp_path: Path, ndims: int, sizes: str, spacing: str, match: str) -> None:
    with pytest.raises(FileError, match=rf"a\.mha: .*{match}"):
        io.read(meta(tmp_path / "a.mha", ndims=ndims, sizes=sizes, spacing=spacing))


def test_a_damaged_stream_is_told(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", encoding="gzip")
    content = path.read_bytes()
    crc = struct.unpack("<I", content[-8:-4])[0]
    path.write_bytes(content[:-8] + struct.pack("<I", crc ^ 1) + content[-4:])
    with pytest.raises(FileError, match="compressed voxels are damaged"):
        io.read(path)


def test_a_series_is_not_guessed(tmp_path: Path) -> None:
    header = NRRD.format(space="x", encoding="raw", extra="")
    header = header.replace("dimension: 3", "dimension: 4").replace("sizes: 5 4 3", "sizes: 5 4 3 2")
    lines = [line for line in header.splitlines() if not line.startswith("space")]
    (tmp_path / "a.nrrd").write_bytes("\n".join(lines).rstrip().encode() + b"\n\n" + VOXELS.tobytes() * 2)
    with pytest.raises(NotSupportedError, match=r"= \(5, 4, 3, 2\); .*is not guessed"):
        io.read(tmp_path / "a.nrrd")


def test_time_beside_the_axes_of_space_is_not_guessed(tmp_path: Path) -> None:
    text = "NRRD0004\ntype: short\ndimension: 4\nsizes: 5 4 3 2\nencoding: raw\nendian: little\nspace: RAS\n"
    text += "space directions: (1,0,0) (0,1,0) (0,0,1) none\nkinds: space space space time\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + bytes(240))
    with pytest.raises(NotSupportedError, match=r"a\.nrrd: a time series, .*not guessed: save one 3D volume"):
        io.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize(("dtype", "written"), [("int8", "int16"), ("int64", "int32"), ("uint64", "int32")])
def test_types_without_a_wrapping_take_the_next(tmp_path: Path, dtype: str, written: str) -> None:
    image = Volume(np.arange(60, dtype=dtype).reshape(1, 3, 4, 5), grid("SPL"))
    io.write(tmp_path / "a.nrrd", image)
    read = io.read(tmp_path / "a.nrrd")
    assert read.data.dtype == np.dtype(written)
    assert np.array_equal(read.data[:], image.data[:])


def test_values_beyond_the_format_are_refused(tmp_path: Path) -> None:
    image = Volume(np.full((1, 3, 4, 5), 2**40), grid("SPL"))
    with pytest.raises(InputError, match=r"do not fit this format: write \.nii\.gz instead"):
        io.write(tmp_path / "a.nrrd", image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "dtype"), [("signed char", "int8"), ("int64", "int64"), ("ulonglong", "uint64")])
def test_types_without_a_wrapping_are_read(tmp_path: Path, kind: str, dtype: str) -> None:
    header = NRRD.format(space="left-posterior-superior", encoding="raw", extra="")
    voxels = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    (tmp_path / "a.nrrd").write_bytes(header.replace("type: short", f"type: {kind}").encode() + voxels.tobytes())
    read = io.read(tmp_path / "a.nrrd")
    assert read.data.dtype == np.dtype(dtype)
    assert np.array_equal(read.data[0], voxels)


def test_names_too_long_for_metaimage_are_told(tmp_path: Path) -> None:
    names = {label: f"a rather long name of structure {label}" for label in range(1, 1000)}
    labels = Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"), names)
    with pytest.warns(MedsegWarning, match=r"too long for MetaImage and are left out: write \.nrrd"):
        io.write(tmp_path / "a.mha", labels)
    assert np.array_equal(io.read_segmentation(tmp_path / "a.mha").data[:], labels.data[:])
    io.write(tmp_path / "a.nrrd", labels)
    assert io.read_segmentation(tmp_path / "a.nrrd").labels == names


@pytest.mark.parametrize("name", ["brain1", "breast1"])
def test_real_regions_lie_on_their_images(medseg_data: Path, name: str) -> None:
    path = medseg_data / "roi_mr" / f"{name}_image.nrrd"
    image, labels = io.read(path), io.read_segmentation(medseg_data / "roi_mr" / f"{name}_label.nrrd")
    assert labels.grid.same_as(image.grid)
    assert set(np.unique(labels.data[:])) == {0, 1}
    affine, array = sitk_affine(path)
    assert np.array_equal(array, image.data[0])
    assert farthest_mm(image.grid, Grid(image.grid.shape, affine)) < 0.01


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_an_outline_needs_no_voxels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (1, 20, 20, 20)).astype(np.int16)
    io.write(path, Volume(voxels, Grid.from_spacing((20, 20, 20), (3, 2, 1))))
    content = bytearray(path.read_bytes())
    content[-len(content) // 2] ^= 255
    path.write_bytes(content)
    assert io.peek(path).grid.spacing == (3.0, 2.0, 1.0)
    with pytest.raises(FileError, match=f"a{suffix}: the compressed voxels are damaged"):
        io.read(path)


DETACHED = [".mhd", ".nhdr"]
NAMES = ["Größe", "肝臓", "scan 1", "50%", "50%d", "%d 0 5 1", "a%03d.b", "LIST", "a#1"]


@pytest.mark.parametrize("suffix", DETACHED)
@pytest.mark.parametrize("name", NAMES)
def test_a_detached_header_of_any_name_comes_back(tmp_path: Path, name: str, suffix: str) -> None:
    image = Volume(VOXELS[None], grid("SPL"))
    path = tmp_path / f"{name}{suffix}"
    for _ in range(2):
        io.write(path, image)
        read = io.read(path)
        assert np.array_equal(read.data[0], VOXELS)
        assert read.name == name
    assert path.is_file()
    assert len(list(tmp_path.iterdir())) == 2
    affine, array = sitk_affine(path)
    assert np.array_equal(array, VOXELS)
    assert farthest_mm(Grid(VOXELS.shape, affine), image.grid) < 0.01


@pytest.mark.parametrize("suffix", DETACHED)
@pytest.mark.parametrize("folder", ["100%", "a%d", "%%"])
def test_a_detached_header_is_written_into_a_folder_of_any_name(tmp_path: Path, folder: str, suffix: str) -> None:
    path = tmp_path / folder / f"a%d{suffix}"
    path.parent.mkdir()
    for _ in range(2):
        io.write(path, Volume(VOXELS[None], grid("SPL")))
        assert np.array_equal(io.read(path).data[0], VOXELS)
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.parametrize("suffix", DETACHED)
def test_names_that_differ_by_a_percent_sign_get_data_files_of_their_own(tmp_path: Path, suffix: str) -> None:
    for value, name in enumerate(("50%", "50_", "5%_", "50__")):
        io.write(tmp_path / f"{name}{suffix}", Volume(np.full((1, 3, 4, 5), value, np.int16), grid("SPL")))
    for value, name in enumerate(("50%", "50_", "5%_", "50__")):
        assert np.unique(io.read(tmp_path / f"{name}{suffix}").data[:]).tolist() == [value]


@pytest.mark.parametrize("suffix", DETACHED)
def test_a_line_end_in_a_name_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="a line end in the name cannot be written into the header"):
        io.write(tmp_path / f"a\nencoding: raw{suffix}", Volume(VOXELS[None], grid("SPL")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", ["50%.raw", "a%d.raw", "Größe.raw", "sub/a.raw", "./a.raw"])
@pytest.mark.parametrize("msb", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_data_files_as_others_name_them(tmp_path: Path, data: str, msb: bool, compressed: bool) -> None:
    (tmp_path / "sub").mkdir()
    content = VOXELS.astype(">i2" if msb else "<i2").tobytes()
    (tmp_path / data).write_bytes(zlib.compress(content) if compressed else content)
    path = meta(tmp_path / "a.mhd", data=data)
    text = path.read_text().replace("CompressedData = False", f"CompressedData = {compressed}")
    path.write_text(text.replace("MSB = False", f"MSB = {msb}"))
    assert np.array_equal(io.read(path).data[0], VOXELS)
    assert io.peek(path).grid.shape == VOXELS.shape
    if "%d" in data:  # to an NRRD it is a pattern without numbers, and refused in test_header.py
        return
    if compressed:
        (tmp_path / data).write_bytes(gzip.compress(content))
    nrrd(tmp_path / "b.nhdr", encoding="gzip" if compressed else "raw", extra=f"data file: {data}\n")
    header = (tmp_path / "b.nhdr").read_bytes().split(b"\n\n")[0].replace(b"little", b"big" if msb else b"little")
    (tmp_path / "b.nhdr").write_bytes(header + b"\n")
    assert np.array_equal(io.read(tmp_path / "b.nhdr").data[0], VOXELS)


def test_no_name_holds_a_null_byte(tmp_path: Path) -> None:
    meta(tmp_path / "a.mhd", data="a\0b.raw")
    nrrd(tmp_path / "b.nhdr", extra="data file: a\0b.raw\n")
    for name in ("a.mhd", "b.nhdr"):
        with pytest.raises(FileError, match=rf"{name}: the name of its data file holds a null byte: 'a\\x00b"):
            io.read(tmp_path / name)
    with pytest.raises(FileError, match=r"no such file: .*null byte"):
        io.read(tmp_path / "a\0b.nii")
    volume = Volume(np.zeros((1, 2, 2, 2)), Grid.from_spacing((2, 2, 2), (1, 1, 1)))
    for suffix in (".nii.gz", ".zarr", ".mha"):
        with pytest.raises(FileError, match=r"no such file: .*null byte"):
            io.write(tmp_path / f"a\0b{suffix}", volume)


def detached(path: Path, fields: str, encoding: str = "raw") -> Path:
    header = NRRD.format(space="left-posterior-superior", encoding=encoding, extra="").rstrip("\n")
    path.write_text(f"{header}\n{fields}\n")
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(
    "fields",
    [
        "data file: LIST\nraw/s0.raw\nraw/s1.raw\nraw/s2.raw",
        "data file: LIST 2\nraw/s0.raw\nraw/s1.raw\nraw/s2.raw",
        "data file: raw/s%d.raw 0 2 1",
        "data file: raw/s%01d.raw 0 2 1 2",
    ],
)
def test_voxels_in_several_files(tmp_path: Path, fields: str, encoding: str) -> None:
    (tmp_path / "raw").mkdir()
    for number, plane in enumerate(VOXELS):
        content = plane.tobytes()
        (tmp_path / "raw" / f"s{number}.raw").write_bytes(gzip.compress(content) if encoding == "gzip" else content)
    path = detached(tmp_path / "a.nhdr", fields, encoding)
    assert np.array_equal(io.read(path).data[0], VOXELS)
    last = tmp_path / "raw" / "s2.raw"
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(FileError, match=r"a\.nhdr: .*(cut short|end early)"):
        io.read(path)
    last.unlink()
    with pytest.raises(FileError, match=r"no such file: .*s2\.raw"):
        io.read(path)


@pytest.mark.parametrize("skip", [1, 352])
def test_bytes_are_skipped_behind_the_inflation(tmp_path: Path, skip: int) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * skip + VOXELS.tobytes()))
    path = detached(tmp_path / "a.nhdr", f"byte skip: {skip}\ndata file: a.gz", "gzip")
    assert np.array_equal(io.read(path).data[0], VOXELS)
    detached(path, f"byte skip: {skip + 1}\ndata file: a.gz", "gzip")
    with pytest.raises(FileError, match="cut short"):
        io.read(path)
