"""Flags that several commands share; most are made from a knob, whose text is their help."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from napari_medseg.cli import terminal
from napari_medseg.config import TrainConfig, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.io.folders import natural

if TYPE_CHECKING:
    from argparse import _ActionsContainer

    from napari_medseg.datasets import DataSet

_PARSERS: dict[object, tuple[Callable[[str], Any], str]] = {
    int: (int, "N"),
    float: (float, "F"),
    int | None: (int, "N"),
    float | None: (float, "F"),
    str: (str, "NAME"),
}
"""{type of the knob: (what argparse calls with the text of a value, how help names the value)}."""


def add_knob(
    parser: _ActionsContainer, config: type, name: str, *, flag: str | None = None, metavar: str | None = None
) -> None:
    """Add a flag for the knob of that name. A Literal gives the choices; help shows no empty default. A bool that is
    off by default gives a flag without a value.
    """
    knob = knobs_of(config)[name]
    text = knob.doc.replace("%", "%%")
    flag = flag or f"--{name.replace('_', '-')}"
    if knob.default not in (None, ""):
        text += " (default: %(default)s)"
    if get_origin(knob.kind) is Literal:
        choices = get_args(knob.kind)
        parser.add_argument(flag, dest=name, type=type(choices[0]), choices=choices, default=knob.default, help=text)
        return
    if knob.kind is bool:
        parser.add_argument(flag, dest=name, action="store_true", help=knob.doc.replace("%", "%%"))
        return
    parse, letter = _PARSERS[knob.kind]
    parser.add_argument(flag, dest=name, type=parse, default=knob.default, metavar=metavar or letter, help=text)


def add_merge(parser: _ActionsContainer, purpose: str) -> None:
    """Add --merge "liver=1,2", which may come several times. purpose: what it does, for the help."""
    parser.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=ID,...",
        help=f"A region, such as liver=1,2: {purpose}; several times for several regions.",
    )


def expanded(paths: Sequence[Path]) -> list[Path]:
    """The paths, with the files that a pattern such as new/*.nii.gz means: some shells leave that to the program."""
    found: list[Path] = []
    for path in paths:
        is_pattern = not path.exists() and any(sign in str(path) for sign in "*?")
        # Brackets in a name are letters, as the user sees them: a pattern has * and ? alone.
        names = glob(str(path).replace("[", "[[]")) if is_pattern else []
        found += sorted(map(Path, names), key=lambda name: natural(str(name))) or [path]
    return found


def add_channels(parser: _ActionsContainer, order: str = "") -> None:
    """Add --images for the files of a case that is given channel by channel. order: of the channels, for the help."""
    parser.add_argument(
        "--images",
        dest="channels",
        action="append",
        type=Path,
        metavar="PATH",
        help="Instead of IMAGE: file of a channel, or folder with a file per case; several times for several channels"
        f"{order}.",
    )


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


def require_sources(args: Namespace, *, from_labels: bool = False) -> None:
    """Raise InputError unless the cases come from --dataset, or from --images and --labels.

    from_labels: whether --labels alone will do.
    """
    if args.dataset is not None and (args.images or args.labels is not None):
        raise InputError("--dataset finds images and labels itself: leave --images and --labels out")
    if args.dataset is None and not ((args.images or from_labels) and args.labels is not None):
        raise InputError("give --images and --labels, or --dataset")


def dataset_of(args: Namespace) -> DataSet:
    """The cases to train on. What a data set says of itself is told on stderr."""
    from napari_medseg.cases import cases_from_folders, cases_of_labels
    from napari_medseg.datasets import DataSet, open_dataset

    if args.dataset is None and not args.images:
        return DataSet(layout="folders", folder=args.labels, cases=tuple(cases_of_labels(args.labels)))
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
