"""Segment images with a model.

Every image and the model are opened before the first output is written.
"""

from __future__ import annotations

import hashlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob
from napari_medseg.cli.outputs import claimed, output_paths
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.foreign import refuse_foreign_model

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

NAME = "segment"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")
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
    outputs = output_paths(args.images, args.output)
    sources = [labels_source(image, target) for image, target in zip(args.images, outputs, strict=True)]
    with claimed(*outputs):
        model = _checked_model(args.model, args.images, config)
        for image, target, source in zip(args.images, outputs, sources, strict=True):
            _segment_file(image, target, model, config, source)
            terminal.say(f"wrote {target}")


def _checked_model(name: str, images: list[Path], config: SegmentConfig) -> Model:
    """The model, once it, the device and every image have been opened and fit together."""
    from napari_medseg.models.file import load_model

    model = load_model(name)  # before torch is loaded: what is refused is refused at once
    from napari_medseg.inference import require_fit
    from napari_medseg.inference.device import choose_device

    choose_device(config.device)
    for image in images:
        require_fit(io.read(image), model.spec, str(model.path))
    return model


def labels_source(image: Path, target: Path) -> Path | None:
    """The series that a DICOM segmentation refers to: the image itself, which InputError says it must be."""
    if target.suffix.lower() != ".dcm":
        return None
    if io.format_of(image).name != "DICOM":
        raise InputError(f"{target}: a DICOM segmentation refers to a DICOM series, and {image} is none: write .nii.gz")
    return image


def _segment_file(image: Path, target: Path, model: Model, config: SegmentConfig, source: Path | None) -> None:
    """Segment one image; an OME-Zarr is filled window by window, any other format is written at the end."""
    from napari_medseg.inference import iter_segment, provenance

    streamed = target.suffix.lower() == ".zarr"
    origin = {"input_sha256": sha256_of(image)}
    events = iter_segment(
        io.read(image),
        model,
        out=target if streamed else None,
        device=config.device,
        overlap=config.overlap,
        precision=config.precision,
        origin=origin,
    )
    result = terminal.follow(events, io.strip_suffix(image))
    if not streamed:
        io.write(target, result, provenance={**provenance(model, config), **origin}, source=source)


def sha256_of(path: Path) -> str:
    """Of a file its SHA-256; of a folder that of its files' names and SHA-256, in sorted order."""
    # A DICOM path may name one of several series: FOLDER#SERIES stands for all that lies in the folder.
    if not path.exists():
        return sha256_of(path.with_name(path.name.partition("#")[0]))
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(p for p in path.rglob("*") if p.is_file())
    listing = "".join(f"{p.relative_to(path).as_posix()}\0{sha256_of(p)}\n" for p in files)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
