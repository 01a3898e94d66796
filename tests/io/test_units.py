from __future__ import annotations

import pytest

from napari_medseg.io.units import millimetres

LENGTHS = {
    "mm": 1.0,
    "Millimetre": 1.0,
    "centimeters": 10.0,
    "\u00b5m": 1e-3,
    "\u03bcm": 1e-3,
    "\\u00B5m": 1e-3,
    " micron ": 1e-3,
    "nanometer": 1e-6,
    "picometer": 1e-9,
    "angstrom": 1e-7,
    "kilometer": 1e6,
    "inch": 25.4,
    "foot": 304.8,
    "yard": 914.4,
}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_unit_is_known_by_its_names_and_signs(name: str) -> None:
    assert millimetres(name) == pytest.approx(LENGTHS[name], rel=1e-12)


@pytest.mark.parametrize("name", ["pixel", "voxel", "", "second", "parsec", "mmm", "reference frame"])
def test_what_is_no_length_has_none(name: str) -> None:
    assert millimetres(name) is None
