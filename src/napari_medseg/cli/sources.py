"""Where the cases of a training come from: folders of images and labels, or a public data set as it is published."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.cli import terminal
from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError

if TYPE_CHECKING:
    from napari_medseg.datasets import DataSet


def add_sources(parser: ArgumentParser) -> None:
    """Add --images, --labels and --dataset."""
    parser.add_argument(
        "--images",
        action="append",
        type=Path,
        metavar="DIR",
        help="Folder of images; several times for several channels, in that order.",
    )
    parser.add_argument("--labels", type=Path, metavar="DIR", help="Folder of label files.")
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="DIR",
        help="A public data set as it is published, instead of --images and --labels: MSD, nnU-Net raw, BIDS "
        "derivatives, ACDC, LiTS, BraTS, Synapse/BTCV, KiTS, Kvasir-SEG, CVC-ClinicDB, DSB2018, GlaS, MoNuSeg.",
    )


def require_sources(args: Namespace) -> None:
    """Raise InputError unless the cases come from --dataset, or from --images and --labels."""
    if args.dataset is not None and (args.images or args.labels is not None):
        raise InputError("--dataset finds images and labels itself: leave --images and --labels out")
    if args.dataset is None and not (args.images and args.labels is not None):
        raise InputError("give --images and --labels, or --dataset")


def dataset_of(args: Namespace) -> DataSet:
    """The cases to train on. What a data set says of itself is told on stderr."""
    from napari_medseg.cases import cases_from_folders
    from napari_medseg.datasets import DataSet, open_dataset

    if args.dataset is None:
        cases = tuple(cases_from_folders(args.images, args.labels))
        return DataSet(layout="folders", folder=args.images[0], cases=cases)
    data = open_dataset(args.dataset)
    for line in data.describe():
        terminal.print_note(line)
    return data


def ignored_in(data: DataSet, config: TrainConfig) -> dict[str, int]:
    """The knob for the id that a data set ignores, where none is given."""
    if data.ignore_label is None or config.loss.ignore_label is not None:
        return {}
    return {"ignore_label": data.ignore_label}
