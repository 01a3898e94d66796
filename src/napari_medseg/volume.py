"""The nouns: a grid in the patient, an image on it, labels on it. They are frozen, and valid once built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from napari_medseg import geometry
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.geometry import AxisOrder, FloatArray, Shape3, Triple

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""
MAX_LABEL = 2**31 - 1
"""The largest label id, and the largest number of a signed 32-bit integer."""
_JOINING = re.compile(r"_|(?<=\w)-(?=\w)")
"""What joins the words of a name, besides blanks."""


class LazyArray(Protocol):
    """What numpy, dask and zarr arrays share. The core touches data in this way only."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array lie in the patient.

    shape: (z, y, x). affine: (4, 4), from the index (z, y, x) of a voxel's centre to the world (S, P, L) in mm.
    in_pixels: nothing says how large a pixel is, and each counts as 1 mm.
    Raises InputError unless the shape is three positive sizes and the affine is finite and invertible.
    """

    shape: Shape3
    affine: FloatArray
    in_pixels: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"a Grid needs three positive sizes (z, y, x); got shape {tuple(self.shape)}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(f"a Grid needs a finite 4x4 affine; got shape {affine.shape}, values {affine.tolist()}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.array_equal(affine[3], [0, 0, 0, 1]) or lengths.min() <= 0:
            raise InputError(
                f"a Grid's affine needs non-zero axes and the last row 0 0 0 1; got spacing {lengths.tolist()} mm, "
                f"last row {affine[3].tolist()}"
            )
        if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
            raise InputError("a Grid's axes must span space; the affine is singular (two axes run the same way)")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape: Shape3, spacing_zyx_mm: Triple, origin: Triple = (0.0, 0.0, 0.0)) -> Grid:
        """An axis-aligned grid of orientation SPL; origin (S, P, L) in mm is the first voxel's centre."""
        affine = np.diag([*spacing_zyx_mm, 1.0])
        affine[:3, 3] = origin
        return cls(shape, affine)

    @property
    def spacing(self) -> Triple:
        """mm between voxel centres, per array axis."""
        return geometry.spacing_of(self.affine)

    @property
    def origin(self) -> Triple:
        """World position (S, P, L) in mm of the first voxel's centre."""
        s, p, l = self.affine[:3, 3]  # noqa: E741
        return float(s), float(p), float(l)

    @property
    def orientation(self) -> str:
        """Three letters: the direction that each array axis runs to; "SPL" is the identity."""
        return geometry.orientation_of(self.affine)

    @property
    def is_oblique(self) -> bool:
        """Whether the array axes leave the patient's axes."""
        return geometry.is_oblique(self.affine)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def index_to_world(self, index_zyx: npt.ArrayLike) -> FloatArray:
        """(..., 3) voxel indices -> (..., 3) world positions (S, P, L) in mm."""
        return np.asarray(np.asarray(index_zyx, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def world_to_index(self, world_spl_mm: npt.ArrayLike) -> FloatArray:
        """(..., 3) world positions (S, P, L) in mm -> (..., 3) fractional voxel indices."""
        offset = np.asarray(world_spl_mm, dtype=float) - self.affine[:3, 3]
        return np.asarray(offset @ np.linalg.inv(self.affine[:3, :3]).T)

    @property
    def corners(self) -> FloatArray:
        """(8, 3) world positions of the corner voxels' centres."""
        ends = [(0, n - 1) for n in self.shape]
        return self.index_to_world(np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T)

    def same_as(self, other: Grid) -> bool:
        """Whether the shapes are equal, and no corner's centre is off by more than 1 % of the smallest spacing."""
        if self.shape != other.shape:
            return False
        apart = np.linalg.norm(self.corners - other.corners, axis=1).max()
        return bool(apart <= 0.01 * min(*self.spacing, *other.spacing))

    def order_onto(self, other: Grid) -> AxisOrder | None:
        """The flips and permutations that bring this grid onto the other; None where the grids differ by more.

        The order returned satisfies `self.reordered(order).same_as(other)`.
        """
        if self.same_as(other):
            return geometry.AS_IT_IS
        order = geometry.parallel_axes(self.affine, other.affine)
        return order if order is not None and self.reordered(order).same_as(other) else None

    def reordered(self, order: AxisOrder) -> Grid:
        """The grid of the array that `order.apply` returns."""
        return Grid(order.shape(self.shape), order.affine(self.affine, self.shape), in_pixels=self.in_pixels)

    def with_spacing(self, spacing_zyx_mm: Triple) -> Grid:
        """The grid of about this spacing that covers the same box. The spacing is rounded so that it fits exactly."""
        return Grid(*geometry.spacing_changed(self.shape, self.affine, spacing_zyx_mm))

    def describe(self) -> str:
        """One line for messages: shape, spacing, origin, orientation."""
        spacing = ", ".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.4g}" for o in self.origin)
        oblique = ", oblique" if self.is_oblique else ""
        return f"{'x'.join(map(str, self.shape))} at {spacing} mm, origin ({origin}), {self.orientation}{oblique}"


@dataclass(frozen=True, eq=False)
class Volume:
    """An image: data (C, Z, Y, X), numpy, dask or zarr. The array is wrapped and never copied; 2D is Z = 1.

    channels: one name per channel. name: what messages and layers call the image (never patient text). provenance: how
    it was made; any value that JSON can hold.
    Raises InputError where data, grid and channels do not fit together.
    """

    data: LazyArray
    grid: Grid
    channels: tuple[str, ...] = ()
    name: str = field(default="", kw_only=True)
    provenance: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        who = f"volume {self.name!r}" if self.name else "a Volume"
        if len(self.data.shape) != 4:
            raise InputError(
                f"{who} needs data of shape (C, Z, Y, X); got {tuple(self.data.shape)}: add the channel axis with "
                f"data[None] for a single channel"
            )
        if np.dtype(self.data.dtype).kind not in "biuf":
            raise InputError(f"{who} needs real numbers; got dtype {self.data.dtype}")
        if tuple(self.data.shape[1:]) != self.grid.shape:
            raise InputError(f"{who} has data (z, y, x) {tuple(self.data.shape[1:])} but its grid is {self.grid.shape}")
        count = int(self.data.shape[0])
        channels = tuple(self.channels) or plain_channels(count)
        if len(channels) != count:
            raise InputError(f"{who} has {count} channels but {len(channels)} channel names: {channels}")
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __getstate__(self) -> dict[str, Any]:
        return _without_proxies(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        _restore(self, state)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label image: integer data (Z, Y, X); labels: {id: name}; 0 is background and needs no name.

    colours: {id: (red, green, blue)}, 0 to 255, for the ids that have one. provenance: how the labels were made; any
    value that JSON can hold.
    Raises InputError where the data is not integer or does not fit the grid, where an id lies outside 0 .. 2^31 - 1,
    and where a colour is not three numbers from 0 to 255.
    """

    data: LazyArray
    grid: Grid
    labels: Mapping[int, str] = field(default_factory=dict)
    name: str = field(default="", kw_only=True)
    colours: Mapping[int, Colour] = field(default_factory=dict, kw_only=True)
    provenance: Mapping[str, object] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        who = f"segmentation {self.name!r}" if self.name else "a Segmentation"
        if np.dtype(self.data.dtype).kind not in "biu":
            raise InputError(f"{who} needs integer labels; got dtype {self.data.dtype}: round or threshold them first")
        if tuple(self.data.shape) != self.grid.shape:
            raise InputError(f"{who} has data of shape {tuple(self.data.shape)} but its grid is {self.grid.shape}")
        labels = {int(k): str(v) for k, v in sorted(self.labels.items())}
        wrong = [k for k in (*labels, *self.colours) if not 0 <= k <= MAX_LABEL]
        if wrong:
            raise InputError(f"{who} needs label ids from 0 to {MAX_LABEL}; got {wrong[:5]}")
        object.__setattr__(self, "labels", MappingProxyType(labels))
        odd = [c for c in self.colours.values() if len(c) != 3 or not all(0 <= v <= 255 for v in c)]
        if odd:
            raise InputError(f"{who} needs colours of three numbers from 0 to 255 (red, green, blue); got {odd[0]}")
        object.__setattr__(self, "colours", MappingProxyType(dict(sorted(self.colours.items()))))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __getstate__(self) -> dict[str, Any]:
        return _without_proxies(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        _restore(self, state)

    def label_name(self, label: int) -> str:
        """The name of a label, or "label 7" for one without."""
        return self.labels.get(label) or f"label {label}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outline:
    """What is known of an image, or of labels, without their voxels."""

    grid: Grid
    dtype: np.dtype[Any]
    """Type of the voxels as they are read. For a DICOM series: the type that holds every value its headers allow."""
    channels: tuple[str, ...]
    """One name per channel; labels have one channel."""
    is_labels: bool
    """Whether the file says that it holds labels, or the caller takes it for labels."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """{id: name}, where the file has names."""
    name: str = ""
    provenance: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the file does not say, and what the reader assumed instead."""

    @property
    def nbytes(self) -> int:
        """The bytes of all voxels in memory."""
        return math.prod(self.grid.shape) * len(self.channels) * self.dtype.itemsize


def label_dtype(largest_id: int) -> np.dtype[Any]:
    """The smallest integer type that holds the ids from 0 to `largest_id`: uint8, uint16 or int32."""
    return np.min_scalar_type(largest_id) if largest_id < 2**16 else np.dtype(np.int32)


def plain_channels(count: int) -> tuple[str, ...]:
    """Names for channels that have none."""
    return tuple(f"channel {c}" for c in range(count))


def _without_proxies(noun: Volume | Segmentation) -> dict[str, Any]:
    """The fields, with plain dicts: events carry nouns between processes, and a mapping proxy cannot be pickled."""
    values = {f.name: getattr(noun, f.name) for f in fields(noun)}
    return {name: dict(v) if isinstance(v, MappingProxyType) else v for name, v in values.items()}


def _restore(noun: Volume | Segmentation, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        object.__setattr__(noun, name, MappingProxyType(value) if isinstance(value, dict) else value)


Placed = Volume | Segmentation | Outline
"""What lies on a grid and has a name."""
RESAMPLE = "`napari-medseg convert IN -o OUT --onto REFERENCE`, with --as-labels for labels"
"""How to bring one volume onto the grid of another, as messages say it."""


def require_order_onto(a: Placed, b: Placed, a_is: str, b_is: str) -> AxisOrder:
    """The flips and permutations that bring `a` onto the grid of `b`.

    a_is, b_is: what the message calls them. Raises GridMismatchError where the grids differ by more.
    """
    order = a.grid.order_onto(b.grid)
    return _refuse_grids(a, b, a_is, b_is) if order is None else order


def require_same_grid(a: Placed, b: Placed, a_is: str, b_is: str) -> None:
    """Raise GridMismatchError, which names both things and both grids, unless they lie on the same grid."""
    if not a.grid.same_as(b.grid):
        _refuse_grids(a, b, a_is, b_is)


def _refuse_grids(a: Placed, b: Placed, a_is: str, b_is: str) -> NoReturn:
    name_a, name_b = (f"{what} {x.name!r}" if x.name else what for what, x in ((a_is, a), (b_is, b)))
    raise GridMismatchError(
        f"{name_a} and {name_b} must lie on the same grid; {name_a} has {a.grid.describe()}, "
        f"{name_b} has {b.grid.describe()}: if they are of the same scan, resample one onto the other first: "
        f"{RESAMPLE}; else check their names"
    )


def is_named(label: int, name: str) -> bool:
    """Whether a label has a name of its own: files without names give "label 7" to 7."""
    return name_key(name) != f"label {label}"


def same_name(a: str, b: str) -> bool:
    """Whether two names mean the same, see `name_key`."""
    return name_key(a) == name_key(b)


def places_of(name: str, names: Sequence[str]) -> list[int]:
    """Where a name stands among others: those written so, or else all that mean the same."""
    written = [place for place, other in enumerate(names) if other == name]
    return written or [place for place, other in enumerate(names) if same_name(other, name)]


def called(label: int, names: Mapping[int, str]) -> str:
    """A label as messages name it: its id, and its name where it has one of its own."""
    return f"{label} ({names[label]})" if is_named(label, names[label]) else str(label)


def name_key(name: str) -> str:
    """What two names that mean the same have in common: "Left_Kidney", "left-kidney" and "left  kidney" do.

    A hyphen counts at the end of a word: a marker that is absent (CD4-) is not the marker.
    """
    return " ".join(_JOINING.sub(" ", name).casefold().split())
