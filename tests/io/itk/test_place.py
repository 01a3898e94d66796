"""Fields that ITK passes over: units are honoured, and what else bears on place or value is told or refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from napari_medseg import io
from napari_medseg.errors import FileError, MedsegWarning
from napari_medseg.volume import Volume

VOXELS = np.arange(120, dtype="<i2").tobytes()
NRRD = "NRRD0005\ntype: short\ndimension: 3\nsizes: 4 5 6\nendian: little\nencoding: raw\n"
PLACE = "space directions: (25,0,0) (0,25,0) (0,0,50)\nspace origin: (100,200,300)\n"
LPS = "space: left-posterior-superior\n"
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nOffset = 100 200 300\n"
    "ElementSpacing = 25 25 50\nDimSize = 4 5 6\n{fields}ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def nrrd(folder: Path, fields: str, voxels: bytes = VOXELS) -> Path:
    (folder / "a.nrrd").write_bytes(f"{NRRD}{fields}\n".encode() + voxels)
    return folder / "a.nrrd"


def meta(folder: Path, fields: str) -> Path:
    (folder / "a.mha").write_bytes(META.format(fields=fields).encode() + VOXELS)
    return folder / "a.mha"


def test_a_missing_spacing_is_told(tmp_path: Path) -> None:
    path = meta(tmp_path, "")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"ElementSpacing = 25 25 50\n", b""))
    with pytest.warns(MedsegWarning, match="no spacing is stored .*: 1 mm is taken"):
        assert io.read(path).grid.spacing == (1.0, 1.0, 1.0)
    path.write_bytes(content.replace(b"ElementSpacing", b"elementspacing"))
    with (
        pytest.warns(MedsegWarning, match="'elementspacing' is passed over: MetaImage spells it ElementSpacing"),
        pytest.warns(MedsegWarning, match="no spacing is stored"),
    ):
        assert io.read(path).grid.spacing == (1.0, 1.0, 1.0)
    path.write_bytes(content.replace(b"ElementSpacing", b"ElementSize"))
    assert io.read(path).grid.spacing == (50.0, 25.0, 25.0)


def assert_scaled(volume: Volume, mm: float) -> None:
    assert volume.grid.spacing == pytest.approx(np.array((50, 25, 25)) * mm)
    assert volume.grid.origin == pytest.approx(np.array((300, 200, 100)) * mm)


def units(unit: str) -> str:
    return "space units:" + f' "{unit}"' * 3 + "\n"


UNITS = {"microns": 1e-3, "um": 1e-3, "µm": 1e-3, "Micrometer": 1e-3, "cm": 10, "m": 1000, "nm": 1e-6}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.filterwarnings("ignore:.*hardly true")
def test_units_are_honoured_and_told(tmp_path: Path, unit: str) -> None:
    paths = [
        nrrd(tmp_path, f"{LPS}{PLACE}{units(unit)}"),
        meta(tmp_path, f"DistanceUnits = {unit}\n"),
    ]
    for path in paths:
        with pytest.warns(MedsegWarning, match="the unit is .*; positions are converted to mm"):
            assert_scaled(io.read(path), UNITS[unit])
        with pytest.warns(MedsegWarning, match="the unit is"):
            assert io.peek(path).grid.spacing == pytest.approx(np.array((50, 25, 25)) * UNITS[unit])


@pytest.mark.parametrize("unit", ["mm", "MM", "millimeters", "", "none"])
def test_millimetres_are_not_told(tmp_path: Path, unit: str) -> None:
    assert_scaled(io.read(nrrd(tmp_path, f"{LPS}{PLACE}{units(unit)}")), 1)


def test_each_axis_of_the_space_has_its_own_unit(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="microns"):
        grid = io.read(nrrd(tmp_path, f'{LPS}{PLACE}space units: "mm" "mm" "microns"\n')).grid
    assert grid.spacing == pytest.approx((0.05, 25, 25))
    assert grid.origin == pytest.approx((0.3, 200, 100))


def test_units_of_axes_without_a_space(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="(the unit is um|left and right are unknown)"):
        grid = io.read(nrrd(tmp_path, 'spacings: 25 25 50\nunits: "um" "um" "um"\n')).grid
    assert grid.spacing == pytest.approx((0.05, 0.025, 0.025))


def test_a_unit_that_is_not_known_is_told(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="unit 'furlong' is not known; positions are read as mm"):
        assert_scaled(io.read(nrrd(tmp_path, f'{LPS}{PLACE}space units: "furlong" "mm" "mm"\n')), 1)


@pytest.mark.parametrize("space", ["left-handed-xyz", "right-posterior-superior", "x"])
def test_a_space_that_is_not_known_is_refused(tmp_path: Path, space: str) -> None:
    with pytest.raises(FileError, match=rf"a\.nrrd: its space '{space}' is not known: left-posterior-superior"):
        io.read(nrrd(tmp_path, f"space: {space}\n{PLACE}"))


def test_a_spacing_by_the_ends_of_axes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"a\.nrrd: its spacing is stated by axis mins and axis maxs.*: add spacings"):
        io.read(nrrd(tmp_path, "axis mins: 10 20 30\naxis maxs: 14 26 36\n"))


def test_a_unit_of_three_axes_is_told_once(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="the unit is") as told:
        io.peek(nrrd(tmp_path, f"{LPS}{PLACE}{units('um')}"))
    assert len(told) == 1


ODD_NRRD = {
    "scanner": (f"space: scanner-xyz\n{PLACE}", "'scanner-xyz' names no patient: left and right are unknown"),
    "left-handed": (f"space: 3D-left-handed\n{PLACE}", "'3D-left-handed' names no patient"),
    "3D right-handed": (f"space: 3D right handed\n{PLACE}", "names no patient"),
    "dimension": (f"space dimension: 3\n{PLACE}", "its space names no patient"),
    "no space": ("spacings: 25 25 50\n", "no orientation is stored"),
    "time": (f"{LPS}{PLACE}kinds: domain domain time\n", "one of its axes is time"),
    "quantised": (f"{LPS}{PLACE}old min: 0\nold max: 1\n", "values were quantised"),
}


@pytest.mark.parametrize("name", ODD_NRRD)
def test_what_an_nrrd_says_and_is_not_honoured_is_told(tmp_path: Path, name: str) -> None:
    fields, match = ODD_NRRD[name]
    with pytest.warns(MedsegWarning, match=match):
        read = io.read(nrrd(tmp_path, fields))
    assert read.grid.spacing == (50, 25, 25)


@pytest.mark.parametrize("told", [True, False])
def test_a_measurement_frame_bears_on_components_only(tmp_path: Path, told: bool) -> None:
    frame = "measurement frame: (0,1,0) (1,0,0) (0,0,1)\n"
    assert_scaled(io.read(nrrd(tmp_path, LPS + PLACE + frame)), 1)
    several = NRRD.replace("dimension: 3", "dimension: 4").replace("sizes: ", "sizes: 3 ")
    identity = "measurement frame: (1,0,0) (0,1,0) (0,0,1)\n"
    fields = LPS + PLACE.replace("directions: ", "directions: none ") + "kinds: vector domain domain domain\n"
    (tmp_path / "b.nrrd").write_bytes((several + fields + (frame if told else identity) + "\n").encode() + VOXELS * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MedsegWarning)
        assert io.read(tmp_path / "b.nrrd").data.shape == (3, 6, 5, 4)
    assert any("measurement frame is not the identity" in str(w.message) for w in caught) == told


IDENTITY, FLIPPED = "TransformMatrix = 1 0 0 0 1 0 0 0 1\n", "TransformMatrix = -1 0 0 0 -1 0 0 0 1\n"
AGREES = [
    (IDENTITY, "RAI"),
    (IDENTITY, "LPS"),
    (FLIPPED, "LPI"),
    (FLIPPED, "RAS"),
    ("", "RAI"),
    (IDENTITY, "???"),
    ("TransformMatrix = 0 1 0 0 0 1 1 0 0\n", "AIR"),
]


@pytest.mark.parametrize(("matrix", "said"), AGREES)
def test_an_orientation_that_agrees_is_not_told(tmp_path: Path, matrix: str, said: str) -> None:
    assert_scaled(io.read(meta(tmp_path, f"{matrix}AnatomicalOrientation = {said}\n")), 1)


ODD_META = {
    "contradiction": (f"{IDENTITY}AnatomicalOrientation = LPI\n", "LPI contradicts .* run to LPS: its TransformMatrix"),
    "alone": ("AnatomicalOrientation = LPI\n", "LPI contradicts .*: no TransformMatrix is there"),
    "centre": (f"{FLIPPED}CenterOfRotation = 1 2 3\n", "CenterOfRotation is not 0"),
    "slope": ("ElementToIntensityFunctionSlope = 2\n", "ElementToIntensityFunction is not applied"),
    "offset": ("ElementToIntensityFunctionOffset = -1024\n", "ElementToIntensityFunction is not applied"),
}


@pytest.mark.parametrize("name", ODD_META)
def test_what_a_meta_image_says_and_is_not_honoured_is_told(tmp_path: Path, name: str) -> None:
    fields, match = ODD_META[name]
    with pytest.warns(MedsegWarning, match=match):
        assert_scaled(io.read(meta(tmp_path, fields)), 1)
