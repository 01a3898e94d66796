"""Folders of several nnU-Net results: the datasets of TotalSegmentator, whose parts are one labelling.

The labels of the parts get the ids 1, 2, ... in the order of the datasets, which are TotalSegmentator's own.
TotalSegmentator crops to the body (`--body_seg`) with Dataset300_body_6mm, and to organs (`--roi_subset`) with
Dataset298_TotalSegmentator_total_6mm; here either finds the box of all that it labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import read_document
from napari_medseg.foreign.imported import Group, Imported, ImportedCrop, ImportedSet
from napari_medseg.foreign.nnunet.folder import folds_of, import_fold, import_nnunet, is_results_folder
from napari_medseg.models.several import CROP, MARGIN_MM

_DATASET = re.compile(r"Dataset(\d{3})_(\w+)")
_PART = re.compile(r"part(\d+)", re.IGNORECASE)
_CONFIGURATIONS = ("3d_cascade_fullres", "3d_fullres", "3d_lowres", "2d")
"""Which is taken of a dataset that was trained in several ways: the first that is there."""
_CROPS = ("body_6mm", "total_6mm")
"""Parts of the names of datasets whose model is a crop: the first that is there."""
_MR = re.compile("mr", re.IGNORECASE)
BODY_MARGIN_MM = 3.0
"""TotalSegmentator's, around the body; around organs it takes that of `MARGIN_MM`."""


def datasets_in(folder: Path) -> list[Path]:
    """The folders of nnU-Net's datasets in a folder, by their numbers; the folder itself where it is one."""
    if _DATASET.fullmatch(folder.absolute().name) and _results_in(folder):
        return [folder]
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and _DATASET.fullmatch(path.name) and _results_in(path)]


def import_datasets(folder: Path) -> Imported | ImportedSet:
    """The model of a dataset's folder, or of several datasets that are parts of one labelling.

    A model of the whole body at 6 mm beside the parts is their crop. Raises NotSupportedError for several datasets that
    are no parts, or parts of several labellings: which is meant must be said.
    """
    datasets = datasets_in(folder)
    parts = [path for path in datasets if _PART.search(path.name)]
    if len(datasets) == 1:
        return import_nnunet(_best(datasets[0]))
    if len(parts) < 2 or len({_whose(path) for path in parts}) > 1:
        raise NotSupportedError(
            f"{folder}: it holds several models ({', '.join(path.name for path in datasets)}): give the folder of one"
        )
    crop = _crop_among(datasets, parts)
    left = [path.name for path in datasets if path not in (*parts, crop)]
    notes = (f"{folder}: left out, since they are no parts: {', '.join(left)}: give their own folders",) if left else ()
    return ImportedSet(_members(parts), notes, None if crop is None else crop_of(crop))


def crop_of(dataset: Path) -> ImportedCrop:
    """What a dataset's model finds as the box that others look at, with the margin that TotalSegmentator takes."""
    results = dataset if is_results_folder(dataset) else _best(dataset)
    above = results.absolute().parent.name
    name = above if _DATASET.fullmatch(above) else dataset.name
    return ImportedCrop(name, _folds(results, CROP, None), BODY_MARGIN_MM if "body" in name.lower() else MARGIN_MM)


def _whose(part: Path) -> str:
    """What the names of the parts of one labelling have in common: "TotalSegmentator_"."""
    name = _DATASET.fullmatch(part.name)
    assert name is not None, "chosen by it"
    return _PART.split(name[2])[0].lower()


def _crop_among(datasets: list[Path], parts: list[Path]) -> Path | None:
    """The cheap model of the whole body, of the parts' modality: TotalSegmentator's at 6 mm."""
    is_mr = _MR.search(parts[0].name) is not None
    alike = [path for path in datasets if path not in parts and (_MR.search(path.name) is not None) == is_mr]
    return next((path for word in _CROPS for path in alike if word in path.name.lower()), None)


def _members(parts: list[Path]) -> tuple[Group, ...]:
    """The models of each part; its folds are averaged."""
    members, first = list[Group](), 1
    for part in parts:
        results = _best(part)
        labels = _labels_of(results)
        ids = {label: first + k for k, label in enumerate(sorted(labels))}
        first += len(ids)
        members.append(_folds(results, _short(part), ids))
    return tuple(members)


def _folds(results: Path, name: str, ids: Mapping[int, int] | None) -> Group:
    """The models of the folds of a results folder; ids: as `import_fold` takes them."""
    folds, _ = folds_of(results)
    names = [name] if len(folds) == 1 else [f"{name}_{fold.replace('_', '')}" for fold in folds]
    return {own: partial(import_fold, results, *fold, ids) for own, fold in zip(names, folds.items(), strict=True)}


def _short(part: Path) -> str:
    """What a part is called: "part1_organs" of "Dataset291_TotalSegmentator_part1_organs_1559subj"."""
    start = _PART.search(part.name)
    assert start is not None, "chosen by it"
    return re.sub(r"_\d+subj.*$", "", part.name[start.start() :])


def _labels_of(results: Path) -> Mapping[int, str]:
    table = read_document(results / "dataset.json").get("labels")
    if not isinstance(table, dict) or not all(type(value) is int for value in table.values()):
        raise ModelFileError(f"{results}: dataset.json: the ids of labels must be whole numbers")
    return {value: name for name, value in table.items() if name not in ("background", "ignore")}


def _results_in(dataset: Path) -> list[Path]:
    return sorted(path for path in dataset.iterdir() if path.is_dir() and is_results_folder(path))


def _best(dataset: Path) -> Path:
    """The results that are taken of a dataset."""
    found = _results_in(dataset)
    by_name = {path.name.split("__")[-1]: path for path in reversed(found)}
    return next((by_name[name] for name in _CONFIGURATIONS if name in by_name), found[0])
