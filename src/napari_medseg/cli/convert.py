"""Convert a volume to another format, labels staying labels, or a model of another program into a model file.

A UNet++ can be pruned to a shallower network.
"""

from __future__ import annotations

import math
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from napari_medseg import io
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_merge
from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.events import finishing
from napari_medseg.foreign import is_foreign
from napari_medseg.foreign.asked import INTENSITIES
from napari_medseg.io.outputs import check_keeps_inputs, locked, output_paths
from napari_medseg.io.stored import from_noun, image_for_labels, looks_like_labels
from napari_medseg.models.naming import is_model_path, require_model_path
from napari_medseg.models.spec import Modality
from napari_medseg.registry import PresetName
from napari_medseg.transforms.regions import merged, parsed
from napari_medseg.transforms.regrid import Interpolation, resampling_onto
from napari_medseg.volume import Segmentation, Volume

NAME = "convert"
_CHUNKS = 64
"""Edge of an OME-Zarr chunk in voxels, by default."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="Image or label file, or OME-Zarr folder; a PyTorch state dict, MONAI bundle, nnU-Net v2 or "
        "TotalSegmentator folder; or a model file of ours, to export it.",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="TARGET",
        help="Its suffix decides the format. For an image or labels also a folder, or a pattern such as "
        "out/{name}.nrrd.",
    )
    parser.add_argument("--chunks", type=int, default=_CHUNKS, metavar="N", help="Edge of an OME-Zarr chunk in voxels.")
    parser.add_argument(
        "--source", dest="series", type=Path, metavar="SERIES", help="The DICOM series that labels lie on; for .dcm."
    )
    parser.add_argument(
        "--as-labels", action="store_true", help="SOURCE holds labels, also where its file does not say so."
    )
    add_merge(parser, "write the labels in it as one, of this name")
    parser.add_argument("--onto", type=Path, metavar="IMAGE", help="Resample onto the grid of this image first.")
    parser.add_argument(
        "--interpolation",
        choices=get_args(Interpolation),
        default="linear",
        help="How --onto resamples; of labels, linear interpolates the mask of each. (default: %(default)s)",
    )
    _add_state_dict(parser)
    parser.add_argument(
        "--crop",
        metavar="MODEL",
        help="Model that looks first: those of SOURCE see the box around its labels, with a margin. A model file of "
        "ours, or a model of another program; none: without the one in TotalSegmentator's folder.",
    )
    parser.add_argument(
        "--prune",
        type=int,
        metavar="LEVEL",
        help="Keep the levels 1 to LEVEL of a model of unetpp, and say what that saves and costs.",
    )
    parser.add_argument(
        "--images",
        action="append",
        type=Path,
        metavar="DIR",
        help="Folder of images whose Dice --prune measures, with --labels; several times for several channels.",
    )


def _add_state_dict(parser: ArgumentParser) -> None:
    """Add what a state dict does not say of itself."""
    parser.add_argument("--network", metavar="NAME", help="Network of a state dict: one that `networks` lists.")
    parser.add_argument(
        "--preset", choices=get_args(PresetName), default="default", help="Preset of the network of a state dict."
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help='Labels of a state dict: a JSON file such as {"1": "liver"}; with --prune, a folder of label files.',
    )
    parser.add_argument(
        "--arguments",
        type=Path,
        metavar="JSON",
        help='Arguments of its network that no shape tells: a file such as {"strides": [2, 2, 1]}.',
    )
    parser.add_argument(
        "--spacing",
        nargs=3,
        type=float,
        metavar=("Z", "Y", "X"),
        help="Spacing in mm that a state dict was trained at.",
    )
    parser.add_argument("--intensities", metavar="HOW", help=f"How a state dict wants intensities: {INTENSITIES}.")
    parser.add_argument(
        "--modality", choices=get_args(Modality), default="other", help="Images of a state dict. (default: %(default)s)"
    )


def run(args: Namespace) -> None:
    given = (args.source, args.onto, args.series, args.labels, args.arguments, args.crop and Path(args.crop))
    foreign = is_foreign(args.source)
    args.output = _target(args, is_image=not foreign and not is_model_path(args.source))
    check_keeps_inputs([path for path in given if path], [args.output])
    _refuse_idle_flags(args, foreign=foreign)
    if is_model_path(args.source):
        _export_model(args) if args.prune is None else _prune_model(args)
        return
    if foreign:
        _convert_model(args)
        return
    _refuse_no_model(args)
    if args.chunks < 1:
        raise InputError(f"--chunks must be at least 1; got {args.chunks}")
    with locked(args.output):
        # A .dcm can hold labels only, and only labels are merged.
        as_labels = args.as_labels or bool(args.merge) or args.output.suffix.lower() == ".dcm"
        x = io.load(args.source, as_labels=as_labels)
        if as_labels and isinstance(x, Segmentation) and (told := image_for_labels(x, args.source)):
            warnings.warn(told, MedsegWarning, stacklevel=2)
        if isinstance(x, Segmentation) and args.merge:
            x = _merged(x, parsed(args.merge))
        if args.onto is not None:
            x = _resampled(x, args)
        _write(args, x)
    if isinstance(x, Segmentation):
        terminal.print_labels(args.output, x)
    else:
        terminal.print_result(f"wrote {args.output}")


def _target(args: Namespace, *, is_image: bool) -> Path:
    """The file that is written. Raises as `output_paths` for an image or labels, which may go into a folder."""
    if not is_image or is_model_path(Path(args.output)):
        return Path(args.output)
    (target,) = output_paths([args.source], args.output)
    return target


def _refuse_idle_flags(args: Namespace, *, foreign: bool) -> None:
    """Raise InputError for a flag that would change nothing for this source and output."""
    suffix = args.output.suffix.lower()
    is_image = not foreign
    needs = (
        ("--chunks", args.chunks != _CHUNKS, is_image and suffix == ".zarr", "an image and an output .zarr"),
        ("--source", args.series is not None, is_image and suffix == ".dcm", "labels and an output .dcm"),
        ("--as-labels", args.as_labels, is_image, "an image or labels"),
        ("--merge", bool(args.merge), is_image, "labels"),
        ("--onto", args.onto is not None, is_image, "an image or labels"),
        ("--interpolation", args.interpolation != "linear", args.onto is not None, "--onto"),
        ("--crop", args.crop is not None, foreign, "a model of another program"),
        ("--network", args.network is not None, foreign, "a state dict"),
        ("--preset", args.preset != "default", args.network is not None, "--network"),
        ("--labels", args.labels is not None, foreign or bool(args.images), "a state dict, or --prune and --images"),
        ("--arguments", args.arguments is not None, args.network is not None, "--network"),
        ("--spacing", args.spacing is not None, args.network is not None, "--network"),
        ("--intensities", args.intensities is not None, args.network is not None, "--network"),
        ("--modality", args.modality != "other", args.network is not None, "--network"),
        ("--prune", args.prune is not None, is_model_path(args.source), "a model file of ours (.safetensors)"),
        ("--images", bool(args.images), args.prune is not None and args.labels is not None, "--prune and --labels"),
    )
    for flag, is_given, has_needed, needed in needs:
        if is_given and not has_needed:
            raise InputError(f"{flag} needs {needed}: without it nothing would change")


def _refuse_no_model(args: Namespace) -> None:
    """Raise InputError where a model file is asked for, and the source is no model that could become one."""
    if is_model_path(args.output):
        raise InputError(
            f"{args.source}: no model of another program that can be converted: give a state dict (.pt, .pth, .ckpt), "
            f"a MONAI bundle (configs/, models/; or its .zip), an nnU-Net v2 folder (plans.json, dataset.json) or a "
            f".json that describes weights"
        )


def _convert_model(args: Namespace) -> None:
    from napari_medseg.foreign.asked import Asked, intensities_of, read_arguments
    from napari_medseg.foreign.convert import understood, write
    from napari_medseg.foreign.description import read_labels
    from napari_medseg.foreign.imported import ImportedSet

    asked = Asked(
        network=args.network,
        preset=args.preset,
        labels=read_labels(args.labels) if args.labels else None,
        arguments=read_arguments(args.arguments) if args.arguments else None,
        spacing_zyx_mm=tuple(args.spacing) if args.spacing else None,
        intensities=intensities_of(args.intensities) if args.intensities else None,
        modality=args.modality,
        crop=args.crop,
    )
    with locked(args.output), understood(args.source, asked) as found:
        written = write(found, args.output)
    for model in written.models:
        labels = ", ".join(model.spec.labels.values())
        terminal.print_result(f"wrote {model.path}: {model.spec.network}, labels {labels}")
    if written.set_path is not None:
        terminal.print_result(f"wrote {written.set_path}: a set of these {len(written.models)} models")
        if isinstance(found, ImportedSet) and found.crop is not None:
            terminal.print_note(f"{found.crop.name} looks first, and the others in the box that it finds")


def _export_model(args: Namespace) -> None:
    from napari_medseg.foreign.monai.export import export_model
    from napari_medseg.models.file import load_model

    with locked(args.output):
        notes = export_model(load_model(args.source), args.output)
    for note in notes:
        warnings.warn(note, MedsegWarning, stacklevel=2)
    terminal.print_result(f"wrote {args.output}")


def _prune_model(args: Namespace) -> None:
    from napari_medseg.cases import cases_from_folders
    from napari_medseg.training import Pruned, iter_prune

    require_model_path(args.output)
    with locked(args.output):
        cases = list(cases_from_folders(args.images, args.labels)) if args.images else []
        found: Pruned = terminal.follow(iter_prune(args.source, args.prune, args.output, cases=cases), args.output.name)
    rows = [("", "parameters", "MiB", "s a window", "Dice")]
    for name, worth in (("whole", found.whole), (f"level {args.prune}", found.pruned)):
        dice = "-" if math.isnan(worth.dice) else f"{worth.dice:.4f}"
        size = f"{worth.file_bytes / 2**20:.1f}"
        rows.append((name, f"{worth.parameters:,}", size, f"{worth.window_seconds:.3f}", dice))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        terminal.print_result("  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)))
    if not found.measured:
        terminal.print_note(f"Dice of level {args.prune} is not measured: give --images and --labels")
    terminal.print_result(f"wrote {args.output}")


def _merged(labels: Segmentation, merge: Mapping[str, tuple[int, ...]]) -> Segmentation:
    """The labels with regions in place of those in them. Warns of a region, and of labels of one, without a voxel."""
    made = merged(labels, merge)
    present = set(np.unique(labels.data[...]).tolist())
    for name, ids in merge.items():
        missing = [label for label in ids if label not in present]
        if missing and len(missing) < len(ids):
            warnings.warn(
                f"{labels.name}: the file holds none of the labels {', '.join(map(str, missing))} of the region {name}",
                MedsegWarning,
                stacklevel=2,
            )
        if not present & set(ids):
            warnings.warn(
                f"{labels.name}: no voxel is in the region {name}: the file holds none of the labels "
                f"{', '.join(map(str, ids))}",
                MedsegWarning,
                stacklevel=2,
            )
    return made


def _resampled(x: Volume | Segmentation, args: Namespace) -> Volume | Segmentation:
    """The noun on the grid of --onto. Warns where an image that looks like labels was interpolated."""
    work = resampling_onto(x, io.peek(args.onto).grid, args.interpolation)
    made: Volume | Segmentation = terminal.follow(finishing(work), args.source.name)
    if isinstance(x, Volume) and looks_like_labels(x.data) and not looks_like_labels(made.data):
        warnings.warn(
            f"{args.source}: it holds few values, all whole numbers, and resampling has put others between them: if "
            f"they are labels, add --as-labels",
            MedsegWarning,
            stacklevel=2,
        )
    return made


def _write(args: Namespace, x: Volume | Segmentation) -> None:
    if args.output.suffix.lower() != ".zarr":
        io.write(args.output, x, source=args.series)
        return
    from napari_medseg.io.zarr.format import save

    save(args.output, from_noun(x), chunks=(args.chunks, args.chunks, args.chunks))
