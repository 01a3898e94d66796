"""Say what to annotate next, so that a model learns most of it.

The best comes first. Slices that hold a label in the files of --labels are annotated already.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg.arrays.views import onto
from napari_medseg.cases import Case, cases_of_images, labels_at
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_channels, add_knob, expanded
from napari_medseg.config import SuggestConfig
from napari_medseg.errors import InputError
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.io.folders import images_by_name, is_folder_of_images
from napari_medseg.io.outputs import check_keeps_inputs, locked
from napari_medseg.models.several import as_models

if TYPE_CHECKING:
    from napari_medseg.doubt import Suggestion
    from napari_medseg.volume import Segmentation

NAME = "suggest"
_KNOBS = ("kind", "count", "by", "axis", "region_mm", "device", "overlap")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "images", nargs="*", type=Path, metavar="IMAGE", help="Image file, OME-Zarr, DICOM folder, or folder of images."
    )
    add_channels(parser, ", in the order of the model")
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        help="Model file, or the name of one in the models folder; several times to average models of the same labels.",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="Labels of some slices: a file for one image, or a folder of files that are named as the images.",
    )
    for name in _KNOBS:
        add_knob(parser, SuggestConfig, name)
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="Also write the list to a .csv file.")
    parser.add_argument("--json", action="store_true", help="Print the list as JSON.")


def run(args: Namespace) -> None:
    for name in args.model:
        refuse_foreign_model(Path(name))
    config = SuggestConfig(**{name: getattr(args, name) for name in _KNOBS})
    if args.output is not None and args.output.suffix.lower() != ".csv":
        raise InputError(f"{args.output}: the list is written as a table: end its name in .csv")
    model = as_models(args.model[0] if len(args.model) == 1 else args.model)
    args.images = expanded(args.images)
    cases = _cases(args)
    outputs = [] if args.output is None else [args.output]
    images = [image for case in cases for image in case.images if isinstance(image, Path)]
    check_keeps_inputs([*images, *([args.labels] if args.labels else [])], outputs)
    with locked(*outputs):
        from napari_medseg.doubt import iter_suggest

        events = iter_suggest(cases, model, labels=_labels(args.labels, cases), config=config)
        found: list[Suggestion] = terminal.follow(events, NAME)
        if args.output is not None:
            _write(args.output, found)
    if args.json:
        terminal.print_result(json.dumps([_plain(one) for one in found], indent=2, ensure_ascii=False))
        return
    for rank, one in enumerate(found, start=1):
        terminal.print_result(f"{rank:>3}  {one.case}: {one.place}; {one.reason}")
    if not found:
        terminal.print_result("nothing is left to annotate")
    if args.output is not None:
        terminal.print_result(f"wrote {args.output}")


def _cases(args: Namespace) -> list[Case]:
    if bool(args.images) == bool(args.channels):
        raise InputError("give one or more images, or --images for each channel: one of the two")
    if args.channels:
        return cases_of_images(args.channels)
    return [case for image in args.images for case in cases_of_images([image])]


def _labels(path: Path | None, cases: Sequence[Case]) -> dict[str, Segmentation]:
    """{case: its labels}; images without a file of labels are left out."""
    if path is None:
        return {}
    if is_folder_of_images(path):
        files = images_by_name(path)
    elif len(cases) == 1:
        files = {cases[0].name: path}
    else:
        raise InputError(f"{path}: several images need a folder of labels, with files that are named as the images")
    grids = {case.name: case.peek().grid for case in cases if case.name in files}
    found = {name: onto(labels_at(files[name], grid), grid) for name, grid in grids.items()}
    if not found:
        raise InputError(f"{path}: no file is named as an image, such as {cases[0].name}")
    return found


def _plain(one: Suggestion) -> dict[str, Any]:
    return {"place": one.place, **asdict(one)}


def _write(path: Path, found: Sequence[Suggestion]) -> None:
    from napari_medseg.metrics.csv_file import write_csv

    columns = ("rank", "case", "kind", "axis", "index", "box", "centre", "score", "reason")
    rows: list[dict[str, str | int | float]] = []
    for rank, one in enumerate(found, start=1):
        box = "" if one.box is None else " ".join(f"{low}:{high}" for low, high in one.box)
        axis, index = ("" if value is None else value for value in (one.axis, one.index))
        rows.append(
            {
                **dict(zip(columns, (rank, one.case, one.kind, axis, index, box), strict=False)),
                "centre": " ".join(map(str, one.centre)),
                "score": one.score,
                "reason": one.reason,
            }
        )
    write_csv(path, columns, rows)
