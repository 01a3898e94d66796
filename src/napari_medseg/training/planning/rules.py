"""From the cases' fingerprint to the plan of a model: spacing, patch, depth, normalisation.

The rules are those of nnU-Net (Isensee et al., Nature Methods 2021). The result is a ModelSpec: it is shown, stored in
the model, and all that inference knows.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.config import TrainConfig, TrainMode
from napari_medseg.errors import InputError
from napari_medseg.geometry import AxisOrder, Shape3, Triple, triple_of
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Modality, Mode, ModelSpec, Normalisation, Stage, TrainingRecord
from napari_medseg.registry import NetworkSpec, network
from napari_medseg.training.planning.facts import (
    CaseFacts,
    channels_of,
    grids_on,
    labels_of,
    seen_in,
)
from napari_medseg.training.planning.topology import BOTTLENECK, DEEPEST, Topology, patch_on, rounded, topology_of
from napari_medseg.volume import Grid

PATCH_VOXELS = {"cpu": 110_000, "mps": 500_000, "cuda": 2_000_000}
"""{device: voxels of the largest patch}."""
_SLICES_PIXELS = 2**16
"""Pixels of the slices that stand for one patch of a batch."""
_PER_AXIS = {"nnunet": "features", "dynunet": "filters"}
"""{network with kernels and strides per level and axis: its argument for the features of the levels}."""
_THICK = 3.0
"""An axis is thick that is as many times coarser (mm) and as many times shorter (voxels) than the others."""
_THICK_PERCENTILE = 10
"""Percentile of the cases' spacings that a thick axis is resampled to: its median would lose the finer cases."""
_BOTH_SIDES = (0.25, 0.75)
"""Share of a label that lies in one half of the images, between which it is not sided."""
_TOGETHER = 0.9
"""Share of the labelled cases that hold each label, from which on their places in the images can be compared."""
_SIDE_IN_NAME = re.compile(r"(?<![a-z])(left|right|l|r|lt|rt|sin|dex|sinister|dexter)(?![a-z])", re.IGNORECASE)
_SMALL_PART = 0.25
"""Share of the median volume that a patch holds, below which a stage at low resolution helps."""


def plan(
    facts: Sequence[CaseFacts],
    network_name: str,
    config: TrainConfig,
    device: str,
    *,
    labels: Mapping[int, str] | None = None,
    first: Stage | None = None,
    coarse: bool = False,
    patch_voxels: int | None = None,
) -> ModelSpec:
    """The ModelSpec that training fills with weights. device: "cpu", "cuda" or "mps", for the patch's size.

    labels: {id: name}; by default those of the cases. first: the stage before it in a cascade. coarse: the model is
    such a stage itself; its patch holds the whole volume. patch_voxels: of the largest patch; by default as the device
    allows.
    """
    labels = labels_of(facts) if labels is None else labels
    channels, voxels = channels_of(facts), patch_voxels or PATCH_VOXELS[device]
    orientation, grids = _aligned(facts)
    spacing = config.sampling.spacing_zyx_mm or target_spacing(grids)
    if coarse:
        spacing = coarse_spacing(_median_shape(grids, spacing), spacing, voxels)
    shape = _median_shape(grids, spacing)
    spec = network(network_name)
    mode = mode_for(spec, shape if config.sampling.patch_zyx is None else config.sampling.patch_zyx, config.mode)
    patch, levels = _patch_of(network_name, mode, shape, spacing, config, voxels)
    seen = len(channels) + (first.channels if first else 0)
    arguments = spec.arguments(
        in_channels=seen * (patch[0] if mode == "2.5d" else 1),
        out_channels=len(labels) + 1,
        spatial_dims=3 if mode == "3d" else 2,
        **{**_depth_arguments(network_name, levels, mode, device), **_fusion(config), **config.arguments},
    )
    return ModelSpec(
        network=network_name,
        arguments=arguments,
        channels=channels,
        labels=labels,
        patch_zyx=patch,
        spacing_zyx_mm=spacing,
        orientation=orientation,
        normalisation=tuple(normalisation_of(facts, c, of.modality) for c, of in enumerate(channels)),
        mode=mode,
        deep_supervision=bool(arguments.get("deep_supervision", False)),
        recipe=Recipe(mirror_axes=mirror_axes(unsided(facts, orientation), mode, config)),
        first=first,
        training=TrainingRecord(
            fingerprint=fingerprint_of(facts, spacing, shape, labels),
            cases=len(facts),
            seed=config.seed,
            epochs=0.0,
            minutes=0.0,
            versions={},
            validation={},
            seen=seen_in(facts, orientation),
        ),
    )


def unsided(facts: Sequence[CaseFacts], orientation: str | None) -> tuple[int, ...]:
    """The axes (0 z, 1 y, 2 x of that orientation) along which no label is sided.

    Along these every label lies on both sides of the images' middle. There are none where labels do not lie in the same
    images: in images of one knee each, a left and a right one both lie in the middle. There are none for a single case,
    whose image may be cut around the label. Where a name says left or right, the axis from left to right is none.
    """
    halves: dict[int, list[npt.NDArray[np.floating]]] = {}
    for f in facts:
        order = AxisOrder.between(f.grid.orientation, orientation or f.grid.orientation)
        for label, share in f.halves.items():
            turned = [1 - share[a] if flip else share[a] for a, flip in zip(order.axes, order.flips, strict=True)]
            halves.setdefault(label, []).append(np.array(turned))
    labelled = sum(bool(f.halves) for f in facts)
    if labelled < 2 or min(map(len, halves.values())) < _TOGETHER * labelled:
        return ()
    low, high = _BOTH_SIDES
    means = np.array([np.mean(of_label, axis=0) for of_label in halves.values()])
    axes = np.flatnonzero(((means >= low) & (means <= high)).all(axis=0)).tolist()
    if any(_SIDE_IN_NAME.search(name) for f in facts for name in f.label_names.values()):
        letters = orientation or facts[0].grid.orientation
        axes = [axis for axis in axes if letters[axis].isupper() and letters[axis] not in "LR"]
    return tuple(axes)


def mirror_axes(found: tuple[int, ...], mode: Mode, config: TrainConfig) -> tuple[int, ...]:
    """The axes along which a training mirrors. found: those for auto. Slices are mirrored in their plane only."""
    how = config.augmentation
    axes = {"auto": found, "none": (), "all": (0, 1, 2)}[how.mirror] if how.augment else ()
    return tuple(axis for axis in axes if axis or mode in ("3d", "triplanar"))


def _fusion(config: TrainConfig) -> dict[str, str]:
    return {} if config.fusion == "input" else {"fusion": config.fusion}


def mode_for(spec: NetworkSpec, shape: Shape3, wanted: TrainMode) -> Mode:
    """The mode in which a network is trained on volumes of this shape. Raises InputError where the network lacks it."""
    if wanted == "auto":
        return "3d" if 3 in spec.dims and (shape[0] > 1 or 2 not in spec.dims) else "2d"
    if (3 if wanted == "3d" else 2) not in spec.dims:
        has = " and ".join(f"{d}D" for d in spec.dims)
        raise InputError(f"mode {wanted} does not go with network {spec.name}, which is for {has}: choose another")
    return wanted


def _aligned(facts: Sequence[CaseFacts]) -> tuple[str, list[Grid]]:
    """The most frequent orientation of the cases, and their grids in it."""
    orientation = collections.Counter(f.grid.orientation for f in facts).most_common(1)[0][0]
    return orientation, grids_on(facts, orientation)


def target_spacing(grids: Sequence[Grid]) -> Triple:
    """The median spacing; of thick slices, the axis across them gets a finer one, as in nnU-Net."""
    spacing = median_triple([g.spacing for g in grids])
    shape = _median_shape(grids, spacing)
    axis = int(np.argmax(spacing))
    others = [a for a in range(3) if a != axis]
    if spacing[axis] < _THICK * max(spacing[a] for a in others) or shape[axis] * _THICK > min(shape[a] for a in others):
        return spacing
    finer = float(np.percentile([g.spacing[axis] for g in grids], _THICK_PERCENTILE))
    return triple_of(max(finer, *(spacing[o] for o in others)) if a == axis else spacing[a] for a in range(3))


def part_of_volume(facts: Sequence[CaseFacts], spec: ModelSpec) -> float:
    """The share of the median volume that a patch of the plan holds, 0 to 1."""
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    shape = _median_shape(_aligned(facts)[1], spec.spacing_zyx_mm)
    return float(np.prod(np.minimum(spec.patch_zyx, shape)) / np.prod(shape))


def wants_low_resolution(facts: Sequence[CaseFacts], spec: ModelSpec) -> bool:
    """Whether a patch in 3D holds so little of a volume that a stage at low resolution helps, by nnU-Net's rule."""
    return spec.mode == "3d" and spec.first is None and part_of_volume(facts, spec) < _SMALL_PART


def _patch_of(
    network_name: str, mode: Mode, shape: Shape3, spacing: Triple, config: TrainConfig, voxels: int
) -> tuple[Shape3, int | Topology]:
    """The patch of a mode, and how often the network halves it: all axes alike, or each by itself."""
    across = {"2d": 1, "2.5d": config.slices}.get(mode)
    if across is not None:
        shape = (1, *shape[1:])
    given = config.sampling.patch_zyx
    levels: int | Topology
    if network_name in _PER_AXIS:
        patch, levels = patch_on(shape, spacing, voxels)
        if given is not None:
            patch, levels = given, topology_of(given if across is None else (1, *given[1:]), spacing)
    else:
        levels = pools_for(shape)
        patch = given or patch_for(shape, spacing, levels, voxels)
    return ((across or patch[0]), *patch[1:]), levels


def patches_at_once(spec: ModelSpec) -> int:
    """The patches that stand for one of a batch: 1, or in modes of slices up to 16, whose pixels make up a volume."""
    if spec.mode not in ("2d", "2.5d"):
        return 1
    _, height, width = spec.patch_zyx
    return min(16, max(1, _SLICES_PIXELS // (height * width)))


def coarse_spacing(shape: Shape3, spacing: Triple, voxels: int) -> Triple:
    """The spacing at which a volume of this shape (at `spacing`, mm) fits into `voxels`, at least halved.

    The finest axes are made coarser first, as in nnU-Net's low resolution (Isensee et al., Nature Methods 2021).
    """
    extent = np.array(shape) * spacing
    step = 2 * min(spacing)
    while np.prod(extent / np.maximum(spacing, step)) > voxels:
        step *= 1.05
    return triple_of(np.maximum(spacing, step).tolist())


def median_triple(triples: Sequence[Triple]) -> Triple:
    """The median along each axis."""
    return triple_of(np.median(np.array(triples), axis=0).tolist())


def _median_shape(grids: Sequence[Grid], spacing: Triple) -> Shape3:
    shapes = [np.array(g.shape) * g.spacing / np.array(spacing) for g in grids]
    return triple_of(np.maximum(1, np.round(np.median(shapes, axis=0))).astype(int).tolist())


def pools_for(shape: Shape3) -> int:
    """How often the network halves a volume of this shape; a flat axis (2D) does not count."""
    sizes = [n for n in shape if n > 1] or [1]
    return int(np.clip(np.floor(np.log2(max(1, min(sizes)) / BOTTLENECK)), 1, DEEPEST))


def patch_for(shape: Shape3, spacing: Triple, pools: int, voxels: int) -> Shape3:
    """The median shape rounded to what the network halves, its longest side (mm) cut until `voxels` hold it."""
    multiple = 2**pools
    patch = [1 if n == 1 else rounded(n, multiple) for n in shape]
    while np.prod(patch) > voxels:
        lengths = [n * s if n > multiple else 0.0 for n, s in zip(patch, spacing, strict=True)]
        if max(lengths) == 0:
            break
        patch[int(np.argmax(lengths))] -= multiple
    return patch[0], patch[1], patch[2]


def _depth_arguments(network_name: str, levels: int | Topology, mode: Mode, device: str) -> dict[str, Any]:
    """The features of a network whose depth follows the patch, and its kernels; others have a depth of their own."""
    finest = 32 if device == "cuda" else 16  # what a CPU trains in minutes
    if isinstance(levels, Topology):
        count = len(levels.strides)
        kernels, strides = levels.flat(3 if mode == "3d" else 2)
        depth = {_PER_AXIS[network_name]: _features(finest, count), "kernel_sizes": kernels, "strides": strides}
        blocks = {"blocks": (2,) * count, "decoder_blocks": (2,) * (count - 1)}
        return {**depth, **blocks} if network_name == "nnunet" else depth
    argument = network(network_name).features_per_level
    return {argument: _features(finest, levels + 1)} if argument else {}


def _features(finest: int, count: int) -> tuple[int, ...]:
    return tuple(min(320, finest * 2**k) for k in range(count))


def normalisation_of(facts: Sequence[CaseFacts], channel: int, modality: Modality) -> Normalisation:
    """How a channel is normalised; channel: its number."""
    if modality != "CT":
        return Normalisation(kind="zscore")
    values = np.concatenate([f.samples[channel] for f in facts])
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    return Normalisation(
        kind="clip_zscore", low=low, high=high, mean=float(values.mean()), std=float(max(values.std(), 1e-3))
    )


def fingerprint_of(
    facts: Sequence[CaseFacts], spacing: Triple, shape: Shape3, labels: Mapping[int, str]
) -> dict[str, float]:
    """What a model keeps of its cases: spacing, shape, and the share of each label."""
    numbers = {f"spacing_{a}_mm": s for a, s in zip("zyx", spacing, strict=True)}
    numbers |= {f"shape_{a}": float(n) for a, n in zip("zyx", shape, strict=True)}
    voxels = sum(float(np.prod(f.grid.shape)) for f in facts)
    for label in labels:
        numbers[f"fraction_label_{label}"] = sum(f.label_voxels.get(label, 0) for f in facts) / voxels
    return numbers
