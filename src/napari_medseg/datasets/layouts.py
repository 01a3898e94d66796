"""The table of layouts, and `open_dataset`, which finds the one that a folder has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_medseg.datasets import pictures, volumes
from napari_medseg.datasets.dataset import DataSet
from napari_medseg.errors import FileError, InputError
from napari_medseg.io.folders import is_folder_of_images

_DEPTH = 2
"""How far below the given folder a layout is looked for."""
_MOST_FOLDERS = 50
"""Folders in a folder that are looked into; a set with a folder for each case has more, and is found before that."""


@dataclass(frozen=True)
class Layout:
    """A layout: its name, what it looks like, and what finds its cases."""

    name: str
    looks: str
    find: Callable[[Path], DataSet | None]


LAYOUTS = (
    Layout("nnU-Net raw and MSD", "dataset.json, imagesTr, labelsTr", volumes.with_dataset_json),
    Layout("KiTS", "case_00000/imaging.nii.gz", volumes.kits),
    Layout("BraTS", "CASE/CASE_flair.nii.gz and CASE_seg.nii.gz", volumes.brats),
    Layout("ACDC", "patient001/patient001_frame01_gt.nii.gz", volumes.acdc),
    Layout("LiTS", "volume-0.nii and segmentation-0.nii", volumes.lits),
    Layout("Synapse/BTCV", "img/img0001.nii.gz and label/label0001.nii.gz", volumes.btcv),
    Layout("BIDS derivatives", "derivatives/*/sub-01/anat/*_dseg.nii.gz", volumes.bids),
    Layout("DSB2018", "ID/images/ID.png and ID/masks/*.png", pictures.dsb2018),
    Layout("GlaS", "train_1.bmp and train_1_anno.bmp", pictures.glas),
    Layout("MoNuSeg", "Tissue Images/*.tif and Annotations/*.xml", pictures.monuseg),
    Layout("pairs (Kvasir-SEG, CVC)", "images and masks with the same names", pictures.pairs),
    Layout("a folder for each case", "CASE/T1.nii.gz, CASE/T2.nii.gz, CASE/labels.nii.gz", volumes.folders_of_cases),
)
"""In the order in which they are tried: those that are told by more come first."""


def open_dataset(folder: str | Path) -> DataSet:
    """The annotated cases of a public data set in the layout that it is published in.

    No image is read, but for the masks of a set in 2D that does not say what their values mean.

    Layouts: MSD, nnU-Net raw, BIDS derivatives, ACDC, LiTS, BraTS, Synapse/BTCV and KiTS; in 2D DSB2018 (a mask for
    each nucleus), GlaS, MoNuSeg (outlines in XML), and folders of images and masks, such as Kvasir-SEG and
    CVC-ClinicDB.
    The layout may begin in a folder inside the given one.

    Raises FileError for a folder that is missing or whose description is damaged, InputError for another layout (the
    message lists those that were looked for), and where several folders inside have one.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileError(f"no such folder: {root}")
    level = [root]
    for _ in range(_DEPTH + 1):
        found = [data for data in map(_found_in, level) if data is not None]
        if len(found) > 1:
            names = ", ".join(str(data.folder.relative_to(root)) for data in found[:5])
            raise InputError(f"{root}: several data sets are in it ({names}): name one of them")
        if found:
            return found[0]
        level = [inside for place in level for inside in _folders(place)]
    looked = "; ".join(f"{layout.name}: {layout.looks}" for layout in LAYOUTS)
    raise InputError(f"{root}: no known layout of a data set; looked for {looked}; or give images and labels")


def _found_in(folder: Path) -> DataSet | None:
    return next((data for data in (layout.find(folder) for layout in LAYOUTS) if data is not None), None)


def _folders(folder: Path) -> Iterator[Path]:
    inside = [path for path in volumes.entries(folder) if is_folder_of_images(path)]
    return iter(inside[:_MOST_FOLDERS])
