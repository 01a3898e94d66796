"""Kernels and strides per level and axis, after nnU-Net (Isensee et al., Nature Methods 2021, supplement). Pure.

An axis of coarse voxels is halved later than the others, and convolved by kernels of one voxel, until the voxels of all
axes are about as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from napari_medseg.geometry import Shape3, Triple, triple_of

DEEPEST = 5
"""Most times that a network halves its input."""
BOTTLENECK = 4
"""Fewest voxels of an axis at the bottom of a network."""
FEWEST = 3
"""Levels that the networks have at least."""
_MUCH_COARSER = 2.0
"""Ratio of spacings from which on an axis is not halved or convolved with the finer ones."""
_MOST_CUTS = 100_000


@dataclass(frozen=True)
class Topology:
    """The levels of a network, the finest first; the first stride is 1."""

    strides: tuple[Shape3, ...]
    kernels: tuple[Shape3, ...]

    @property
    def multiple(self) -> Shape3:
        """What the size of a patch must be a multiple of."""
        return triple_of(prod(axis) for axis in zip(*self.strides, strict=True))

    def flat(self, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Kernels and strides as the networks take them: one number per level and axis. dims 2 leaves z out."""
        kernels = tuple(n for level in self.kernels for n in level[3 - dims :])
        return kernels, tuple(n for level in self.strides for n in level[3 - dims :])


def topology_of(patch: Shape3, spacing: Triple) -> Topology:
    """The levels for a patch (voxels) at a spacing (mm). An axis of one voxel is never halved or convolved."""
    sizes, current = list(patch), list(spacing)
    kernel = [1, 1, 1]
    strides: list[Shape3] = [(1, 1, 1)]
    kernels = [_widened(kernel, sizes, current)]
    while len(strides) <= DEEPEST:
        possible = [a for a in range(3) if sizes[a] >= 2 * BOTTLENECK]
        finest = min((current[a] for a in possible), default=0.0)
        halved = [a for a in possible if current[a] < _MUCH_COARSER * finest]
        if not halved:
            break
        for axis in halved:
            sizes[axis] = -(-sizes[axis] // 2)
            current[axis] *= 2
        z, y, x = (2 if a in halved else 1 for a in range(3))
        strides.append((z, y, x))
        kernels.append(_widened(kernel, sizes, current))
    while len(strides) < FEWEST:
        longest = max(range(3), key=lambda axis: sizes[axis])
        sizes[longest] = -(-sizes[longest] // 2)
        z, y, x = (2 if axis == longest else 1 for axis in range(3))
        strides.append((z, y, x))
        kernels.append(kernels[-1])
    return Topology(tuple(strides), tuple(kernels))


def _widened(kernel: list[int], sizes: list[int], spacing: list[float]) -> Shape3:
    """The kernel of a level: 3 along an axis once its voxels are not much coarser than the finest, else 1."""
    wide = [a for a in range(3) if sizes[a] > 1]
    finest = min((spacing[a] for a in wide), default=1.0)
    for axis in wide:
        if spacing[axis] < _MUCH_COARSER * finest:
            kernel[axis] = 3
    return kernel[0], kernel[1], kernel[2]


def patch_on(shape: Shape3, spacing: Triple, voxels: int) -> tuple[Shape3, Topology]:
    """The median shape rounded to what its levels halve, its longest side (mm) cut until `voxels` hold it."""
    patch = list(shape)
    for _ in range(_MOST_CUTS):
        topology = topology_of((patch[0], patch[1], patch[2]), spacing)
        multiple = topology.multiple
        patch = [rounded(n, m) for n, m in zip(patch, multiple, strict=True)]
        lengths = [n * s if n > max(m, 1) else 0.0 for n, m, s in zip(patch, multiple, spacing, strict=True)]
        if prod(patch) <= voxels or max(lengths) == 0:
            break
        axis = lengths.index(max(lengths))
        patch[axis] -= multiple[axis]
    return (patch[0], patch[1], patch[2]), topology


def rounded(size: int, multiple: int) -> int:
    """The nearest multiple that is not 0: the lower of two, since what a patch has more than an image is padding."""
    return max(1, -(-(2 * size - multiple) // (2 * multiple))) * multiple
