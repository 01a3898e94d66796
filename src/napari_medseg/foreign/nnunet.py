"""nnU-Net v2 results folders: dataset.json, plans.json and fold_X/checkpoint_final.pth; nnunetv2 is not needed.

The network is rebuilt from the plans, the tensors come from the checkpoint, and the preprocessing goes into the
ModelSpec as far as it can be said there; the rest is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import read_document
from napari_medseg.foreign.imported import Imported, fitted, renamer
from napari_medseg.foreign.nnunet_plans import Configuration, configuration_of
from napari_medseg.foreign.tensors import Weights, read_weights
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, Modality, ModelSpec, Normalisation
from napari_medseg.registry import shown

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_TRAINERS = re.compile(
    r"nnUNetTrainer(_\d+epochs?)?(_?NoMirroring|_onlyMirror01|DA5|NoDA|_probabilisticOversampling\w*)?"
)
_READERS: Mapping[str, str | None] = {"SimpleITKIO": None, "NibabelIO": None, "NibabelIOWithReorient": "SAR"}
"""{nnU-Net's reader: the orientation (z, y, x) that it brings images to; None: as stored}."""
_MR = frozenset({"mr", "mri", "t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t1gd", "flair", "adc", "dwi", "pd"})


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds an nnU-Net v2 model: plans.json and dataset.json."""
    return (folder / "plans.json").is_file() and (folder / "dataset.json").is_file()


def import_nnunet(folder: Path) -> Imported:
    """The model of the first fold in a results folder.

    Raises ModelFileError or NotSupportedError, naming the first thing that cannot be taken: region-based labels,
    cascades, trainers with networks of their own, other architectures and normalisations.
    """
    plans, dataset = read_document(folder / "plans.json"), read_document(folder / "dataset.json")
    labels, channels = _labels(folder, dataset), _channels(folder, dataset)
    orientation = _orientation(folder, plans, dataset)
    checkpoint, others = _checkpoint(folder)
    weights: Weights | None = None
    if (named := _names_of(folder)) is None:
        weights = read_weights(checkpoint)
        named = weights.facts.get("trainer_name", ""), weights.facts.get("configuration", "")
    trainer, name = named
    if not _TRAINERS.fullmatch(trainer):
        raise NotSupportedError(f"{folder}: the trainer {shown(trainer)} may build a network of its own: not taken")
    plan = configuration_of(folder / "plans.json", plans, name, len(channels), len(labels) + 1)
    weights = weights or read_weights(checkpoint)
    tensors = fitted(checkpoint, weights.tensors, renamer("nnunet"), "nnunet", plan.arguments)
    spec = ModelSpec(
        network="nnunet",
        arguments=plan.arguments,
        channels=channels,
        labels=labels,
        patch_zyx=plan.patch_zyx,
        spacing_zyx_mm=plan.spacing_zyx_mm,
        orientation=_transposed(folder, plans, orientation),
        normalisation=_normalisations(folder, plans, plan, len(channels)),
        mode="3d" if plan.arguments["spatial_dims"] == 3 else "2d",
        recipe=_recipe(weights, 3 if plan.arguments["spatial_dims"] == 3 else 2),
        deep_supervision=bool(plan.arguments["deep_supervision"]),
        description=f"nnU-Net v2, {_text(plans, 'dataset_name')}, {name}, {checkpoint.parent.name}",
        licence=_text(dataset, "licence") or _text(dataset, "license"),
        citation=_text(dataset, "reference") or "Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z",
    )
    return Imported(spec, tensors, tuple(f"{folder}: {note}" for note in _notes(plan, others, spec)))


def _recipe(weights: Weights, spatial_dims: int) -> Recipe:
    """How nnU-Net runs its models: it resamples in its own way, and averages over mirrors that the training saw."""
    # The axes of a 2D network are those of a slice.
    axes = tuple(int(axis) + 3 - spatial_dims for axis in weights.facts.get("mirror_axes", ""))
    kept = tuple(axis for axis in axes if axis < 3)
    return Recipe(mirror_axes=kept, mirrored=bool(kept), resampling="nnunet", statistics="box")


def _notes(plan: Configuration, others: list[str], spec: ModelSpec) -> list[str]:
    notes = []
    if any(plan.use_mask):
        notes.append("nnU-Net normalises over voxels that are not 0 only; here over all")
    if spec.mode == "2d":
        notes.append("nnU-Net keeps the distance of the slices; here images are resampled to their median in training")
    if others:
        notes.append(f"one fold is taken; the others are left out: {', '.join(others)}")
    return notes


def _labels(folder: Path, dataset: Mapping[str, Any]) -> dict[int, str]:
    table = dataset.get("labels")
    if not isinstance(table, dict):
        raise ModelFileError(f"{folder}: dataset.json has no labels")
    if "regions_class_order" in dataset or any(isinstance(value, list) for value in table.values()):
        raise NotSupportedError(f"{folder}: region-based labels, which overlap, cannot be taken")
    if any(type(value) is not int for value in table.values()):
        raise ModelFileError(f"{folder}: dataset.json: the ids of labels must be whole numbers")
    ids = {value: name for name, value in table.items() if name not in ("background", "ignore")}
    if sorted(ids) != list(range(1, len(ids) + 1)) or not ids:
        raise ModelFileError(f"{folder}: dataset.json: labels must have the ids 1, 2, ... without gaps")
    return {value: str(name)[:200] for value, name in ids.items()}


def _channels(folder: Path, dataset: Mapping[str, Any]) -> tuple[Channel, ...]:
    table = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(table, dict) or sorted(table) != sorted(str(i) for i in range(len(table))) or not table:
        raise ModelFileError(f"{folder}: dataset.json: channel_names must be a table of names for 0, 1, ...")
    names = [str(table[str(i)])[:200] for i in range(len(table))]
    return tuple(Channel(name=name, modality=_modality(name)) for name in names)


def _modality(name: str) -> Modality:
    kind = "CT" if name.upper() == "CT" else "MR" if name.lower() in _MR else "other"
    return next(m for m in get_args(Modality) if m == kind)


def _orientation(folder: Path, plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> str | None:
    reader = dataset.get("overwrite_image_reader_writer") or plans.get("image_reader_writer", "SimpleITKIO")
    if not isinstance(reader, str) or reader not in _READERS:
        raise NotSupportedError(f"{folder}: images read by {shown(reader)} cannot be taken: {', '.join(_READERS)} can")
    return _READERS[reader]


def _transposed(folder: Path, plans: Mapping[str, Any], orientation: str | None) -> str | None:
    """The orientation after the plans' transpose_forward."""
    order = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(order, list) or sorted(map(str, order)) != ["0", "1", "2"]:
        raise ModelFileError(f"{folder}: plans.json: transpose_forward must order 0, 1, 2; got {shown(order)}")
    if [int(a) for a in order] == [0, 1, 2]:
        return orientation
    if orientation is None:
        raise NotSupportedError(
            f"{folder}: transpose_forward {order} of axes as they are stored cannot be taken: a model here states an "
            f"orientation, or none and no transposition"
        )
    return "".join(orientation[int(axis)] for axis in order)


def _checkpoint(folder: Path) -> tuple[Path, list[str]]:
    """The checkpoint of the first fold, and the names of the other folds."""
    folds = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    found = [path / name for path in folds for name in _CHECKPOINTS if (path / name).is_file()]
    if not found:
        raise ModelFileError(f"{folder}: no fold_*/checkpoint_final.pth: give the folder that training made")
    return found[0], [path.name for path in folds if path != found[0].parent]


def _names_of(folder: Path) -> tuple[str, str] | None:
    """(trainer, configuration) of a folder that nnU-Net named TRAINER__PLANS__CONFIGURATION."""
    parts = folder.absolute().name.split("__")
    return (parts[0], parts[2]) if len(parts) == 3 else None


def _normalisations(
    folder: Path, plans: Mapping[str, Any], plan: Configuration, channels: int
) -> tuple[Normalisation, ...]:
    if len(plan.normalisation) != channels:
        raise ModelFileError(f"{folder}: plans.json: {channels} channels need as many normalization_schemes")
    return tuple(_normalisation(folder, plans, scheme, c) for c, scheme in enumerate(plan.normalisation))


def _normalisation(folder: Path, plans: Mapping[str, Any], scheme: str, channel: int) -> Normalisation:
    if scheme == "ZScoreNormalization":
        return Normalisation(kind="zscore")
    if scheme == "NoNormalization":
        return Normalisation(kind="none")
    if scheme != "CTNormalization":
        raise NotSupportedError(
            f"{folder}: the normalisation {shown(scheme)} cannot be taken: CTNormalization, ZScoreNormalization and "
            f"NoNormalization can"
        )
    table = plans.get("foreground_intensity_properties_per_channel")
    numbers = table.get(str(channel)) if isinstance(table, dict) else None
    if not isinstance(numbers, dict):
        raise ModelFileError(f"{folder}: plans.json has no foreground intensities of channel {channel}")
    return Normalisation(
        kind="clip_zscore",
        low=numbers.get("percentile_00_5"),
        high=numbers.get("percentile_99_5"),
        mean=numbers.get("mean"),
        std=numbers.get("std"),
    )


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    return value[:1000] if isinstance(value, str) else ""
