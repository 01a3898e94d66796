"""Segment images with a model.

The model and the headers of every image are read before the first output is written.
"""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg.cases import Case, cases_of_images, with_channels
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.cli.outputs import locked, output_paths
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.io.folders import by_channel

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

NAME = "segment"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")
    parser.add_argument(
        "--images",
        dest="channels",
        action="append",
        type=Path,
        metavar="PATH",
        help="Instead of IMAGE: file of a channel, or folder with a file per case; several times for several channels, "
        "in the order of the model.",
    )
    parser.add_argument("--model", required=True, help="Model file, or the name of one in the models folder.")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="Label file; its suffix decides the format. For several images a folder, or a pattern such as "
        "out/{name}_labels.nii.gz.",
    )
    add_knob(parser, SegmentConfig, "device")
    add_knob(parser, SegmentConfig, "overlap")
    add_knob(parser, SegmentConfig, "precision")
    parser.add_argument("--resume", action="store_true", help="Continue an interrupted run (not in this version).")


def run(args: Namespace) -> None:
    if args.resume:
        raise NotSupportedError("--resume is not supported in this version: run again without it")
    refuse_foreign_model(Path(args.model))
    config = SegmentConfig(device=args.device, overlap=args.overlap, precision=args.precision)
    cases = _cases(args)
    inputs = [path for case in cases for path in _paths(case)]
    outputs = output_paths(inputs, args.output, [case.name for case in cases])
    for case, target in zip(cases, outputs, strict=True):
        labels_source(_paths(case)[0], target)
    with locked(*outputs):
        model = _checked_model(args.model, cases, config)
        terminal.print_note(f"{model.path.name}: {about(model)}")
        for case, target in zip(cases, outputs, strict=True):
            _segment_case(case, target, model, config)
            terminal.print_result(f"wrote {target}")


def about(model: Model) -> str:
    """What a model says of itself, in one line: what for, which images, which licence."""
    spec = model.spec
    images = ", ".join(f"{channel.name} ({channel.modality})" for channel in spec.channels)
    parts = (spec.description, f"images: {images}", spec.licence and f"licence: {spec.licence}")
    return " ".join("; ".join(part.strip().rstrip(".") for part in parts if part).split())


def _cases(args: Namespace) -> list[Case]:
    """The cases to segment; several files that are the channels of one case are one."""
    if bool(args.images) == bool(args.channels):
        raise InputError("give one or more images, or --images for each channel: one of the two")
    if args.channels:
        return cases_of_images(args.channels)
    named = {io.strip_suffix(image): image for image in args.images}
    grouped = by_channel(named) if len(named) == len(args.images) else {}
    if 0 < len(grouped) < len(named) and _channels_of(args.model) == max(map(len, grouped.values())):
        return [Case(name=name, images=paths) for name, paths in grouped.items()]
    # A fourth axis is time for a model of one channel, which asks for the point that is meant.
    several = any(image.is_file() for image in args.images) and _channels_of(args.model) > 1
    return [
        Case(name=io.strip_suffix(image), images=with_channels([image]) if several else (image,))
        for image in args.images
    ]


def _channels_of(model: str) -> int:
    from napari_medseg.models.file import load_model

    return len(load_model(model).spec.channels)


def _paths(case: Case) -> list[Path]:
    return [image for image in case.images if isinstance(image, Path)]


def _checked_model(name: str, cases: list[Case], config: SegmentConfig) -> Model:
    """The model. Every image and the device are checked against it first; no image is decoded for that."""
    from napari_medseg.models.file import load_model

    model = load_model(name)  # before torch is loaded: a wrong file is refused at once
    from napari_medseg.inference import require_fit
    from napari_medseg.inference.device import choose_device

    choose_device(config.device)
    for case in cases:
        require_fit(case.peek(), model.spec, str(model.path))
    return model


def labels_source(image: Path, target: Path) -> Path | None:
    """The DICOM series that a .dcm output refers to: the image. Raises InputError where the image is none."""
    if target.suffix.lower() != ".dcm":
        return None
    if io.format_of(image).name != "DICOM":
        raise InputError(f"{target}: a DICOM segmentation refers to a DICOM series, and {image} is none: write .nii.gz")
    return image


def _segment_case(case: Case, target: Path, model: Model, config: SegmentConfig) -> None:
    """Segment one case. An OME-Zarr is filled window by window; any other format is written at the end."""
    from napari_medseg.inference import iter_segment

    streamed = target.suffix.lower() == ".zarr"
    events = iter_segment(
        case.volume(),
        model,
        out=target if streamed else None,
        origin={"input_sha256": _sha256_of_all(_paths(case))},
        config=config,
    )
    result = terminal.follow(events, case.name)
    if not streamed:
        io.write(target, result, source=labels_source(_paths(case)[0], target))


def _sha256_of_all(paths: list[Path]) -> str:
    """The SHA-256 of a file; of several the SHA-256 of their SHA-256 in hexadecimal, one a line."""
    sums = [sha256_of(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(f"{sum_}\n" for sum_ in sums).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; for a folder the SHA-256 of its files' names and SHA-256, in sorted order."""
    # A DICOM path may name one of several series. The files of FOLDER#SERIES are not known here: all in FOLDER count.
    if not path.exists():
        return sha256_of(path.with_name(path.name.partition("#")[0]))
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    listing = "".join(f"{p.relative_to(path).as_posix()}\0{sha256_of(p)}\n" for p in files)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
