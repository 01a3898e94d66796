"""Layouts of 2D images: DSB2018, GlaS, MoNuSeg, and two folders of images and masks (Kvasir-SEG, CVC-ClinicDB).

Each function takes a folder and returns the data set, or None where the folder has another layout.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable
from pathlib import Path

from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.datasets.dataset import DataSet
from napari_medseg.datasets.label_sources import Mask, MaskForEach, Outlines
from napari_medseg.datasets.meaning import Meaning, meaning_of
from napari_medseg.datasets.volumes import entries
from napari_medseg.io import formats
from napari_medseg.io.folders import images_by_name

_IMAGES = ("images", "image", "imgs", "original", "imagestr", "tissue images")
_MASKS = ("masks", "mask", "labels", "label", "ground truth", "groundtruth", "labelstr", "annotations", "gt")
_SHOWN = 5
"""Names that a note shows."""


def dsb2018(folder: Path) -> DataSet | None:
    """The 2018 Data Science Bowl: ID/images/ID.png beside ID/masks/, with a mask for each nucleus.

    The ids are hexadecimal, so they are sorted as text and not by the numbers in them.
    """
    cases, names = [], collections.Counter[str]()
    for place in sorted(filter(Path.is_dir, entries(folder)), key=lambda path: path.name):
        masks = place / "masks"
        if not ((place / "images").is_dir() and masks.is_dir()):
            continue
        images = list(images_by_name(place / "images").values())
        if len(images) == 1:
            cases.append(Case(name=place.name, images=(images[0],), labels=MaskForEach(masks, "nucleus")))
            names.update(name for name in images_by_name(masks) if not re.search(r"\d", name))
    shared = [name for name, count in names.items() if count > 1]
    note = "the masks of all nuclei are learned as one label, nucleus; its connected parts are the nuclei"
    if len(shared) > 1:  # those of nuclei are numbered, or have names of their own
        note += (
            f"; masks called {', '.join(shared[:_SHOWN])} are in several cases: where each is of a class, write a "
            f"label file for each case, and give --images and --labels"
        )
    return _of_one_label(folder, "Data Science Bowl 2018", cases, "nucleus", note)


def glas(folder: Path) -> DataSet | None:
    """GlaS: train_N.bmp beside train_N_anno.bmp, whose values number the glands. Images of the tests are left out."""
    cases = []
    for path in entries(folder):
        match = re.fullmatch(r"(train_\d+)_anno\.bmp", path.name)
        image = path.with_name(f"{match[1]}.bmp") if match else path
        if match and image.is_file():
            cases.append(Case(name=match[1], images=(image,), labels=Mask(path, "gland", objects=True)))
    note = "the values of the masks number the glands: they are learned as one label, gland; tests are left out"
    return _of_one_label(folder, "GlaS", cases, "gland", note)


def monuseg(folder: Path) -> DataSet | None:
    """MoNuSeg: Tissue Images/NAME.tif and Annotations/NAME.xml with the outlines of the nuclei."""
    places = {path.name.lower(): path for path in entries(folder) if path.is_dir()}
    images, outlines = places.get("tissue images"), places.get("annotations")
    if images is None or outlines is None:
        return None
    found = images_by_name(images)
    cases = [
        Case(name=name, images=(path,), labels=Outlines(outlines / f"{name}.xml", "nucleus"))
        for name, path in found.items()
        if (outlines / f"{name}.xml").is_file()
    ]
    note = "the outlines of all nuclei are learned as one label, nucleus"
    return _of_one_label(folder, "MoNuSeg", cases, "nucleus", note)


def pairs(folder: Path) -> DataSet | None:
    """Two folders, of images and of masks or labels with the same names, as Kvasir-SEG and CVC-ClinicDB have them."""
    places = {path.name.lower(): path for path in entries(folder) if path.is_dir()}
    images = next((places[name] for name in _IMAGES if name in places), None)
    masks = next((places[name] for name in _MASKS if name in places), None)
    if images is None or masks is None or not (images_by_name(images) and images_by_name(masks)):
        return None
    found = cases_from_folders([images], masks)
    structure = "polyp" if _is_polyps(folder) else "foreground"
    paths = [case.labels for case in found if isinstance(case.labels, Path)]
    if not formats.is_flat(paths[0]):
        return DataSet(layout="images and labels", folder=folder, cases=tuple(found))
    judged = meaning_of(paths)
    if judged.meaning is Meaning.CLASSES:
        return DataSet(layout="2D images and labels", folder=folder, cases=tuple(found), notes=(str(judged),))
    cases = [
        Case(name=case.name, images=case.images, labels=Mask(path, structure, judged.meaning is Meaning.OBJECTS))
        for case, path in zip(found, paths, strict=True)
    ]
    return _of_one_label(folder, "2D images and masks", cases, structure, f"{judged}: label 1 is {structure}")


def _is_polyps(folder: Path) -> bool:
    """Whether a folder is Kvasir-SEG or CVC-ClinicDB, by its name or the files beside its images."""
    return bool(re.search(r"kvasir|kavsir|cvc", folder.name.lower())) or (folder / "kavsir_bboxes.json").is_file()


def _of_one_label(folder: Path, layout: str, cases: Iterable[Case], name: str, note: str) -> DataSet | None:
    found = tuple(cases)
    return DataSet(layout=layout, folder=folder, cases=found, labels={1: name}, notes=(note,)) if found else None
