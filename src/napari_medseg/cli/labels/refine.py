"""Make labels better along their boundaries with a trained refiner.

A refiner is made by the command train with --scheme boundary-patch or point-rend, and --init the model whose errors it
learns. Labels and image lie on the same grid; labels that the refiner does not know stay as they are.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_medseg import io
from napari_medseg._version import __version__
from napari_medseg.cases import Case, labels_at, with_channels
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.config import RefineConfig
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.inference.runs.files import labels_source, sha256_of, sha256_of_all
from napari_medseg.io.formats import check_fits
from napari_medseg.io.outputs import check_keeps_inputs, locked, output_paths
from napari_medseg.models.file import load_model

NAME = "refine"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("labels", type=Path, metavar="LABELS", help="Label file to make better; it stays as it is.")
    parser.add_argument(
        "--image",
        required=True,
        action="append",
        type=Path,
        metavar="IMAGE",
        help="The image that the labels lie on; several times for several channels, in the order of the refiner.",
    )
    parser.add_argument("--model", required=True, metavar="REFINER", help="Refiner: a model file, or the name of one.")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="Label file; its suffix decides the format."
    )
    parser.add_argument(
        "--label", type=int, action="append", metavar="ID", help="Label to change; several times for several of them."
    )
    add_knob(parser, RefineConfig, "device")


def run(args: Namespace) -> None:
    refuse_foreign_model(Path(args.model))
    config = RefineConfig(device=args.device, labels=None if args.label is None else tuple(args.label))
    (target,) = output_paths([args.labels], args.output)
    check_keeps_inputs([args.labels, *args.image], [target])
    source = labels_source(args.image[0], target)
    with locked(target):
        model = load_model(args.model)  # before torch is loaded: a wrong file is refused at once
        volume = Case(name=io.strip_suffix(args.image[0]), images=with_channels(args.image)).volume()
        check_fits(target, volume.grid, source)
        segmentation = labels_at(args.labels, volume.grid)
        from napari_medseg.refinement.refining import iter_refine

        stored = target if target.suffix.lower() == ".zarr" else None
        refined = terminal.follow(iter_refine(volume, segmentation, model, out=stored, config=config), args.labels.name)
        if stored is None:
            hashes = {"input_sha256": sha256_of_all(args.image), "labels_sha256": sha256_of(args.labels)}
            provenance = {**refined.provenance, "napari_medseg": __version__, **hashes}
            io.write(target, refined, provenance=provenance, source=source)
    terminal.print_labels(target, refined)
