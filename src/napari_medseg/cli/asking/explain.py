"""Explain why a model labels voxels so, by a map of the image.

Say with --component or --voxel that a part of the label is explained, or a single voxel.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg.cases import Case, cases_of_images, with_channels
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_channels, add_knob
from napari_medseg.config import ExplainConfig
from napari_medseg.errors import InputError
from napari_medseg.explanation.methods import METHODS, method_of
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.geometry import triple_of
from napari_medseg.io.formats import check_fits
from napari_medseg.io.outputs import check_keeps_inputs, locked, output_paths
from napari_medseg.models.several import as_models

if TYPE_CHECKING:
    from napari_medseg.volume import Volume

NAME = "explain"
_KNOBS = ("device", "check", "layer", "steps", "occluder", "overlap", "seed")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")
    add_channels(parser, ", in the order of the model")
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        help="Model file, the name of one in the models folder, or a set of models (.json); several times to average.",
    )
    parser.add_argument("--label", required=True, metavar="ID", help="Label that is explained: its id or its name.")
    parser.add_argument(
        "--method",
        default="grad-cam",
        metavar="NAME",
        help=f"How: {', '.join(METHODS)}. (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="Image file of the map; its suffix decides the format. A .zarr folder is filled window by window.",
    )
    parser.add_argument(
        "--component",
        type=component_of,
        metavar="N|Z,Y,X",
        help="Explain one connected part of the label: its number by size (1: the largest), or one of its voxels.",
    )
    parser.add_argument(
        "--voxel", type=voxel_of, metavar="Z,Y,X", help="Explain one voxel, by its indices in the stored array."
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="Labels on the image's grid in which the component is looked for (without, the model makes them); for "
        "memory-read, labels of some slices.",
    )
    for name in _KNOBS:
        add_knob(parser, ExplainConfig, name)
    parser.add_argument(
        "--unweighted",
        action="store_true",
        help="Show attention, reads and shape maps as they are, whatever they do to the score.",
    )


def run(args: Namespace) -> None:
    method = method_of(args.method)
    for name in args.model:
        refuse_foreign_model(Path(name))
    config = ExplainConfig(weighted=not args.unweighted, **{name: getattr(args, name) for name in _KNOBS})
    model = as_models(args.model[0] if len(args.model) == 1 else args.model)
    case = _case(args)
    images = [path for path in case.images if isinstance(path, Path)]
    (target,) = output_paths(images, args.output, [case.name])
    check_keeps_inputs([*images, *([args.labels] if args.labels else [])], [target])
    if target.suffix.lower() == ".dcm":
        raise InputError(f"{target}: a map is an image of real numbers, which is not written as DICOM: write .nii.gz")
    with locked(target):
        from napari_medseg.explanation import check, iter_explain

        volume = case.volume()
        check_fits(target, volume.grid)
        labels = None if args.labels is None else io.read_segmentation(args.labels)
        asked = {"label": args.label, "method": args.method, "component": args.component, "voxel": args.voxel}
        streamed = target if target.suffix.lower() == ".zarr" else None
        events = iter_explain(volume, model, labels=labels, out=streamed, config=config, **asked)
        heat: Volume = terminal.follow(events, case.name)
        if streamed is None:
            io.write(target, heat)
    terminal.print_result(f"wrote {target}")
    terminal.print_note(f"{method.title}: {method.sentence}")
    made = check.Check.of(heat)
    if made is not None:
        terminal.print_result(made.sentence)


def voxel_of(text: str) -> tuple[int, int, int]:
    """Z,Y,X as three whole numbers; ValueError for anything else, which argparse tells."""
    return triple_of(int(word) for word in text.split(","))


def component_of(text: str) -> int | tuple[int, int, int]:
    """A number, or a voxel."""
    return voxel_of(text) if "," in text else int(text)


def _case(args: Namespace) -> Case:
    """The image; several files that are its channels are one."""
    if (args.image is None) == (args.channels is None):
        raise InputError("give an image, or --images for each channel: one of the two")
    if args.channels is None:
        return Case(name=io.strip_suffix(args.image), images=with_channels([args.image]))
    cases = cases_of_images(args.channels)
    if len(cases) != 1:
        raise InputError(f"explain one image at a time: --images name {len(cases)} cases")
    return cases[0]
