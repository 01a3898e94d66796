"""Folders of several nnU-Net results: the datasets of TotalSegmentator, whose parts are one labelling.

The labels of the parts get the ids 1, 2, ... in the order of the datasets, which are TotalSegmentator's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.documents import read_document
from napari_medseg.foreign.imported import Imported, ImportedSet
from napari_medseg.foreign.nnunet.folder import folds_of, import_fold, import_nnunet, is_results_folder

_DATASET = re.compile(r"Dataset(\d{3})_(\w+)")
_PART = re.compile(r"part(\d+)", re.IGNORECASE)
_CONFIGURATIONS = ("3d_cascade_fullres", "3d_fullres", "3d_lowres", "2d")
"""Which is taken of a dataset that was trained in several ways: the first that is there."""


def datasets_in(folder: Path) -> list[Path]:
    """The folders of nnU-Net's datasets in a folder, by their numbers; the folder itself where it is one."""
    if _DATASET.fullmatch(folder.absolute().name) and _results_in(folder):
        return [folder]
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and _DATASET.fullmatch(path.name) and _results_in(path)]


def import_datasets(folder: Path) -> Imported | ImportedSet:
    """The model of a dataset's folder, or of several datasets that are parts of one labelling.

    Raises NotSupportedError for several datasets that are no parts: which is meant must be said.
    """
    datasets = datasets_in(folder)
    parts = [path for path in datasets if _PART.search(path.name)]
    if len(datasets) == 1:
        return import_nnunet(_best(datasets[0]))
    if len(parts) < 2:
        raise NotSupportedError(
            f"{folder}: it holds several models ({', '.join(path.name for path in datasets)}): give the folder of one"
        )
    left = [path.name for path in datasets if path not in parts]
    notes = (f"{folder}: left out, since they are no parts: {', '.join(left)}: give their own folders",) if left else ()
    return ImportedSet("merge", _members(parts), notes)


def _members(parts: list[Path]) -> dict[str, partial[Imported]]:
    """{name of the part: its model}; of several folds the first is taken."""
    members, first = {}, 1
    for part in parts:
        results = _best(part)
        labels = _labels_of(results)
        ids = {label: first + k for k, label in enumerate(sorted(labels))}
        first += len(ids)
        folds, _ = folds_of(results)
        members[_short(part)] = partial(import_fold, results, *next(iter(folds.items())), ids)
    return members


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
