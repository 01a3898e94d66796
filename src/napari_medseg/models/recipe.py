"""How the makers of a model run it on an image: what its spacing, patch and normalisation do not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from napari_medseg.errors import InputError
from napari_medseg.models import checks
from napari_medseg.registry import shown

Resampling = Literal["linear", "nnunet"]
StatisticsOf = Literal["image", "box"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Raises InputError for values that are not among the choices."""

    mirror_axes: tuple[int, ...] = ()
    """Axes (0 z, 1 y, 2 x) along which the training mirrored: only along these may the network see a mirrored image."""
    mirrored: bool = False
    """Whether its makers average over the mirrors: the default of a run."""
    resampling: Resampling = "linear"
    """linear, against aliasing where samples become sparser; nnunet: as nnU-Net does, windows and weights too."""
    statistics: StatisticsOf = "image"
    """Over which voxels a zscore takes mean and deviation: the whole image, or the box around what is not 0."""

    def __post_init__(self) -> None:
        axes = self.mirror_axes
        if not isinstance(axes, tuple | list) or list(axes) != sorted(set(axes) & {0, 1, 2}):
            raise InputError(f"mirror_axes are some of 0, 1, 2, ascending; got {shown(axes)}")
        object.__setattr__(self, "mirror_axes", tuple(axes))
        checks.flag("mirrored", self.mirrored)
        checks.choice("resampling", self.resampling, get_args(Resampling))
        checks.choice("statistics", self.statistics, get_args(StatisticsOf))
        if self.mirrored and not axes:
            raise InputError("mirrored needs mirror_axes")

    @property
    def axes_told(self) -> str:
        """The axes along which the training mirrored, such as "z, x"; empty for none."""
        return ", ".join("zyx"[axis] for axis in self.mirror_axes)


PLAIN_RECIPE = Recipe()
"""What a model of ours has."""
