"""nnU-Net v2 results folders: dataset.json, plans.json and fold_X/checkpoint_final.pth; nnunetv2 is not needed.

The network is rebuilt from the plans, the tensors come from the checkpoint, and the preprocessing goes into the
ModelSpec as steps; what cannot be said there is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import read_document
from napari_medseg.foreign.imported import Imported, ImportedSet, fitted, renamer
from napari_medseg.foreign.nnunet.plans import Configuration, configuration_of
from napari_medseg.foreign.nnunet.trainers import has_batch_norm, keeps_architecture, mirrors
from napari_medseg.foreign.tensors import Weights, read_weights
from napari_medseg.models.file import FIRST
from napari_medseg.models.pipeline import PLAIN_OUTPUT, Output, Region, Sliding, Step
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, Modality, ModelSpec, Normalisation, Stage
from napari_medseg.registry import shown

_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")
_READERS: Mapping[str, str | None] = {
    "SimpleITKIO": None,
    "SimpleITKIOWithReorient": "SAR",
    "NibabelIO": None,
    "NibabelIOWithReorient": "SAR",
    "NaturalImage2DIO": None,
    "Tiff3DIO": None,
}
"""{nnU-Net's reader: the orientation (z, y, x) that it brings images to; None: as stored}."""
_MR = frozenset({"mr", "mri", "t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t1gd", "flair", "adc", "dwi", "pd"})
_CITATION = "Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z"
_STORED = "zyx"
_STREAMED = frozenset({"CTNormalization", "ZScoreNormalization", "NoNormalization"})
"""Normalisations that need no more than sums over the image."""


@dataclass(frozen=True)
class _Folder:
    """What the documents of a results folder say."""

    path: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    trainer: str
    configuration: str

    @classmethod
    def of(cls, path: Path, checkpoint: Path) -> tuple[_Folder, Weights | None]:
        """The folder, and the weights where they had to be read for its names."""
        plans, dataset = read_document(path / "plans.json"), read_document(path / "dataset.json")
        weights, named = None, _names_of(path)
        if named is None:
            weights = read_weights(checkpoint)
            named = weights.facts.get("trainer_name", ""), weights.facts.get("configuration", "")
            if not all(named):
                raise ModelFileError(
                    f"{path}: neither the checkpoint nor the folder's name says trainer and configuration: name the "
                    f"folder TRAINER__PLANS__CONFIGURATION, such as nnUNetTrainer__nnUNetPlans__3d_fullres"
                )
        if not keeps_architecture(named[0]):
            raise NotSupportedError(f"{path}: the trainer {shown(named[0])} may build a network of its own: not taken")
        return cls(path, plans, dataset, *named), weights


def is_results_folder(folder: Path) -> bool:
    """Whether a folder holds an nnU-Net v2 model: plans.json and dataset.json."""
    return (folder / "plans.json").is_file() and (folder / "dataset.json").is_file()


def plans_of_v1(folder: Path) -> Path | None:
    """The plans of nnU-Net v1 in the folder of a result, of its fold or of its task; None where there are none."""
    places = (folder / "plans.pkl", *sorted(folder.glob("nnUNetTrainer*/plans.pkl")))
    above = (folder.parent / "plans.pkl",) if folder.name.startswith("fold_") else ()
    return next((path for path in (*places, *above) if path.is_file()), None)


def import_nnunet(folder: Path) -> Imported | ImportedSet:
    """The model of a results folder; of several folds a set that is averaged.

    Raises ModelFileError or NotSupportedError, naming the first thing that cannot be taken: trainers with networks of
    their own, other architectures and normalisations.
    """
    folds, left_out = folds_of(folder)
    notes = (f"{folder}: no checkpoint is in {', '.join(left_out)}, left out",) if left_out else ()
    if len(folds) == 1:
        imported = import_fold(folder, *next(iter(folds.items())))
        return replace(imported, notes=(*imported.notes, *notes))
    members = {name.replace("_", ""): partial(import_fold, folder, name, path) for name, path in folds.items()}
    return ImportedSet((members,), notes)


def import_fold(
    folder: Path, fold: str, checkpoint: Path, ids: Mapping[int, int] | None = None, *, is_first: bool = False
) -> Imported:
    """The model of one fold.

    ids: {label of the dataset: id that it gets}, in ascending order. is_first: whether it is the first of a cascade.
    """
    source, weights = _Folder.of(folder, checkpoint)
    labels, output = _labels(source)
    stage, before = None, {}
    first_labels = 0
    plan_before = _previous(source)
    if plan_before is not None:
        first = import_fold(plan_before, fold, _checkpoint_of(plan_before, fold), is_first=True)
        stage = Stage(model=first.spec, guide="labels")
        before = {FIRST + name: tensor for name, tensor in first.tensors.items()}
        first_labels = len(first.spec.labels)
    channels = _channels(folder, source.dataset)
    where = folder / "plans.json"
    outputs = len(output.regions) or len(labels) + 1
    plan = configuration_of(where, source.plans, source.configuration, len(channels) + first_labels, outputs)
    arguments = {**plan.arguments, "norm": "batch" if has_batch_norm(source.trainer) else plan.arguments["norm"]}
    weights = weights or read_weights(checkpoint)
    tensors = fitted(checkpoint, weights.tensors, renamer("nnunet"), "nnunet", arguments)
    largest = _largest(folder, labels, _ids_in(source))
    if ids is not None:
        labels = {ids[label]: name for label, name in labels.items()}
        largest = tuple(tuple(ids[label] for label in group) for group in largest)
    axes, in_cascade = _mirror_axes(source, weights, plan), is_first or stage is not None
    spec = ModelSpec(
        network="nnunet",
        arguments=arguments,
        channels=channels,
        labels=labels,
        patch_zyx=plan.patch_zyx,
        spacing_zyx_mm=plan.spacing_zyx_mm if plan.method else None,
        orientation=_transposed(folder, source),
        **_preparation(source, plan, replace(output, largest=largest), axes, in_cascade=in_cascade),
        mode="3d" if plan.arguments["spatial_dims"] == 3 else "2d",
        deep_supervision=bool(plan.arguments["deep_supervision"]),
        first=stage,
        description=f"nnU-Net v2, {_text(source.plans, 'dataset_name')}, {source.configuration}, {fold}",
        licence=_text(source.dataset, "licence") or _text(source.dataset, "license"),
        citation=_text(source.dataset, "reference") or _CITATION,
    )
    return Imported(spec, {**tensors, **before}, tuple(f"{folder}: {note}" for note in (*plan.notes, *_left(folder))))


def _mirror_axes(source: _Folder, weights: Weights, plan: Configuration) -> tuple[int, ...]:
    """The model's axes along which the trainer mirrors: as the checkpoint says, else by the trainer's name."""
    dims = plan.arguments["spatial_dims"]
    assert isinstance(dims, int)
    told = weights.facts.get("mirror_axes")
    by_name = mirrors(source.trainer, dims)
    if told is None or not by_name:
        return by_name
    return tuple(sorted(int(axis) + 3 - dims for axis in told if int(axis) < dims))


def _labels(source: _Folder) -> tuple[dict[int, str], Output]:
    """({label id: name}, output) of dataset.json: plain labels, or regions that overlap."""
    folder, table = source.path, source.dataset.get("labels")
    if not isinstance(table, dict) or not table or len(table) > 4096:
        raise ModelFileError(f"{folder}: dataset.json has no labels")
    table = {str(name)[:200]: value for name, value in table.items() if name != "ignore"}
    if "regions_class_order" in source.dataset or any(isinstance(value, list) for value in table.values()):
        return _regions(folder, table, source.dataset.get("regions_class_order"))
    if any(type(value) is not int for value in table.values()):
        raise ModelFileError(f"{folder}: dataset.json: the ids of labels must be whole numbers")
    ids = {value: name for name, value in table.items() if name != "background"}
    if sorted(ids) != list(range(1, len(ids) + 1)) or not ids:
        raise ModelFileError(f"{folder}: dataset.json: labels must have the ids 1, 2, ... without gaps")
    return dict(sorted(ids.items())), Output()


def _regions(folder: Path, table: Mapping[str, Any], order: Any) -> tuple[dict[int, str], Output]:
    """Regions, each an output channel; those that come later in regions_class_order stay where they overlap."""
    named = {name: ids for name, ids in table.items() if ids not in (0, [0])}
    if not isinstance(order, list) or len(order) != len(named) or not all(type(i) is int and i > 0 for i in order):
        raise ModelFileError(f"{folder}: dataset.json: regions_class_order needs a label id for each of the regions")
    regions = tuple(
        Region(name=name, label=label, rank=k) for k, (name, label) in enumerate(zip(named, order, strict=True))
    )
    return {region.label: region.name for region in regions}, Output(regions=regions)


def _ids_in(source: _Folder) -> set[int]:
    """The ids of dataset.json, those of which regions consist among them."""
    given = source.dataset["labels"].values()
    return {i for value in given for i in (value if isinstance(value, list) else [value]) if type(i) is int}


def _largest(folder: Path, labels: Mapping[int, str], known: Set[int]) -> tuple[tuple[int, ...], ...]:
    """The labels of which only the largest component is kept, by the file of post-processing; () without one.

    known: the ids of the data set. Raises ModelFileError for another one.
    """
    path = next(iter(_postprocessing(folder, ".json")), None)
    if path is None:
        return ()
    document = read_document(path)
    names, arguments = document.get("postprocessing_fns"), document.get("postprocessing_kwargs")
    if not isinstance(names, list) or not isinstance(arguments, list) or len(names) != len(arguments):
        raise ModelFileError(f"{path}: postprocessing_fns and postprocessing_kwargs must be lists of one length")
    groups = []
    for name, given in zip(names, arguments, strict=True):
        if name != "remove_all_but_largest_component_from_segmentation" or not isinstance(given, dict):
            raise NotSupportedError(f"{path}: the post-processing {shown(name)} cannot be taken")
        chosen = given.get("labels_or_regions")
        listed = chosen if isinstance(chosen, list) else [chosen]
        flat = [i for item in listed for i in (item if isinstance(item, list) else [item])]
        if not all(isinstance(i, int) for i in flat):
            raise ModelFileError(f"{path}: labels_or_regions must be label ids; got {shown(chosen)}")
        if unknown := [i for i in flat if i not in known]:
            raise ModelFileError(f"{path}: labels_or_regions names {shown(unknown)}, which dataset.json has not")
        groups.append(tuple(label for label in labels if label in flat))
    return tuple(group for group in groups if group)


def _postprocessing(folder: Path, suffix: str) -> list[Path]:
    beside = [folder / f"postprocessing{suffix}"]
    return [
        p for p in (*beside, *sorted(folder.glob(f"crossval_results_folds_*/postprocessing{suffix}"))) if p.is_file()
    ]


def _left(folder: Path) -> tuple[str, ...]:
    if _postprocessing(folder, ".pkl") and not _postprocessing(folder, ".json"):
        return ("postprocessing.pkl is a pickle and is not opened: put its postprocessing.json beside it",)
    return ()


def _channels(folder: Path, dataset: Mapping[str, Any]) -> tuple[Channel, ...]:
    table = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(table, dict) or sorted(table) != sorted(str(i) for i in range(len(table))) or not table:
        raise ModelFileError(f"{folder}: dataset.json: channel_names must be a table of names for 0, 1, ...")
    names = [str(table[str(i)])[:200] or f"channel {i}" for i in range(len(table))]
    return tuple(Channel(name=name, modality=_modality(name)) for name in names)


def _modality(name: str) -> Modality:
    kind = "CT" if name.upper() == "CT" else "MR" if name.lower() in _MR else "other"
    return next(m for m in get_args(Modality) if m == kind)


def _transposed(folder: Path, source: _Folder) -> str | None:
    """The orientation after transpose_forward; an order of the stored axes where the plans state none."""
    reader = source.dataset.get("overwrite_image_reader_writer") or source.plans.get(
        "image_reader_writer", "SimpleITKIO"
    )
    if not isinstance(reader, str) or reader not in _READERS:
        raise NotSupportedError(f"{folder}: images read by {shown(reader)} cannot be taken: {', '.join(_READERS)} can")
    order = source.plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(order, list) or sorted(map(str, order)) != ["0", "1", "2"]:
        raise ModelFileError(f"{folder}: plans.json: transpose_forward must order 0, 1, 2; got {shown(order)}")
    letters = _READERS[reader] or _STORED
    made = "".join(letters[int(axis)] for axis in order)
    return None if made == _STORED else made


def folds_of(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """{fold: its checkpoint}, and the folds without one; fold_all where there are no others."""
    folds = sorted(path for path in folder.glob("fold_*") if path.is_dir())
    found = {fold.name: path for fold in folds if (path := _checkpoint_in(fold)) is not None}
    if not found:
        raise ModelFileError(f"{folder}: no fold_*/checkpoint_final.pth: give the folder that training made")
    numbered = {name: path for name, path in found.items() if name != "fold_all"} or found
    return numbered, [fold.name for fold in folds if fold.name not in found]


def _checkpoint_in(fold: Path) -> Path | None:
    return next((fold / name for name in _CHECKPOINTS if (fold / name).is_file()), None)


def _checkpoint_of(folder: Path, fold: str) -> Path:
    found = _checkpoint_in(folder / fold)
    if found is None:
        raise ModelFileError(f"{folder}: the first step of a cascade has no {fold}/checkpoint_final.pth")
    return found


def _previous(source: _Folder) -> Path | None:
    """The folder of a cascade's first step, beside this one; None where there is no step before."""
    table = source.plans.get("configurations")
    own = table.get(source.configuration) if isinstance(table, dict) else None
    name = own.get("previous_stage") if isinstance(own, dict) else None
    if name is None:
        return None
    parts = source.path.absolute().name.split("__")
    beside = source.path.absolute().with_name("__".join([*parts[:-1], str(name)]))
    if len(parts) != 3 or not is_results_folder(beside):
        raise ModelFileError(
            f"{source.path}: {source.configuration} is the second step of a cascade: its first, {shown(name)}, must "
            f"lie beside it"
        )
    return beside


def _names_of(folder: Path) -> tuple[str, str] | None:
    """(trainer, configuration) of a folder that nnU-Net named TRAINER__PLANS__CONFIGURATION."""
    parts = folder.absolute().name.split("__")
    return (parts[0], parts[2]) if len(parts) == 3 else None


def _preparation(
    source: _Folder, plan: Configuration, output: Output, axes: tuple[int, ...], *, in_cascade: bool
) -> dict[str, Any]:
    """How nnU-Net runs the model, as arguments of a ModelSpec.

    A plain model is said by its recipe, and runs on images of any size. The others need the whole image: a crop to what
    is not 0, the normalisation of each channel, then the resampling.
    """
    channels = len(_channels(source.path, source.dataset))
    if len(plan.normalisation) != channels:
        raise ModelFileError(f"{source.path}: plans.json: {channels} channels need as many normalization_schemes")
    recipe = Recipe(mirror_axes=axes, mirrored=bool(axes))
    streamed = not in_cascade and output == PLAIN_OUTPUT and plan.method != "extent" and not any(plan.use_mask)
    if streamed and plan.arguments["spatial_dims"] == 3 and set(plan.normalisation) <= _STREAMED:
        rules = tuple(
            _rule(source.path, source.plans, scheme, channel) for channel, scheme in enumerate(plan.normalisation)
        )
        return {"normalisation": rules, "recipe": replace(recipe, resampling="nnunet", statistics="box")}
    return {
        "normalisation": (Normalisation(kind="none"),) * channels,
        "steps": _steps(source.path, source.plans, plan),
        "output": output,
        "sliding": Sliding(overlap=0.5, positions="even"),
        "recipe": recipe,
    }


def _rule(folder: Path, plans: Mapping[str, Any], scheme: str, channel: int) -> Normalisation:
    if scheme == "CTNormalization":
        low, high, mean, std = _foreground(folder, plans, channel)
        return Normalisation(kind="clip_zscore", low=low, high=high, mean=mean, std=std)
    return Normalisation(kind="zscore" if scheme == "ZScoreNormalization" else "none")


def _steps(folder: Path, plans: Mapping[str, Any], plan: Configuration) -> tuple[Step, ...]:
    steps = [Step(kind="crop", over="filled")]
    for channel, scheme in enumerate(plan.normalisation):
        masked = channel < len(plan.use_mask) and plan.use_mask[channel]
        steps += _normalisation(folder, plans, scheme, channel, masked=masked)
    if plan.method:
        kept = () if plan.arguments["spatial_dims"] == 3 else (0,)
        steps.append(Step(kind="resample", method=plan.method, kept_axes=kept))
    return tuple(steps)


def _normalisation(folder: Path, plans: Mapping[str, Any], scheme: str, channel: int, *, masked: bool) -> list[Step]:
    if scheme == "ZScoreNormalization":
        return [Step(kind="zscore", channel=channel, over="filled" if masked else "all")]
    if scheme == "NoNormalization":
        return []
    if scheme == "RescaleTo01Normalization":
        return [Step(kind="minmax", channel=channel, to_low=0.0, to_high=1.0)]
    if scheme == "RGBTo01Normalization":
        return [Step(kind="affine", channel=channel, factor=1 / 255, offset=0.0)]
    if scheme != "CTNormalization":
        raise NotSupportedError(
            f"{folder}: the normalisation {shown(scheme)} cannot be taken: CTNormalization, ZScoreNormalization, "
            f"RescaleTo01Normalization, RGBTo01Normalization and NoNormalization can"
        )
    low, high, mean, std = _foreground(folder, plans, channel)
    return [
        Step(kind="clip", channel=channel, low=low, high=high),
        Step(kind="affine", channel=channel, factor=1 / std, offset=-mean / std),
    ]


def _foreground(folder: Path, plans: Mapping[str, Any], channel: int) -> tuple[float, float, float, float]:
    """(low, high, mean, deviation) of a channel's intensities in the training's labels."""
    table = plans.get("foreground_intensity_properties_per_channel")
    numbers = table.get(str(channel)) if isinstance(table, dict) else None
    names = ("percentile_00_5", "percentile_99_5", "mean", "std")
    if not isinstance(numbers, dict) or not all(type(numbers.get(name)) in (int, float) for name in names):
        raise ModelFileError(f"{folder}: plans.json has no foreground intensities of channel {channel}")
    low, high, mean, std = (float(numbers[name]) for name in names)
    return low, high, mean, max(std, 1e-8)


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    return value[:1000] if isinstance(value, str) else ""
