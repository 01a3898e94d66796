"""Segment the sample, measure the result, and open both in napari where there is a display.

Writes the labels (NIfTI), the metrics (CSV) and an overview (PNG), beside a copy of the sample and its model.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_medseg.cli import terminal
from napari_medseg.errors import InputError
from napari_medseg.io.outputs import earlier_labels, locked

NAME = "demo"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("napari-medseg-demo"),
        metavar="DIR",
        help="Folder for the outputs (default: ./%(default)s).",
    )
    parser.add_argument("--no-gui", action="store_true", help="Do not open napari.")


def run(args: Namespace) -> None:
    from napari_medseg import demo

    _refuse_files_of_others(args.out)
    with locked(args.out / "labels.nii.gz"):
        result = terminal.follow(demo.iter_demo(args.out), "demo")
    terminal.print_scores(result.scores)
    for path in result.written:
        terminal.print_result(f"wrote {path}")
    if not args.no_gui:
        terminal.print_result(demo.open_in_napari(result))


def _refuse_files_of_others(folder: Path) -> None:
    """Raise InputError where a file would be replaced that no demo wrote: its names are those that anyone gives."""
    is_of_a_demo = (folder / "phantom_ct.safetensors").exists()
    for name in ("labels.nii.gz", "scores.csv", "overview.png"):
        path = folder / name
        if path.exists() and (not is_of_a_demo or (name == "labels.nii.gz" and earlier_labels(path))):
            raise InputError(
                f"{path}: a file that no demo wrote is there: it would be replaced: give --out another name"
            )
