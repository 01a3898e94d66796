"""From the cases' fingerprint to the plan of a model: spacing, patch, depth, normalisation.

The rules are those of nnU-Net (Isensee et al., Nature Methods 2021). The result is a ModelSpec: it is shown, stored in
the model, and all that inference knows.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.cases import Case
from napari_medseg.config import LossConfig, TrainConfig, TrainMode
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.geometry import AxisOrder, Shape3, Triple, triple_of
from napari_medseg.inference.suitability import Range, require_order, sampled
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, Mode, ModelSpec, Normalisation, Seen, Stage, TrainingRecord
from napari_medseg.models.transfer import channels_from, origins_of
from napari_medseg.registry import NetworkSpec, network
from napari_medseg.training.planning.topology import BOTTLENECK, DEEPEST, Topology, patch_on, rounded, topology_of
from napari_medseg.transforms.intensity import CT_BELOW_HU, as_float32
from napari_medseg.volume import MAX_LABEL, Grid, Segmentation, called, is_named, require_same_grid, same_name

_SAMPLES_PER_CASE = 20_000
"""Intensities of a case from which those of all cases are judged."""
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


@dataclass(frozen=True)
class CaseFacts:
    """What the plan needs to know of one case."""

    name: str
    grid: Grid
    channels: tuple[str, ...]
    label_names: dict[int, str]
    label_voxels: dict[int, int]
    minima: tuple[float, ...]
    """Lowest intensity of each channel."""
    ranges: tuple[tuple[float, float], ...]
    """(C, 2) percentiles 1 and 99 of each channel."""
    halves: dict[int, Triple]
    """{label: its share in the first half of each axis}."""
    samples: npt.NDArray[np.float32] = field(repr=False)
    """(C, n) intensities of labelled voxels, of any voxels where nothing is labelled."""
    annotated: bool = True
    """Whether somebody annotated a voxel of it, if only as background."""


def facts_of(case: Case, loss: LossConfig, draw: np.random.Generator) -> CaseFacts:
    """Read a case once and keep its numbers. Raises GridMismatchError where image and labels lie apart."""
    volume, segmentation = case.load()
    image, labels = replace(volume, name=case.name), replace(segmentation, name=case.name)
    require_same_grid(image, labels, "the image of", "the labels of")
    image_data = np.asarray(volume.data[...])
    ids, counts, halves, samples, has_background = _label_facts(image_data, labels, loss, draw)
    names = {i: segmentation.label_name(i) for i in ids}
    ranges = [Range.of(sampled(image_data, c)) for c in range(len(image_data))]
    return CaseFacts(
        case.name,
        volume.grid,
        volume.channels,
        names,
        dict(zip(ids, counts, strict=True)),
        tuple(float(as_float32(channel).min()) for channel in image_data),
        tuple((found.low, found.high) for found in ranges),
        halves,
        samples,
        annotated=bool(ids) or (has_background and loss.unlabelled_slices == "background"),
    )


def _label_facts(
    image_data: npt.NDArray[np.generic], segmentation: Segmentation, loss: LossConfig, draw: np.random.Generator
) -> tuple[list[int], list[int], dict[int, Triple], npt.NDArray[np.float32], bool]:
    """Of a CaseFacts: the ids and voxels of the labels, halves and samples; last, whether a voxel has the id 0."""
    labels = np.asarray(segmentation.data[...])
    found, counts = np.unique(labels, return_counts=True)
    if found[0] < 0:
        raise InputError(
            f"{segmentation.name}: label ids are whole numbers from 0; got {found[0]}: give what is not annotated an "
            f"id above 0, such as 255, and say it as ignore_label"
        )
    keep = (found > 0) & (found != loss.ignore_label)
    inside = np.flatnonzero(np.isin(labels, found[keep]))
    where = inside if len(inside) else np.arange(labels.size)
    some = np.unravel_index(draw.choice(where, min(len(where), _SAMPLES_PER_CASE), replace=False), labels.shape)
    samples = np.stack([as_float32(channel[some]) for channel in image_data])
    ids, halves = found[keep].tolist(), _halves(labels, found[keep])
    return ids, counts[keep].tolist(), halves, samples, bool(found[0] == 0)


def _halves(labels: npt.NDArray[np.integer[Any]], ids: npt.NDArray[np.integer[Any]]) -> dict[int, Triple]:
    """The share of each label in the first half of each axis; a voxel in the middle counts half. ids: ascending."""
    of_z, of_y, of_x = ((1 - np.sign(2 * np.arange(n) + 1 - n)) / 2 for n in labels.shape)
    first, whole = np.zeros((len(ids), 3)), np.zeros((len(ids), 1))
    for z, plane in enumerate(labels):
        y, x = np.nonzero(np.isin(plane, ids))
        which = np.searchsorted(ids, plane[y, x])
        whole[:, 0] += np.bincount(which, minlength=len(ids))
        for axis, weights in ((0, np.full(len(y), of_z[z])), (1, of_y[y]), (2, of_x[x])):
            first[:, axis] += np.bincount(which, weights, len(ids))
    return {int(i): triple_of(share.tolist()) for i, share in zip(ids, first / np.maximum(whole, 1), strict=True)}


def require_same_channels(facts: Sequence[CaseFacts]) -> None:
    """Raise InputError unless all cases have the same number of channels."""
    count = len(facts[0].channels)
    for f in facts:
        if len(f.channels) != count:
            raise InputError(
                f"case {f.name} has {len(f.channels)} channels, case {facts[0].name} has {count}: all cases need the "
                f"same"
            )
        require_order(f"case {f.name}", f.channels, facts[0].channels)


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
    channels, voxels = facts[0].channels, patch_voxels or PATCH_VOXELS[device]
    orientation, grids = _aligned(facts)
    spacing = config.sampling.spacing_zyx_mm or target_spacing(grids)
    if coarse:
        spacing = coarse_spacing(_median_shape(grids, spacing), spacing, voxels)
    shape = _median_shape(grids, spacing)
    spec = network(network_name)
    mode = mode_for(spec, shape if config.sampling.patch_zyx is None else config.sampling.patch_zyx, config.mode)
    patch, levels = _patch_of(network_name, mode, shape, spacing, config, voxels)
    is_ct = (np.median([f.minima for f in facts], axis=0) <= CT_BELOW_HU).tolist()
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
        channels=tuple(
            Channel(name=c, modality="CT" if ct else "other") for c, ct in zip(channels, is_ct, strict=True)
        ),
        labels=labels,
        patch_zyx=patch,
        spacing_zyx_mm=spacing,
        orientation=orientation,
        normalisation=tuple(_normalisation(facts, c, ct) for c, ct in enumerate(is_ct)),
        mode=mode,
        deep_supervision=bool(arguments.get("deep_supervision", False)),
        recipe=Recipe(mirror_axes=mirror_axes(unsided(facts, orientation), mode, config)),
        first=first,
        training=TrainingRecord(
            fingerprint=_fingerprint(facts, spacing, shape, labels),
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


def require_modalities(facts: Sequence[CaseFacts], config: TrainConfig) -> None:
    """Raise InputError for what joins or drops channels where there is one only."""
    asked = {"fusion": config.fusion != "input", "modality_dropout": config.augmentation.modality_dropout > 0}
    for name, wanted in asked.items():
        if wanted and len(facts[0].channels) == 1:
            raise InputError(f"{name} is for images of several channels; the cases have 1: leave it out")


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
    return orientation, [f.grid.reordered(AxisOrder.between(f.grid.orientation, orientation)) for f in facts]


def target_spacing(grids: Sequence[Grid]) -> Triple:
    """The median spacing; of thick slices, the axis across them gets a finer one, as in nnU-Net."""
    spacing = _median_triple([g.spacing for g in grids])
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


def labels_of(facts: Sequence[CaseFacts]) -> dict[int, str]:
    """{id: name} of all labels in the cases; a name of its own goes before the "label 7" of a file without names."""
    labels: dict[int, str] = {}
    for f in facts:
        for i, name in f.label_names.items():
            if i not in labels or not is_named(i, labels[i]):
                labels[i] = name
    if not labels:
        raise InputError("no case holds a label above 0: annotate at least one structure")
    if max(labels) > MAX_LABEL:
        raise InputError(f"label ids go to {MAX_LABEL}; got {max(labels)}")
    return dict(sorted(labels.items()))


def label_doubts(
    training: Sequence[CaseFacts], validation: Sequence[CaseFacts], labels: Mapping[int, str]
) -> list[str]:
    """What the user should know of the labels: which no case trains, ids of several names, names of several ids."""
    doubts = []
    trained = {i for f in training for i in f.label_names}
    for i in sorted({i for f in validation for i in f.label_names} - trained):
        where = ", ".join(f.name for f in validation if i in f.label_names)
        doubts.append(
            f"label {called(i, labels)} is only in cases that validate ({where}): nothing trains it; move such a case "
            f"before the last ones in name order, or lower val"
        )
    unseen = [called(i, labels) for i in labels if i in trained and not any(i in f.label_names for f in validation)]
    if validation and unseen:
        doubts.append(
            f"no case that validates holds {', '.join(unseen)}: each counts 1 for it unless it is found there, which "
            f"raises the mean Dice"
        )
    nowhere = [called(i, labels) for i in labels if not any(i in f.label_names for f in (*training, *validation))]
    if nowhere:
        doubts.append(f"no case holds {', '.join(nowhere)}: what cases show of them is learned as background")
    for i, name in labels.items():
        others = [f for f in (*training, *validation) if is_named(i, f.label_names.get(i, name))]
        other = next((f for f in others if not same_name(f.label_names.get(i, name), name)), None)
        if other is not None:
            doubts.append(
                f"label {i} is {name} in some cases and {other.label_names[i]} in {other.name}: taken as {name}"
            )
    alike = [[i for i, other in labels.items() if same_name(name, other)] for name in labels.values()]
    for ids in dict.fromkeys(tuple(each) for each in alike if len(each) > 1):
        doubts.append(
            f"labels {', '.join(called(i, labels) for i in ids)} have names that mean the same: they are learned as "
            f"{len(ids)} structures; if they are one, take them for one region"
        )
    return doubts


def _median_triple(triples: Sequence[Triple]) -> Triple:
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


def _normalisation(facts: Sequence[CaseFacts], channel: int, is_ct: bool) -> Normalisation:
    if not is_ct:
        return Normalisation(kind="zscore")
    values = np.concatenate([f.samples[channel] for f in facts])
    low, high = (float(v) for v in np.percentile(values, [0.5, 99.5]))
    return Normalisation(
        kind="clip_zscore", low=low, high=high, mean=float(values.mean()), std=float(max(values.std(), 1e-3))
    )


def _fingerprint(
    facts: Sequence[CaseFacts], spacing: Triple, shape: Shape3, labels: Mapping[int, str]
) -> dict[str, float]:
    numbers = {f"spacing_{a}_mm": s for a, s in zip("zyx", spacing, strict=True)}
    numbers |= {f"shape_{a}": float(n) for a, n in zip("zyx", shape, strict=True)}
    voxels = sum(float(np.prod(f.grid.shape)) for f in facts)
    for label in labels:
        numbers[f"fraction_label_{label}"] = sum(f.label_voxels.get(label, 0) for f in facts) / voxels
    return numbers


def plan_from(
    initial: ModelSpec, facts: Sequence[CaseFacts], config: TrainConfig, *, labels: Mapping[int, str] | None = None
) -> ModelSpec:
    """The spec that fine-tunes a model on new cases: its network and preprocessing, the cases' labels.

    labels: {id: name} of the cases; by default those of `facts`. Labels of the model that no case holds stay where the
    cases add none and mean the same by their ids. Raises NotSupportedError for a model that needs the whole image.
    """
    if initial.has_pipeline:
        raise NotSupportedError(
            "the model to start from prepares images, or reads its outputs, as another program does, which a training "
            "cannot: train a new one, or start from a plain model of nnU-Net or of this package"
        )
    if len(facts[0].channels) == len(initial.channels):
        require_order(f"case {facts[0].name}", facts[0].channels, [channel.name for channel in initial.channels])
    else:
        initial = _with_channels(initial, facts)
    _refuse_idle(initial, config)
    patch = config.sampling.patch_zyx or initial.patch_zyx
    labels = _labels_from(initial.labels, labels_of(facts) if labels is None else labels)
    spacing = (
        initial.spacing_zyx_mm or config.sampling.spacing_zyx_mm or _median_triple([f.grid.spacing for f in facts])
    )
    record = TrainingRecord(
        fingerprint=_fingerprint(facts, spacing, initial.patch_zyx, labels),
        cases=len(facts),
        seed=config.seed,
        seen=seen_in(facts, initial.orientation),
    )
    return replace(
        initial,
        arguments={**initial.arguments, "out_channels": len(labels) + 1},
        labels=labels,
        spacing_zyx_mm=spacing,
        patch_zyx=((patch if initial.mode in ("3d", "triplanar") else initial.patch_zyx)[0], *patch[1:]),
        bf16_ok=False,
        recipe=_recipe(initial, _both_mirror(initial.recipe.mirror_axes, unsided(facts, initial.orientation)), config),
        training=record,
    )


def _both_mirror(earlier: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which the new labels allow it, of those of the first model; it may have mirrored along none."""
    return tuple(axis for axis in found if axis in earlier or not earlier)


def _recipe(spec: ModelSpec, found: tuple[int, ...], config: TrainConfig) -> Recipe:
    """The recipe of a spec, with the axes along which a training of it mirrors."""
    axes = mirror_axes(found, spec.mode, config)
    return replace(spec.recipe, mirror_axes=axes, mirrored=spec.recipe.mirrored and bool(axes))


def _with_channels(initial: ModelSpec, facts: Sequence[CaseFacts]) -> ModelSpec:
    """The spec with the channels of the cases: those of the model where they have one, see `channels_from`."""
    if initial.first is not None or "fusion" in initial.arguments:
        raise InputError(
            "a cascade, and a model that fuses its channels, keep them: give images with the channels of the model to "
            "start from"
        )
    names = facts[0].channels
    origins = channels_from(names, [channel.name for channel in initial.channels])
    is_ct = (np.median([f.minima for f in facts], axis=0) <= CT_BELOW_HU).tolist()
    fresh = [Channel(name=name, modality="CT" if ct else "other") for name, ct in zip(names, is_ct, strict=True)]
    slices = initial.patch_zyx[0] if initial.mode == "2.5d" else 1
    return replace(
        initial,
        channels=tuple(
            new if k is None else replace(initial.channels[k], name=new.name)
            for k, new in zip(origins, fresh, strict=True)
        ),
        normalisation=tuple(
            _normalisation(facts, c, is_ct[c]) if k is None else initial.normalisation[k] for c, k in enumerate(origins)
        ),
        arguments={**initial.arguments, "in_channels": len(names) * slices},
        training=replace(initial.training, seen=None),
    )


def planned(
    spec: ModelSpec, facts: Sequence[CaseFacts], config: TrainConfig, *, labels: Mapping[int, str], first: Stage | None
) -> ModelSpec:
    """The spec of a plan for these cases, with the record of the training. first: the stage before it, trained.

    Patches are mirrored as the plan says, unless they are not augmented. Raises InputError where the cases have other
    channels, a label that the plan lacks, or the config says otherwise.
    """
    if len(facts[0].channels) != len(spec.channels):
        raise InputError(f"the cases have {len(facts[0].channels)} channels, the plan {len(spec.channels)}")
    require_order(f"case {facts[0].name}", facts[0].channels, [channel.name for channel in spec.channels])
    _refuse_idle(spec, config, "the plan")
    patch = config.sampling.patch_zyx or spec.patch_zyx
    if patch != spec.patch_zyx and (spec.mode in ("3d", "triplanar") or patch[1:] != spec.patch_zyx[1:]):
        raise InputError(f"patch_zyx {patch} does not go with the plan, which has {spec.patch_zyx}: leave it out")
    unknown = config.loss.ignore_label
    if unknown in spec.labels:
        raise InputError(f"the plan learns label {unknown}, which is to be ignored: plan again with ignore_label")
    lacking = [called(i, labels) for i in labels if i not in spec.labels]
    if lacking:
        raise InputError(f"the plan has no label {', '.join(lacking[:5])}, which the cases hold: plan them again")
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    record = TrainingRecord(
        fingerprint=_fingerprint(facts, spec.spacing_zyx_mm, spec.patch_zyx, spec.labels),
        cases=len(facts),
        seed=config.seed,
        seen=seen_in(facts, spec.orientation),
    )
    mirror = config.augmentation.mirror
    if mirror != TrainConfig().augmentation.mirror and _recipe(spec, spec.recipe.mirror_axes, config) != spec.recipe:
        along = spec.recipe.axes_told or "no axis"
        raise InputError(f"mirror {mirror} does not go with the plan, which mirrors along {along}: leave it out")
    recipe = spec.recipe if config.augmentation.augment else _recipe(spec, (), config)
    return replace(spec, first=first, training=record, recipe=recipe)


def seen_in(facts: Sequence[CaseFacts], orientation: str | None) -> Seen:
    """What the images of the cases are like, on axes of that orientation; None: as stored."""
    grids = [f.grid.reordered(AxisOrder.between(f.grid.orientation, orientation or f.grid.orientation)) for f in facts]
    spacings = np.array([grid.spacing for grid in grids])
    extents = spacings * [grid.shape for grid in grids]
    return Seen(
        intensity=tuple(
            (min(low for low, _ in of_cases), max(high for _, high in of_cases))
            for of_cases in zip(*(f.ranges for f in facts), strict=True)
        ),
        spacing_zyx_mm=(triple_of(spacings.min(axis=0).tolist()), triple_of(spacings.max(axis=0).tolist())),
        extent_zyx_mm=triple_of(extents.min(axis=0).tolist()),
    )


def _refuse_idle(initial: ModelSpec, config: TrainConfig, owner: str = "the model to start from") -> None:
    """Raise InputError for a knob that the model to start from, or the plan, decides otherwise."""
    own = initial.arguments
    arguments = [(f"argument {name}", value, own.get(name)) for name, value in config.arguments.items()]
    spacing = config.sampling.spacing_zyx_mm
    same_spacing = None in (spacing, initial.spacing_zyx_mm) or spacing == initial.spacing_zyx_mm
    slices = initial.patch_zyx[0] if initial.mode == "2.5d" else 1
    fusion = own.get("fusion", "input")
    given = (
        ("mode", config.mode, config.mode in ("auto", initial.mode), initial.mode),
        ("fusion", config.fusion, config.fusion in ("input", fusion), fusion),
        ("slices", config.slices, config.slices in (TrainConfig().slices, slices), slices),
        ("spacing_zyx_mm", spacing, same_spacing, initial.spacing_zyx_mm),
        *((name, value, value == has, has) for name, value, has in arguments),
    )
    for name, value, agrees, has in given:
        if not agrees:
            raise InputError(f"{name} {value} does not go with {owner}, which is of {name} {has}: leave the {name} out")


def _labels_from(earlier: Mapping[int, str], found: Mapping[int, str]) -> dict[int, str]:
    """The labels of a fine-tuned model. earlier: of the model. found: in the cases, whose own names go first."""
    meant = {i: name if is_named(i, name) else earlier.get(i, name) for i, name in found.items()}
    origins = origins_of(meant, earlier)
    return {**earlier, **meant} if all(origins.of[i] == i for i in meant) else meant
