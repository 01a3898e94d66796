"""The plan of a refiner: its network, the size of its boxes, and what it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_medseg import registry
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.geometry import Shape3, Triple, triple_of
from napari_medseg.models.file import Model
from napari_medseg.models.refining import Refining, RefiningMethod
from napari_medseg.models.spec import ModelSpec
from napari_medseg.training.planning.facts import CaseFacts, grids_on
from napari_medseg.training.planning.fine_tuning import plan_from
from napari_medseg.training.planning.rules import plan, target_spacing
from napari_medseg.volume import called

TRAIN_OVERLAP, TEST_OVERLAP = 0.25, 0.55
"""What two boxes along a boundary may share, in training and in use (Tang et al., CVPR 2021)."""
CUBE_OVERLAP = 0.35
"""What two cubes may share in use: a voxel of a boundary then lies in about four, as it does with squares at 0.55."""
_SQUARE = 64
"""Pixels of a box of slices along an axis, as published."""
_CUBE = 32
"""Voxels of a cube along an axis, at most; half the image at most, or eight."""
_LEAST = 8
_STEP = 4
"""Sizes of squares are multiples of it."""
_HALVINGS = 2
_VOXELS_AT_ONCE = 65_536
"""Of the boxes that stand for one patch of a batch."""
_SHARE = 0.25
"""Voxels of each size that the point head decides."""
_TILE_OVERLAP = 0.35
"""What two boxes of PointRend may share in use: they are larger, and need not be seen as often. Above a third every
voxel of a boundary lies in a box."""
NETWORK_2D, NETWORK_3D = "hrnet", "unet3d"
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "hrnet": {"width": 18, "blocks": 2, "modules": (1, 3, 2), "norm": "batch"},
    "unet3d": {"channels": (16, 32, 64)},
}
"""{network: arguments}: HRNetV2-W18-small-v2 as published for slices, and a light network for cubes."""


def refiner_plan(
    method: RefiningMethod, model: Model, facts: Sequence[CaseFacts], network: str | None, config: TrainConfig
) -> ModelSpec:
    """The spec of a refiner that learns the errors of a model.

    boundary-patch: `network`, by default one that fits slices or volumes, which sees boxes of the images at the cases'
    spacing. point-rend: the network of the model itself, at the cases' spacing. Raises InputError where the two do not
    go together.
    """
    if not {i for f in facts for i in f.label_names} & set(model.spec.labels):
        known = ", ".join(called(i, model.spec.labels) for i in model.spec.labels)
        raise InputError(f"no case to train holds a label of the model to start from, which has {known}")
    if method == "boundary-patch":
        return _boundary_patch(model, facts, network, config)
    if network not in (None, model.spec.network):
        raise InputError(
            f"point-rend takes its features from the model to start from, a {model.spec.network}: leave out the "
            f"network {network}"
        )
    return _point_rend(model, facts, config)


def _boundary_patch(model: Model, facts: Sequence[CaseFacts], network: str | None, config: TrainConfig) -> ModelSpec:
    shape = facts_shape(facts)
    flat = config.mode == "2d" or (config.mode == "auto" and (shape[0] == 1 or network == NETWORK_2D))
    if config.mode not in ("auto", "2d", "3d"):
        raise InputError(f"a refiner sees slices (2d) or volumes (3d); got mode {config.mode}")
    name = network or (NETWORK_2D if flat else NETWORK_3D)
    arguments = {**_arguments(name, model.spec, flat=flat), **config.arguments}
    step = 2 ** max(2, len(arguments.get("channels", ())) - 1)
    patch = config.sampling.patch_zyx or (_squares(shape) if flat else _cubes(shape, step))
    changed = {"mode": "2d" if flat else "3d", "patch_zyx": patch, "arguments": arguments}
    planned = plan(facts, name, configured(TrainConfig, config, changed), "cpu", labels=model.spec.labels)
    arguments = {**planned.arguments, "in_channels": len(planned.channels) + len(planned.labels)}
    return replace(
        planned,
        arguments=arguments,
        refines=Refining(method="boundary-patch", overlap=TEST_OVERLAP if flat else CUBE_OVERLAP, model=model.sha256),
    )


def _arguments(name: str, model: ModelSpec, *, flat: bool) -> dict[str, Any]:
    """The arguments of a boundary-patch network: those of the model, where it is such a network and light itself.

    It then starts from the model's weights.
    """
    own = model.arguments
    if flat or name != NETWORK_3D or model.network != name or own["spatial_dims"] != 3:
        return _ARGUMENTS.get(name, {})
    light, widths = _ARGUMENTS[name], own["channels"]
    if not isinstance(widths, tuple) or widths[0] > light["channels"][0]:
        return light
    return {k: v for k, v in own.items() if k not in ("in_channels", "out_channels", "spatial_dims", "fusion")}


def _point_rend(model: Model, facts: Sequence[CaseFacts], config: TrainConfig) -> ModelSpec:
    from napari_medseg.architectures.points import last_convolution

    if model.spec.first is not None or model.spec.mode not in ("2d", "3d"):
        raise InputError(
            f"point-rend reads features of one network of slices or volumes; {model.path} is a cascade, or of mode "
            f"{model.spec.mode}: use boundary-patch"
        )
    own = configured(TrainConfig, config, {"spacing_zyx_mm": None})  # another one is what it is for
    spec = replace(plan_from(model.spec, facts, own, labels=model.spec.labels), labels=model.spec.labels)
    dims = spec.arguments["spatial_dims"]
    inputs = torch.zeros((1, len(spec.channels), *(spec.patch_zyx if dims == 3 else spec.patch_zyx[1:])))
    layer, features = last_convolution(registry.network(spec.network).build_from(spec.arguments), inputs, spec.outputs)
    if not layer:
        raise InputError(f"network {spec.network} ends in no convolution whose input could be read: use boundary-patch")
    return replace(
        spec,
        spacing_zyx_mm=config.sampling.spacing_zyx_mm or spacing_of(facts, spec),
        refines=Refining(
            method="point-rend",
            overlap=_TILE_OVERLAP,
            layer=layer,
            features=features,
            halvings=_HALVINGS,
            share=_SHARE,
            model=model.sha256,
        ),
    )


def spacing_of(facts: Sequence[CaseFacts], spec: ModelSpec) -> Triple:
    """The spacing of the cases on the axes of a model, which may have been trained at a coarser one."""
    return target_spacing(grids_on(facts, spec.orientation))


def facts_shape(facts: Sequence[CaseFacts]) -> Shape3:
    """The median shape of the cases, as they are stored."""
    return triple_of(np.median([f.grid.shape for f in facts], axis=0).astype(int).tolist())


def _squares(shape: Shape3) -> Shape3:
    return (1, *(min(_SQUARE, max(_LEAST, n // _STEP * _STEP)) for n in shape[1:]))  # type: ignore[return-value]


def _cubes(shape: Shape3, step: int) -> Shape3:
    """step: what the network halves to 1."""
    return triple_of(min(_CUBE, max(_LEAST, step, round(n / 2 / step) * step)) if n > 1 else 1 for n in shape)


def boxes_at_once(spec: ModelSpec) -> int:
    """Boxes that stand for one patch of a batch: a box is small."""
    return min(16, max(1, _VOXELS_AT_ONCE // int(np.prod(spec.patch_zyx))))
