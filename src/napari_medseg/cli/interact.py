"""`interact`, `propagate` and `clean`: masks from prompts, from some slices and from other masks."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg._version import __version__
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.config import CleanConfig
from napari_medseg.errors import NotSupportedError
from napari_medseg.inference.runs.files import labels_source, sha256_of
from napari_medseg.io.outputs import check_keeps_inputs, locked, output_paths
from napari_medseg.models.file import load_model

if TYPE_CHECKING:
    from napari_medseg.volume import Segmentation

INTERACT = """Do the prompts of a session again, and write the labels that they give.

PROMPTS is what `session.save` writes, or a list of prompts written by hand.
"""
PROPAGATE = """Segment a volume of which some slices are annotated.

The annotated slices are those that hold a label, along the axis that has the fewest of them.
"""
CLEAN = """Make labels better: remove islands, fill holes, smooth, fill in slices between painted ones.

The steps that are asked for are done in this order: interpolate, fill holes, smooth, islands, largest. A label grows
into the background only.
"""


def add_interact_arguments(parser: ArgumentParser) -> None:
    _add_image(parser)
    parser.add_argument("--prompts", required=True, type=Path, metavar="JSON", help="The log of a session.")
    _add_model_and_output(parser, "Model that takes prompts (none in this version: leave it out).")


def add_propagate_arguments(parser: ArgumentParser) -> None:
    _add_image(parser)
    parser.add_argument(
        "--labels", required=True, type=Path, metavar="SOME_SLICES", help="Labels of the annotated slices."
    )
    _add_model_and_output(parser, "A volumetric memory network that fills the slices; without, no network does.")


def add_clean_arguments(parser: ArgumentParser) -> None:
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


def run_interact(args: Namespace) -> None:
    _refuse_model(args)
    target = _output(args, args.prompts)
    source = labels_source(args.image, target)
    with locked(target):
        from napari_medseg.interactive.session import resume_interaction

        session = resume_interaction(args.prompts, io.read(args.image))
        _write(args, target, session.segmentation, source, {"method": session.method}, prompts=args.prompts)


def run_propagate(args: Namespace) -> None:
    model = None if args.model is None else load_model(args.model)
    target = _output(args, args.labels)
    source = labels_source(args.image, target)
    with locked(target):
        from napari_medseg.interactive.propagation import propagate

        found = propagate(io.read(args.image), io.read_segmentation(args.labels), model=model)
        how = {"method": "auto"} if model is None else {"method": "memory", "model_sha256": model.sha256}
        _write(args, target, found, source, how, labels=args.labels)


def run_clean(args: Namespace) -> None:
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


def _add_image(parser: ArgumentParser) -> None:
    parser.add_argument("image", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")


def _add_model_and_output(parser: ArgumentParser, what_model: str) -> None:
    parser.add_argument("--model", help=what_model)
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="Label file; its suffix decides the format."
    )


def _refuse_model(args: Namespace) -> None:
    if args.model is not None:
        raise NotSupportedError(
            f"--model {args.model}: models that take prompts are not supported in this version: run again without it"
        )


def _output(args: Namespace, given: Path) -> Path:
    (target,) = output_paths([args.image], args.output)
    check_keeps_inputs([args.image, given], [target])
    return target


def _write(
    args: Namespace,
    target: Path,
    found: Segmentation,
    source: Path | None,
    how: Mapping[str, object],
    **inputs: Path,
) -> None:
    hashes = {f"{name}_sha256": sha256_of(path) for name, path in inputs.items()}
    provenance = {**how, "napari_medseg": __version__, "input_sha256": sha256_of(args.image), **hashes}
    io.write(target, found, provenance=provenance, source=source)
    terminal.print_result(f"wrote {target}")
