"""The fields of an NRRD or MetaImage header that bear on place or value and that ITK passes over.

Units are honoured. What cannot be honoured is told in a warning, and a space that is not known is refused.
NRRD: teem.sourceforge.net/nrrd/format.html. MetaImage: itk.org/Wiki/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from napari_medseg import geometry
from napari_medseg.errors import FileError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.io import units

_PATIENT_SPACES = (
    "rightanteriorsuperior", "ras", "leftanteriorsuperior", "las", "leftposteriorsuperior", "lps",
    "rightanteriorsuperiortime", "rast", "leftanteriorsuperiortime", "last", "leftposteriorsuperiortime", "lpst",
)  # fmt: skip
_OTHER_SPACES = (
    "scannerxyz", "scannerxyztime", "3drighthanded", "3drh", "3dlefthanded", "3dlh", "3drighthandedtime", "3drht",
    "3dlefthandedtime", "3dlht",
)  # fmt: skip
"""The spaces that NRRD knows, in lower case without blanks and hyphens; those here say nothing of a patient."""
_NO_UNIT = ("", "none", "?", "???", "pixel", "voxel")
_PARAMETERS_OF_VALUE = ("elementtointensityfunctionslope", "elementtointensityfunctionoffset")


def in_millimetres(affine_lps_xyz: FloatArray, fields: Mapping[str, str], path: Path, *, nrrd: bool) -> FloatArray:
    """The affine in mm, by the units of the header. Warns of a unit other than mm, and of one that is not known."""
    if not nrrd:
        factor = _factor(fields.get("distanceunits", ""), path)
        return np.diag([factor, factor, factor, 1.0]) @ affine_lps_xyz
    by_world = _factors(fields.get("spaceunits", ""), path)
    if len(by_world) == 3:
        return np.diag([*by_world, 1.0]) @ affine_lps_xyz
    if "spacedirections" in fields:
        return affine_lps_xyz
    kinds = fields.get("kinds", "").split()
    by_axis = _factors(fields.get("units", ""), path)
    if len(kinds) == len(by_axis):  # the axis of the components has no place
        by_axis = [f for f, kind in zip(by_axis, kinds, strict=True) if kind in ("domain", "space")]
    return affine_lps_xyz @ np.diag([*by_axis, 1.0]) if len(by_axis) == 3 else affine_lps_xyz


def _factors(text: str, path: Path) -> list[float]:
    """Millimetres of each quoted unit."""
    named = re.findall(r'"([^"]*)"|(?<!\S)(?:\?\?\?|none)(?!\S)', text)
    lengths = {unit: _factor(unit, path) for unit in dict.fromkeys(named)}  # each is told once
    return [lengths[unit] for unit in named]


def _factor(unit: str, path: Path) -> float:
    name = unit.strip().lower()
    if name in _NO_UNIT:
        return 1.0
    factor = units.millimetres(name)
    if factor is None:
        warn(f"{path}: the unit {unit!r:.50} is not known; positions are read as mm")
        return 1.0
    if factor != 1.0:
        warn(f"{path}: the unit is {name}; positions are converted to mm")
    return factor


def check_space(fields: Mapping[str, str], path: Path) -> None:
    """Raise FileError for a space of NRRD that is not known, and for a spacing that only the ends of axes state."""
    if "axismaxs" in fields and not fields.keys() & {"spacings", "spacedirections"}:
        raise FileError(f"{path}: its spacing is stated by axis mins and axis maxs, which are not read: add spacings")
    space = _space(fields)
    if space and space not in _PATIENT_SPACES + _OTHER_SPACES:
        raise FileError(
            f"{path}: its space {fields['space']!r:.50} is not known: left-posterior-superior, left-anterior-superior "
            f"or right-anterior-superior is expected"
        )


def _space(fields: Mapping[str, str]) -> str:
    return fields.get("space", "").lower().replace(" ", "").replace("-", "")


def warn_of_oddities(fields: Mapping[str, str], path: Path, *, nrrd: bool, components: int) -> None:
    """Warn of each field that a reader would have to honour and that is not."""
    told = _nrrd_oddities(fields, components) if nrrd else _meta_oddities(fields)
    for text in told:
        warn(f"{path}: {text}")


def _nrrd_oddities(fields: Mapping[str, str], components: int) -> Iterator[str]:
    space = _space(fields)
    if "space" not in fields and "spacedimension" not in fields:
        yield "no orientation is stored (no space): left and right are unknown"
    elif space not in _PATIENT_SPACES:
        what = f"its space {fields['space']!r:.50}" if space else "its space"
        yield f"{what} names no patient: left and right are unknown; it is read as left-posterior-superior"
    frame = re.findall(r"\(([^)]*)\)", fields.get("measurementframe", ""))
    if components > 1 and frame and not _is_identity(frame):
        yield "its measurement frame is not the identity; the components are read as they are stored"
    if "time" in fields.get("kinds", "").lower().split():
        yield "one of its axes is time, not space; it is read as an axis of space"
    if "oldmin" in fields or "oldmax" in fields:
        yield "its values were quantised (old min, old max); they are read as they are stored"


def _is_identity(rows: list[str]) -> bool:
    try:
        matrix = np.array([[float(value) for value in row.split(",")] for row in rows])
    except ValueError:
        return False
    return matrix.shape == (3, 3) and np.allclose(matrix, np.eye(3), atol=1e-4)


def _meta_oddities(fields: Mapping[str, str]) -> Iterator[str]:
    if not fields.keys() & {"elementspacing", "elementsize"}:
        yield "no spacing is stored (no ElementSpacing): 1 mm is taken"
    said = fields.get("anatomicalorientation", "").upper()
    matrix = _numbers(fields, "transformmatrix", "rotation", "orientation")
    # Each row of the matrix is the direction of one axis of the array.
    rows = matrix.reshape(3, 3) if len(matrix) == 9 else np.eye(3)
    if re.fullmatch("[RLAPIS]{3}", said):
        towards = _letters(rows)
        # Some writers name the side that an axis starts from, as ITK, and some the side that it runs to.
        if said not in (towards, towards.translate(_OPPOSITE)):
            how = "its TransformMatrix is used" if len(matrix) else "no TransformMatrix is there; it is read as RAI"
            yield f"its AnatomicalOrientation {said} contradicts its axes, which run to {towards}: {how}"
    if np.any(_numbers(fields, "centerofrotation") != 0) and not np.allclose(rows, np.eye(3)):
        yield "its CenterOfRotation is not 0; the Offset is read as the place of the first voxel"
    slope, intercept = (_numbers(fields, key) for key in _PARAMETERS_OF_VALUE)
    if np.any(slope != 1) or np.any(intercept != 0):
        yield "its ElementToIntensityFunction is not applied; values are read as they are stored"


_OPPOSITE = str.maketrans("RLAPIS", "LRPASI")


def _letters(rows: FloatArray) -> str:
    """Where the axes x, y and z of a MetaImage run to, such as LPS."""
    affine = np.eye(4)
    affine[:3, :3] = rows.T
    return geometry.orientation_of(geometry.from_itk(affine))[::-1]


def _numbers(fields: Mapping[str, str], *keys: str) -> FloatArray:
    """The numbers of the first of these fields that is there; empty where they are none."""
    text = next((fields[key] for key in keys if key in fields), "")
    try:
        return np.array([float(word) for word in text.split()])
    except ValueError:
        return np.empty(0)
