"""Measure a segmentation against a reference: two files, or two folders matched by file name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.cli.outputs import claimed
from napari_medseg.config import MetricsConfig, Preset
from napari_medseg.errors import InputError
from napari_medseg.io.folders import is_folder_of_images, pairs

if TYPE_CHECKING:
    from napari_medseg.metrics import Scores

NAME = "evaluate"
SUFFIXES = (".csv", ".json")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--prediction", required=True, type=Path, metavar="PATH", help="Labels to judge.")
    parser.add_argument("--reference", required=True, type=Path, metavar="PATH", help="Labels taken as the truth.")
    add_knob(parser, MetricsConfig, "preset")
    parser.add_argument("-o", "--output", type=Path, metavar="SCORES", help="File for the scores: .csv or .json.")


def run(args: Namespace) -> None:
    if args.output is not None and args.output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{args.output}: scores are written as {' or '.join(SUFFIXES)}")
    scores = _scores(args.prediction, args.reference, args.preset)
    terminal.say_scores(scores)
    if args.output is not None:
        write = scores.to_json if args.output.suffix.lower() == ".json" else scores.to_csv
        with claimed(args.output):
            write(args.output)
        terminal.say(f"wrote {args.output}")


def _scores(prediction: Path, reference: Path, preset: Preset) -> Scores:
    from napari_medseg.metrics import combine

    folders = [is_folder_of_images(path) for path in (prediction, reference)]
    if not any(folders):
        return _scores_of_files(prediction, reference, preset)
    if not all(folders):
        raise InputError(f"{prediction} and {reference}: give two files or two folders, not one of each")
    matched = pairs(prediction, reference)
    return combine(
        [(name, _scores_of_files(a, b, preset)) for name, a, b in terminal.counted(matched, "evaluate", "case")]
    )


def _scores_of_files(prediction: Path, reference: Path, preset: Preset) -> Scores:
    from napari_medseg.metrics import evaluate

    return evaluate(
        prediction=io.read_segmentation(prediction), reference=io.read_segmentation(reference), preset=preset
    )
