"""What of a case could be annotated next, with how much doubt there is in it, and what it is like. Pure.

A candidate is small: the look at its case is not kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_medseg.doubt.look import Cells, Look
from napari_medseg.geometry import Shape3, triple_of
from napari_medseg.models.trust import DiceLine
from napari_medseg.volume import Grid

Kind = Literal["slice", "case", "region"]
Span = tuple[int, int]
_MAP = 8
"""Edge of the small image that says what a slice shows."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Something to annotate next."""

    case: str
    kind: Kind
    axis: int | None = None
    """Of a slice: 0, 1 or 2 of the stored array."""
    index: int | None = None
    """Of a slice: which one along the axis."""
    box: tuple[Span, Span, Span] | None = None
    """Of a region: its first voxels, and those behind its last ones, along z, y and x."""
    centre: Shape3
    """The voxel to look at first."""
    score: float
    """How much is in doubt: mm2 of a slice, mm3 of a region, the share of Dice that a case lacks."""
    reason: str
    """In words."""

    @property
    def place(self) -> str:
        """What is suggested, in words."""
        if self.kind == "slice":
            return f"slice {self.index} along {'zyx'[self.axis or 0]}"
        if self.box is not None:
            return "region " + ", ".join(f"{low}:{high}" for low, high in self.box)
        return "whole image"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A suggestion that may be made, and what decides whether it differs from others."""

    suggestion: Suggestion
    features: tuple[tuple[float, ...], ...]
    """In groups that count alike; see `joined`."""
    taken: bool = False
    """Whether it is annotated already: then it is not suggested, and others should differ from it."""
    weight: float = 0.0
    """How much it counts where it should be in doubt and unlike others: doubt in what may be a label."""


def slices_of(look: Look, axis: int, annotated: Collection[int] = ()) -> Iterator[Candidate]:
    """Every slice along an axis."""
    spacing = look.grid.spacing
    pixel = math.prod(s for a, s in enumerate(spacing) if a != axis)
    areas = look.bits[axis] * pixel
    depth, mean = len(areas), float(areas.mean())
    maps, edge = _maps(look.foreground, axis), look.foreground.edges[axis]
    labelled = look.foreground.sums.sum(tuple(a for a in range(3) if a != axis)) * pixel / edge
    for index, area in enumerate(areas.tolist()):
        suggestion = Suggestion(
            case=look.case,
            kind="slice",
            axis=axis,
            index=index,
            centre=_most_doubtful(look.doubt, axis, index, look.grid.shape),
            score=area,
            reason=f"{_plain(area)} mm² are in doubt; a slice of this image has {_plain(mean)} on average",
        )
        shows = tuple(maps[index // edge].tolist())
        # A model that has learned little doubts most where there is nothing to label.
        weight = math.sqrt(area * float(labelled[index // edge]))
        yield Candidate(suggestion, (shows, ((index + 0.5) / depth,), look.intensities), index in annotated, weight)


def case_of(look: Look, line: DiceLine | None) -> Candidate:
    """The whole case. line: of the model, where it has one."""
    dice = look.signs.soft_dice
    reason = f"the labels agree with their own probabilities by a Dice of {dice:.2f}"
    if line is not None:
        dice = line.expected(look.signs)[0]
        reason = line.sentence(look.signs)
    cell = np.unravel_index(int(look.doubt.means.argmax()), look.doubt.sums.shape)
    suggestion = Suggestion(
        case=look.case,
        kind="case",
        centre=_middle(look.doubt, cell, look.grid.shape),
        score=1 - dice,
        reason=reason,
    )
    sizes = tuple(math.log1p(n * look.grid.voxel_volume_mm3) for n in look.voxels)
    return Candidate(suggestion, (sizes, look.intensities), weight=suggestion.score)


def regions_of(look: Look, count: int, edge_mm: float) -> Iterator[Candidate]:
    """The cubes with most doubt, the largest first; no two overlap in more than half of an edge."""
    cells = look.doubt
    spacing = [s * edge for s, edge in zip(look.grid.spacing, cells.edges, strict=True)]
    size = [min(n, max(1, round(edge_mm / s))) for s, n in zip(spacing, cells.sums.shape, strict=True)]
    voxel = look.grid.voxel_volume_mm3
    inside = ndimage.uniform_filter(cells.sums.astype(np.float64), size, mode="constant") * math.prod(size) * voxel
    for _ in range(count):
        cell = np.unravel_index(int(inside.argmax()), inside.shape)
        amount = float(inside[cell])
        if amount <= 1e-6 * voxel:
            return
        first = [max(0, int(k) - n // 2) for k, n in zip(cell, size, strict=True)]
        parts = [slice(k, min(k + n, m)) for k, n, m in zip(first, size, inside.shape, strict=True)]
        box = cells.box(parts)
        (z, y, x) = ((side.start, side.stop) for side in box)
        middle = [(side.start + side.stop - 1) / 2 for side in box]
        where = ", ".join(f"{c:.0f}" for c in look.grid.index_to_world(middle))
        extent = math.prod(side.stop - side.start for side in box) * voxel
        suggestion = Suggestion(
            case=look.case,
            kind="region",
            box=(z, y, x),
            centre=_peak(cells, parts, look.grid.shape),
            score=amount,
            reason=f"{_plain(min(amount, extent))} of {_plain(extent)} mm³ are in doubt around ({where}) mm",
        )
        yield Candidate(suggestion, ())
        near = tuple(slice(max(0, p.start - n // 2), p.stop + n // 2) for p, n in zip(parts, size, strict=True))
        inside[near] = 0.0


def axis_of(grid: Grid, wanted: str) -> int:
    """The axis of slices: z, y or x, or that of the coarsest spacing."""
    if wanted != "auto":
        return "zyx".index(wanted)
    coarsest = max(grid.spacing)
    return next(axis for axis, s in enumerate(grid.spacing) if s > 0.99 * coarsest)


def _plain(amount: float) -> str:
    """An area or a volume as people read it."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def _maps(cells: Cells, axis: int) -> npt.NDArray[np.float32]:
    """(slices of cells, _MAP x _MAP): what each shows, in a small image."""
    planes: npt.NDArray[np.floating[Any]] = np.moveaxis(cells.means, axis, 0)
    for along in (1, 2):
        n = planes.shape[along]
        starts = np.arange(_MAP) * n // _MAP
        sums = np.add.reduceat(planes, starts, axis=along)
        counts = np.maximum(1, np.diff([*starts, n]))
        planes = sums / (counts[:, None] if along == 1 else counts)
    return np.asarray(planes.reshape(len(planes), -1), np.float32)


def _most_doubtful(cells: Cells, axis: int, index: int, shape: Shape3) -> Shape3:
    """The voxel of a slice in the middle of its most doubtful cell."""
    plane = np.take(cells.means, index // cells.edges[axis], axis=axis)
    found = [int(k) for k in np.unravel_index(int(plane.argmax()), plane.shape)]
    found.insert(axis, index // cells.edges[axis])
    voxel = list(_middle(cells, found, shape))
    voxel[axis] = index
    return voxel[0], voxel[1], voxel[2]


def _peak(cells: Cells, parts: Sequence[slice], shape: Shape3) -> Shape3:
    """The voxel in the middle of the most doubtful cell of a box of cells."""
    inside = cells.means[tuple(parts)]
    found = np.unravel_index(int(inside.argmax()), inside.shape)
    return _middle(cells, [part.start + int(k) for part, k in zip(parts, found, strict=True)], shape)


def _middle(cells: Cells, cell: Sequence[int | np.intp], shape: Shape3) -> Shape3:
    return triple_of(min(n - 1, int(k) * edge + edge // 2) for k, edge, n in zip(cell, cells.edges, shape, strict=True))
