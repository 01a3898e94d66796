"""Make labels better: remove islands, fill holes, smooth, fill in slices between painted ones.

The steps that are asked for are done in this order: interpolate, fill holes, smooth, islands, largest. A label grows
into the background only.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_medseg import io
from napari_medseg._version import __version__
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.cli.segment import sha256_of
from napari_medseg.config import CleanConfig
from napari_medseg.io.outputs import locked, output_paths

NAME = "clean"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("labels", type=Path, metavar="LABELS", help="Label file, or OME-Zarr folder.")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="Label file; its suffix decides the format."
    )
    parser.add_argument(
        "--label",
        action="append",
        type=int,
        metavar="ID",
        help="Label that is changed, several times for several; without it all are.",
    )
    add_knob(parser, CleanConfig, "interpolate")
    add_knob(parser, CleanConfig, "fill_holes")
    add_knob(parser, CleanConfig, "smooth_mm")
    add_knob(parser, CleanConfig, "islands_ml")
    add_knob(parser, CleanConfig, "largest")
    add_knob(parser, CleanConfig, "connectivity")
    parser.add_argument(
        "--source",
        dest="series",
        type=Path,
        metavar="SERIES",
        help="The DICOM series that the labels lie on; for .dcm.",
    )


def run(args: Namespace) -> None:
    config = CleanConfig(
        labels=None if args.label is None else tuple(args.label),
        interpolate=args.interpolate,
        fill_holes=args.fill_holes,
        smooth_mm=args.smooth_mm,
        islands_ml=args.islands_ml,
        largest=args.largest,
        connectivity=args.connectivity,
    )
    (target,) = output_paths([args.labels], args.output)
    with locked(target):
        from napari_medseg.refinement.cleaning import iter_clean

        segmentation = io.read_segmentation(args.labels)
        cleaned = terminal.follow(iter_clean(segmentation, config=config), segmentation.name)
        provenance = {**cleaned.provenance, "napari_medseg": __version__, "labels_sha256": sha256_of(args.labels)}
        io.write(target, cleaned, provenance=provenance, source=args.series)
    terminal.print_result(f"wrote {target}")
