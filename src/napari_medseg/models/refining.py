"""How a model of kind "refiner" makes given labels better, and the network that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from napari_medseg import registry
from napari_medseg.errors import InputError
from napari_medseg.models import checks

if TYPE_CHECKING:
    from torch import nn

    from napari_medseg.models.spec import ModelSpec

RefiningMethod = Literal["boundary-patch", "point-rend"]


@dataclass(frozen=True, kw_only=True)
class Refining:
    """Raises InputError for values out of bounds, or that do not belong to the method."""

    method: RefiningMethod
    """boundary-patch: the network sees the image and the labels of a box; point-rend: it sees the image, and a point
    head decides single voxels from its features and the labels around."""
    overlap: float = 0.55
    """Of two boxes along a boundary that share more than this (intersection over union), one is left out."""
    layer: str = ""
    """point-rend: the layer of the network whose input the point head reads."""
    features: int = 0
    """point-rend: channels of that input."""
    halvings: int = 0
    """point-rend: how often the labels are halved before points bring them back to their size."""
    share: float = 0.0
    """point-rend: voxels of each size that the point head decides: the least certain ones."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        checks.choice("refining method", self.method, get_args(RefiningMethod))
        set_(self, "overlap", checks.number("refining overlap", self.overlap))
        checks.text("refining layer", self.layer)
        set_(self, "features", checks.whole("refining features", self.features))
        set_(self, "halvings", checks.whole("refining halvings", self.halvings))
        set_(self, "share", checks.number("refining share", self.share))
        given = (self.layer != "", self.features > 0, self.halvings > 0, self.share > 0)
        if any(given) != all(given) or any(given) != (self.method == "point-rend"):
            raise InputError("layer, features, halvings and share are all of point-rend, which needs them")


def network_of(spec: ModelSpec) -> nn.Module:
    """The torch module that a model's tensors belong to, with its first weights."""
    network = registry.network(spec.network).build_from(spec.arguments)
    if spec.refines is None or spec.refines.method == "boundary-patch":
        return network
    from napari_medseg.architectures.points import PointRend

    dims = spec.arguments["spatial_dims"]
    assert isinstance(dims, int), "the registry checked it"
    return PointRend(
        network,
        layer=spec.refines.layer,
        features=spec.refines.features,
        classes=spec.outputs,
        spatial_dims=dims,
        halvings=spec.refines.halvings,
        share=spec.refines.share,
    )
