"""The three sets of rules by which published numbers differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from napari_medseg.config import MetricsConfig, Preset
from napari_medseg.metrics.pairwise.overlap import Overlap
from napari_medseg.metrics.pairwise.surface import Neighbours


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How surfaces are found, what RVD means, and what an empty mask scores."""

    neighbours: Neighbours
    """A voxel of a mask is surface if one of its 6, 18 or 26 neighbours lies outside; in a single slice, 4 or 8."""
    beyond_edge: bool
    """Whether voxels beyond the edge of the image count as inside the mask. If so, the edge is not a surface."""
    rvd: Callable[[Overlap], float]
    penalty: float | None = None
    """RVD and all distances where a mask is empty; Dice and IoU are then 0, and VOE is 1. None: the survey's rules."""


def rules_of(preset: Preset) -> Rules:
    """The rules of a preset. InputError for an unknown name."""
    return RULES[MetricsConfig(preset=preset).preset]


def _signed(overlap: Overlap) -> float:
    return overlap.relative_volume_difference


def _lits(overlap: Overlap) -> float:
    return overlap.swapped.relative_volume_difference


def _percent(overlap: Overlap) -> float:
    return abs(overlap.relative_volume_difference) * 100


RULES = MappingProxyType(
    {
        "survey": Rules(neighbours=6, beyond_edge=False, rvd=_signed),
        # Bilic et al., Medical Image Analysis 2023, doi:10.1016/j.media.2022.102680; its scorer swaps the roles in RVD.
        "lits": Rules(neighbours=18, beyond_edge=False, rvd=_lits, penalty=9001.0),
        # Kavur et al., Medical Image Analysis 2021, doi:10.1016/j.media.2020.101950
        "chaos": Rules(neighbours=6, beyond_edge=True, rvd=_percent),
    }
)
