"""Abdominal phantoms with exact labels, made of formulas, and the files of the sample that comes with the package.

Every tissue is a stack of ellipses, given in mm in the patient: S up, P back, L to the patient's left. They are painted
one over the other at three samples per voxel and axis: an image voxel is the mean of its samples (partial volume), a
label is the sample at the voxel's centre. A seed varies places, sizes, turns and intensities.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, UnknownNameError
from napari_medseg.geometry import FloatArray, Shape3, Triple, triple_of
from napari_medseg.volume import Grid, Segmentation, Volume

Kind = Literal["ct", "mr"]
Axes = tuple[FloatArray, FloatArray, FloatArray]
"""Positions in mm along S, P and L, ascending."""

LABELS = {1: "liver", 2: "spleen", 3: "right kidney", 4: "left kidney", 5: "spine", 6: "aorta"}

_TISSUES: dict[str, tuple[float, float]] = {
    "air": (-1000, 0),
    "fat": (-105, 820),
    "muscle": (55, 330),
    "visceral fat": (-95, 760),
    "cortical bone": (480, 60),
    "marrow": (190, 560),
    "disc": (95, 250),
    "cord": (35, 280),
    "lung": (-820, 40),
    "blood": (165, 110),
    "cava": (140, 150),
    "liver": (110, 520),
    "spleen": (125, 390),
    "kidney": (185, 440),
    "stomach": (15, 210),
    "gas": (-900, 15),
    "bowel": (40, 270),
}
"""Mean intensity per tissue: Hounsfield units with contrast agent, and a T1-weighted signal."""
_NAMES = tuple(_TISSUES)

_HALF_BOX = (120.0, 125.0, 178.0)
"""Half of the box (S, P, L) in mm that the anatomy below fills."""
_PLANES = 8
"""Planes painted at a time."""
_SAMPLES = 3
"""Samples per voxel along each axis; odd, so that one lies at the centre."""
_ENDLESS = 1e6
_WAVELENGTH_MM = 160.0


@dataclass(frozen=True)
class Stack:
    """A body whose axial sections are ellipses: an ellipsoid, or a column where the first radius is endless."""

    centre: Triple
    radii: Triple
    turn_deg: float = 0.0
    """Turn of the ellipses in the axial plane, from P towards L."""
    lean: tuple[float, float] = (0.0, 0.0)
    """How far the sections move along P and L, in mm per mm upwards."""
    wave: tuple[float, float] = (0.0, 0.0)
    """Fraction by which the sections swell and shrink along S, and the phase."""

    def reach(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest positions (S, P, L) that the body can reach."""
        across = (1 + self.wave[0]) * max(self.radii[1:])
        leaning = [abs(lean) * self.radii[0] if lean else 0.0 for lean in self.lean]
        reach = np.array([self.radii[0], across + leaning[0], across + leaning[1]])
        return np.array(self.centre) - reach, np.array(self.centre) + reach

    def holds(self, axes: Axes) -> npt.NDArray[np.bool_]:
        """Whether each position of the lattice lies inside: (len(S), len(P), len(L))."""
        up, back, left = (a.astype(np.float32) for a in axes)
        height = up - self.centre[0]
        swell = 1 + self.wave[0] * np.sin(2 * np.pi * up / _WAVELENGTH_MM + self.wave[1])
        room = (1 - (height / self.radii[0]) ** 2) * swell**2
        dp = back - (self.centre[1] + self.lean[0] * height)[:, None]
        dl = left - (self.centre[2] + self.lean[1] * height)[:, None]
        cos, sin = math.cos(math.radians(self.turn_deg)), math.sin(math.radians(self.turn_deg))
        wp, wl = self.radii[1] ** -2, self.radii[2] ** -2
        of_p = (cos * cos * wp + sin * sin * wl) * dp**2 - room[:, None]
        of_l = (sin * sin * wp + cos * cos * wl) * dl**2
        inside = of_p[:, :, None] + of_l[:, None, :]
        if self.turn_deg:
            inside += (2 * cos * sin * (wp - wl)) * dp[:, :, None] * dl[:, None, :]
        held: npt.NDArray[np.bool_] = inside <= 0
        return held


@dataclass(frozen=True)
class Part:
    """A stack of one tissue, painted at once."""

    tissue: str
    stack: Stack
    label: int = 0
    """0: none."""
    in_cavity: bool = False
    """Whether the abdominal wall bounds it."""


def _column(back: float, left: float, radius_back: float, radius_left: float) -> Stack:
    return Stack((0.0, back, left), (_ENDLESS, radius_back, radius_left))


_BODY = Part("fat", _column(0, 0, 112, 166))
_WALL = Part("muscle", _column(0, 0, 97, 146))
_CAVITY = Part("visceral fat", _column(-12, 0, 74, 130))
_ORGANS = (
    Part("lung", Stack((150, -5, -72), (88, 80, 62)), in_cavity=True),
    Part("lung", Stack((150, -5, 72), (84, 80, 62)), in_cavity=True),
    Part("blood", Stack((135, -38, 18), (52, 36, 48)), in_cavity=True),
    Part("stomach", Stack((38, -38, 62), (46, 34, 44), turn_deg=25), in_cavity=True),
    Part("gas", Stack((44, -56, 58), (26, 12, 26)), in_cavity=True),
    Part("muscle", Stack((-90, 42, -38), (110, 17, 15), lean=(0.0, 0.12))),
    Part("muscle", Stack((-90, 42, 38), (110, 17, 15), lean=(0.0, -0.12))),
    Part("spleen", Stack((42, 18, 100), (46, 40, 22), turn_deg=-22), 2, in_cavity=True),
    Part("liver", Stack((32, -16, -66), (74, 58, 64), turn_deg=12), 1, in_cavity=True),
    Part("liver", Stack((38, -42, -4), (36, 32, 60), turn_deg=8), 1, in_cavity=True),
    Part("kidney", Stack((-46, 27, -62), (50, 22, 27), turn_deg=30, lean=(0.0, 0.1)), 3, in_cavity=True),
    Part("visceral fat", Stack((-46, 21, -42), (24, 9, 15), turn_deg=30)),
    Part("kidney", Stack((-30, 26, 62), (50, 22, 27), turn_deg=-30, lean=(0.0, -0.1)), 4, in_cavity=True),
    Part("visceral fat", Stack((-30, 20, 42), (24, 9, 15), turn_deg=-30)),
    Part("cortical bone", _column(44, 0, 18, 23), 5),
    Part("cortical bone", _column(84, 0, 15, 5), 5),
    Part("cortical bone", _column(68, 0, 13, 16), 5),
    Part("marrow", _column(44, 0, 15, 20), 5),
    Part("cord", _column(69, 0, 8, 10)),
    Part("cava", _column(16, -20, 9, 12)),
    Part("blood", _column(15, 14, 11, 11), 6),
)


def phantom(
    kind: Kind = "ct",
    *,
    seed: int = 0,
    shape_zyx: Shape3 = (48, 80, 112),
    spacing_zyx_mm: Triple = (5.0, 3.25, 3.25),
) -> tuple[Volume, Segmentation]:
    """An image (1, Z, Y, X) int16 and its exact labels (Z, Y, X) uint8, on a grid of orientation SPL about the origin.

    kind: "ct" (Hounsfield units, grainy noise) or "mr" (another contrast, coil shading, Rician noise). The anatomy is
    scaled to the field of view, so that any shape and spacing shows all organs; only a field thinner than a quarter of
    its height shows a section. The same seed gives the same phantom. Raises UnknownNameError for another kind.
    """
    if kind not in ("ct", "mr"):
        raise UnknownNameError(f"unknown kind of phantom {kind!r}: choose one of ct, mr")
    middle = [-(n - 1) / 2 * s for n, s in zip(shape_zyx, spacing_zyx_mm, strict=True)]
    grid = Grid.from_spacing(shape_zyx, spacing_zyx_mm, (middle[0], middle[1], middle[2]))
    # The noise has its own random stream, so that the anatomy of a seed is the same in CT and MR.
    of_anatomy, of_image = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    anatomy, contrast = _anatomy(of_anatomy), _contrast(kind, of_image)
    clean = np.empty(grid.shape, dtype=np.float32)
    labels = np.empty(grid.shape, dtype=np.uint8)
    for planes, axes in _slabs(grid):
        clean[planes], labels[planes] = _voxels(_paint(anatomy, axes), anatomy.parts, contrast)
    image = (_as_ct if kind == "ct" else _as_mr)(clean, of_image)
    name = f"{kind.upper()} phantom"
    volume = Volume(image[None], grid, (kind.upper(),), name=name)
    return volume, Segmentation(labels, grid, LABELS, name=f"{name} labels")


@dataclass(frozen=True)
class _Anatomy:
    """One patient: the parts in the order in which they are painted, and the cavity that bounds some of them."""

    parts: tuple[Part, ...]
    cavity: Stack


def _anatomy(rng: np.random.Generator) -> _Anatomy:
    body, wall, cavity = (_varied(part, rng, shift_mm=1.0, size=0.03) for part in (_BODY, _WALL, _CAVITY))
    organs = tuple(_varied(part, rng, shift_mm=4.0, size=0.09) for part in _ORGANS)
    return _Anatomy((body, wall, cavity, *_ribs(rng), *_bowel(rng), *organs, *_discs(rng)), cavity.stack)


def _varied(part: Part, rng: np.random.Generator, *, shift_mm: float, size: float) -> Part:
    """The part moved, resized, turned and made uneven a little."""
    stack = part.stack
    endless = stack.radii[0] == _ENDLESS
    shift = rng.uniform(-shift_mm, shift_mm, 3) * ((0, 0.5, 0.5) if endless else (2, 1, 1))
    radii = np.array(stack.radii) * rng.uniform(1 - size, 1 + size, 3)
    varied = Stack(
        centre=triple_of((np.array(stack.centre) + shift).tolist()),
        radii=(_ENDLESS if endless else float(radii[0]), float(radii[1]), float(radii[2])),
        turn_deg=stack.turn_deg + (0.0 if endless else float(rng.uniform(-8, 8))),
        lean=stack.lean,
        wave=(float(rng.uniform(0, size / 2)), float(rng.uniform(0, 2 * np.pi))),
    )
    return replace(part, stack=varied)


def _ribs(rng: np.random.Generator) -> Iterator[Part]:
    """Short pieces of bone in the wall of both sides, lower at the front."""
    first = float(rng.uniform(-10, 10))
    for angle in np.deg2rad(np.arange(-60, 61, 20)).tolist():
        for step in range(5):
            height = first - 20 + 32 * step + 30 * math.sin(angle)
            for side in (-1, 1):
                at = (height, 88 * math.sin(angle), side * 137 * math.cos(angle))
                yield Part("cortical bone", Stack(at, (6, 14, 6), turn_deg=side * math.degrees(angle)))


def _bowel(rng: np.random.Generator) -> Iterator[Part]:
    """Loops at random places of the lower front, some with gas."""
    for _ in range(14):
        at = triple_of(rng.uniform((-125, -62, -85), (-20, -18, 85)).tolist())
        radii = triple_of(rng.uniform(13, 24, 3).tolist())
        yield Part("bowel", Stack(at, radii, turn_deg=float(rng.uniform(0, 180))), in_cavity=True)
        if rng.uniform() < 0.4:
            top = (at[0], at[1] - radii[1] / 3, at[2])
            yield Part("gas", Stack(top, (radii[0] / 2, radii[1] / 3, radii[2] / 2)), in_cavity=True)


def _discs(rng: np.random.Generator) -> Iterator[Part]:
    first = float(rng.uniform(-160, -130))
    for step in range(9):
        yield Part("disc", Stack((first + 36 * step, 44, 0), (5, 17, 22)), 5)


def _contrast(kind: Kind, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Intensity per tissue of one acquisition."""
    means = np.array([of_ct if kind == "ct" else of_mr for of_ct, of_mr in _TISSUES.values()], dtype=np.float32)
    off = rng.uniform(-1, 1, means.size).astype(np.float32)
    if kind == "mr":
        return means * (1 + 0.06 * off)
    off[_NAMES.index("air")] = 0
    return means + 8 * off


def _slabs(grid: Grid) -> Iterator[tuple[slice, Axes]]:
    """A few planes at a time, with the positions of their samples in the mm of the anatomy: memory stays small."""
    view = [n * s / 2 for n, s in zip(grid.shape, grid.spacing, strict=True)]
    across = min(view[1] / _HALF_BOX[1], view[2] / _HALF_BOX[2])
    scales = (max(view[0] / _HALF_BOX[0], across / 4), across, across)
    offset = (np.arange(_SAMPLES) - _SAMPLES // 2) / _SAMPLES
    up, back, left = (
        ((np.arange(n)[:, None] + offset).ravel() - (n - 1) / 2) * spacing / scale
        for n, spacing, scale in zip(grid.shape, grid.spacing, scales, strict=True)
    )
    for start in range(0, grid.shape[0], _PLANES):
        stop = min(start + _PLANES, grid.shape[0])
        yield slice(start, stop), (up[start * _SAMPLES : stop * _SAMPLES], back, left)


def _paint(anatomy: _Anatomy, axes: Axes) -> npt.NDArray[np.uint8]:
    """Per sample the number of the last part that holds it, counted from 1; 0 is air."""
    canvas = np.zeros([a.size for a in axes], dtype=np.uint8)
    in_cavity = anatomy.cavity.holds(axes)
    for number, part in enumerate(anatomy.parts, start=1):
        ends = zip(axes, *part.stack.reach(), strict=True)
        up, back, left = (slice(*np.searchsorted(a, (low, high))) for a, low, high in ends)
        held = part.stack.holds((axes[0][up], axes[1][back], axes[2][left]))
        if part.in_cavity:
            held &= in_cavity[up, back, left]
        canvas[up, back, left][held] = number
    return canvas


def _voxels(
    canvas: npt.NDArray[np.uint8], parts: tuple[Part, ...], contrast: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """The mean intensity of each voxel's samples, and the label of the one at its centre."""
    intensities = contrast[[0, *(_NAMES.index(part.tissue) for part in parts)]]
    labels = np.array([0, *(part.label for part in parts)], dtype=np.uint8)
    sums = intensities[canvas]
    for axis in range(3):
        sums = np.add.reduceat(sums, np.arange(0, sums.shape[axis], _SAMPLES), axis=axis)
    centre = slice(_SAMPLES // 2, None, _SAMPLES)
    return sums / np.float32(_SAMPLES**3), labels[canvas[centre, centre, centre]]


def _as_ct(clean: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Noise of 12 Hounsfield units, correlated between neighbours in the slice as reconstruction leaves it."""
    white = rng.standard_normal(clean.shape, dtype=np.float32)
    grain = white + 0.5 * (np.roll(white, 1, axis=1) + np.roll(white, 1, axis=2))
    noisy = clean + grain * (12 / math.sqrt(1.5))
    return _whole_numbers(noisy, -1024, 3071)


def _as_mr(clean: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Coil shading of some tens of percent, Rician noise (Gudbjartsson & Patz, MRM 1995), an arbitrary scale."""
    up, back, left = (np.linspace(-1, 1, n, dtype=np.float32) for n in clean.shape)
    a = rng.uniform(-0.25, 0.25, 5)
    in_slice = (a[1] * back + a[4] * back**2)[:, None] + a[2] * left
    shading = np.exp((a[0] * up + a[3] * up**2)[:, None, None] + in_slice)
    real, imaginary = 20 * rng.standard_normal((2, *clean.shape), dtype=np.float32)
    noisy = np.hypot(clean * shading + real, imaginary) * rng.uniform(0.7, 1.5)
    return _whole_numbers(noisy, 0, 32767)


def _whole_numbers(values: npt.NDArray[np.floating], low: int, high: int) -> npt.NDArray[np.int16]:
    rounded: npt.NDArray[np.int16] = np.clip(np.rint(values), low, high).astype(np.int16)
    return rounded


def sample_files() -> dict[str, Path]:
    """The paths of the sample's "image", "labels" and "model". FileError where the package lacks one."""
    folder = Path(__file__).parent / "sample_data"
    names = {"image": "phantom_ct.nii.gz", "labels": "phantom_ct_labels.nii.gz", "model": "phantom_ct.safetensors"}
    return {key: _linked(folder / name) for key, name in names.items()}


def _linked(path: Path) -> Path:
    """The file itself, also where a checkout could not make links (Windows) and left texts that name their targets."""
    if not path.is_file():
        raise FileError(
            f"{path}: the sample file is missing: install the package again, or run sample_data/make_sample.py"
        )
    if path.stat().st_size > 256:
        return path
    return (path.parent / path.read_text(encoding="utf-8").strip()).resolve()
