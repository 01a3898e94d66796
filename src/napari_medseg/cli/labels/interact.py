"""`interact`, `propagate`, `clean` and `instances`: masks from prompts, from some slices and from other masks."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg import io
from napari_medseg._version import __version__
from napari_medseg.cases import Case, cases_of_images
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_channels, add_knob
from napari_medseg.config import CleanConfig, ObjectsConfig, PropagateConfig
from napari_medseg.errors import InputError, NotSupportedError, warn
from napari_medseg.inference.runs.files import labels_source, paths_of, sha256_of, sha256_of_all
from napari_medseg.io.folders import partners
from napari_medseg.io.formats import check_fits
from napari_medseg.io.outputs import check_keeps_inputs, locked, output_paths
from napari_medseg.models.file import load_model

if TYPE_CHECKING:
    from napari_medseg.volume import Segmentation

INTERACT = """Do the prompts of a session again, and write the labels that they give.

PROMPTS is what `session.save` writes, or a list of prompts written by hand, such as
[{"do": "point", "at": [4, 10, 10], "label": 1}].
"""
PROPAGATE = """Segment a volume of which some slices are annotated.

The annotated slices are those that hold a label, along the axis that has the fewest of them, or along several axes
where they look painted so. `--method learn` trains a small network on them first.
"""
CLEAN = """Make labels better: remove islands, fill holes, smooth, fill in slices between painted ones.

The steps that are asked for are done in this order: interpolate, fill holes, smooth, islands, largest. A label grows
into the background only; smooth also moves voxels between the labels that it changes.
"""
INSTANCES = """Number the objects in labels one by one, also where they touch.

Ids are 1, 2, 3 ... in reading order of the objects' first voxels.
"""


def add_interact_arguments(parser: ArgumentParser) -> None:
    _add_images(parser)
    parser.add_argument(
        "--prompts",
        required=True,
        type=Path,
        metavar="JSON",
        help="The log of a session; for several cases a folder of NAME.json.",
    )
    _add_model_and_output(parser, "Model that takes prompts (none in this version: leave it out).")


def add_propagate_arguments(parser: ArgumentParser) -> None:
    _add_images(parser)
    parser.add_argument(
        "--labels",
        required=True,
        type=Path,
        metavar="SOME_SLICES",
        help="Labels of the annotated slices; for several cases a folder with a file of the same name for each.",
    )
    for name in ("method", "minutes", "seed"):
        add_knob(parser, PropagateConfig, name)
    _add_model_and_output(parser, "A volumetric memory network that fills the slices.")


def add_clean_arguments(parser: ArgumentParser) -> None:
    _add_labels_and_output(parser)
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
    add_knob(parser, CleanConfig, "keep_topology")
    add_knob(parser, CleanConfig, "islands_ml")
    add_knob(parser, CleanConfig, "largest")
    add_knob(parser, CleanConfig, "connectivity")
    _add_series(parser)


def add_instances_arguments(parser: ArgumentParser) -> None:
    _add_labels_and_output(parser)
    for name in ("method", "neck", "least_ml", "connectivity"):
        add_knob(parser, ObjectsConfig, name)
    _add_series(parser)


def run_interact(args: Namespace) -> None:
    _refuse_model(args)
    cases = _cases(args)
    logs = _logs(args.prompts, [case.name for case in cases])

    def replayed(case: Case) -> Segmentation:
        from napari_medseg.interactive.session import resume_interaction

        return resume_interaction(logs[case.name], case.volume()).segmentation

    _write_each(args, cases, logs, "prompts", {"method": "auto"}, replayed)


def run_propagate(args: Namespace) -> None:
    _refuse_idle_flags(args)
    model = None if args.model is None else load_model(args.model)
    config = PropagateConfig(method=args.method, minutes=args.minutes, seed=args.seed)
    cases = _cases(args)
    slices = partners(args.labels, [case.name for case in cases])

    def filled(case: Case) -> Segmentation:
        from napari_medseg.refinement.filling import iter_propagate

        volume, some_slices = replace(case, labels=slices[case.name]).load()
        made: Segmentation = terminal.follow(iter_propagate(volume, some_slices, model=model, config=config), case.name)
        if np.array_equal(np.asarray(made.data[...]), np.asarray(some_slices.data[...])):
            terminal.print_note(f"{case.name}: nothing was filled: the labels come back as they were given")
        return made

    how: dict[str, object] = {"method": config.method if model is None else "memory"}
    how |= {} if model is None else {"model_sha256": model.sha256}
    how |= {"minutes": config.minutes, "seed": config.seed} if config.method == "learn" else {}
    _write_each(args, cases, slices, "labels", how, filled)


def run_clean(args: Namespace) -> None:
    config = CleanConfig(
        labels=None if args.label is None else tuple(args.label),
        interpolate=args.interpolate,
        fill_holes=args.fill_holes,
        smooth_mm=args.smooth_mm,
        keep_topology=args.keep_topology,
        islands_ml=args.islands_ml,
        largest=args.largest,
        connectivity=args.connectivity,
    )
    if not any((args.interpolate != "none", args.fill_holes, args.smooth_mm, args.islands_ml, args.largest)):
        raise InputError(
            "nothing to do: ask for one or more of --interpolate, --fill-holes, --smooth-mm, --islands-ml, --largest"
        )
    (target,) = output_paths([args.labels], args.output)
    with locked(target):
        from napari_medseg.refinement.cleaning import iter_clean

        segmentation = io.read_segmentation(args.labels)
        check_fits(target, segmentation.grid, args.series)
        cleaned = terminal.follow(iter_clean(segmentation, config=config), segmentation.name)
        provenance = {**cleaned.provenance, "napari_medseg": __version__, "labels_sha256": sha256_of(args.labels)}
        io.write(target, cleaned, provenance=provenance, source=args.series)
    terminal.print_labels(target, cleaned)


def run_instances(args: Namespace) -> None:
    config = ObjectsConfig(**{name: getattr(args, name) for name in ("method", "neck", "least_ml", "connectivity")})
    (target,) = output_paths([args.labels], args.output)
    with locked(target):
        from napari_medseg.inference.objects.instances import iter_instances

        segmentation = io.read_segmentation(args.labels)
        check_fits(target, segmentation.grid, args.series)
        streamed = target if target.suffix.lower() == ".zarr" else None
        made_by = {"napari_medseg": __version__, "labels_sha256": sha256_of(args.labels)}
        given = replace(segmentation, provenance={**segmentation.provenance, **made_by})
        found = terminal.follow(iter_instances(given, out=streamed, config=config), segmentation.name)
        if streamed is None:
            io.write(target, found, provenance=found.provenance, source=args.series)
    terminal.print_result(f"wrote {target}")


def _add_labels_and_output(parser: ArgumentParser) -> None:
    parser.add_argument("labels", type=Path, metavar="LABELS", help="Label file, or OME-Zarr folder.")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="Label file; its suffix decides the format."
    )


def _add_series(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        dest="series",
        type=Path,
        metavar="SERIES",
        help="The DICOM series that the labels lie on; for .dcm.",
    )


def _add_images(parser: ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")
    add_channels(parser)


def _add_model_and_output(parser: ArgumentParser, what_model: str) -> None:
    parser.add_argument("--model", help=what_model)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="Label file; its suffix decides the format. For several cases a folder, or a pattern such as "
        "out/{name}.nii.gz.",
    )


def _refuse_model(args: Namespace) -> None:
    if args.model is not None:
        raise NotSupportedError(
            f"--model {args.model}: models that take prompts are not supported in this version: run again without it"
        )


def _refuse_idle_flags(args: Namespace) -> None:
    """Raise InputError for flags of `propagate` that do not go together."""
    if args.method == "memory" and args.model is None:
        raise InputError("--method memory needs --model: a volumetric memory network")
    if args.model is not None and args.method not in ("auto", "memory"):
        raise InputError(f"--method {args.method} takes no --model: leave it out, or give --method memory")
    for name in ("minutes", "seed"):
        if args.method != "learn" and getattr(args, name) != getattr(PropagateConfig(), name):
            raise InputError(f"--{name} needs --method learn: without it nothing would change")


def _cases(args: Namespace) -> list[Case]:
    """The cases; several files that are the channels of one case are one."""
    if (args.image is None) == (args.channels is None):
        raise InputError("give an image, or --images for each channel: one of the two")
    if args.channels is not None:
        return cases_of_images(args.channels)
    if args.image.is_dir():
        io.format_of(args.image)  # refused before its name is looked for, where it is a folder of images
    return [Case(name=io.strip_suffix(args.image), images=(args.image,))]


def _logs(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """{case: its log}: the file, or NAME.json of a folder. Warns of cases without a log. InputError for none at all."""
    if not path.is_dir():
        if len(names) > 1:
            raise InputError(f"{path}: {len(names)} cases need a folder with a log NAME.json for each")
        return {names[0]: path}
    found = {name: path / f"{name}.json" for name in names if (path / f"{name}.json").is_file()}
    if not found:
        raise InputError(f"{path} has no log for a case: {names[0]}.json, for example")
    if missing := [name for name in names if name not in found]:
        warn(f"{len(missing)} cases have no log NAME.json in {path} and are left out, such as {missing[0]}")
    return found


def _write_each(
    args: Namespace,
    cases: Sequence[Case],
    given: Mapping[str, Path],
    what: str,
    how: Mapping[str, object],
    work: Callable[[Case], Segmentation],
) -> None:
    """Write what `work` makes of each case that something is given for. what: it is called so in the provenance."""
    cases = [case for case in cases if case.name in given]
    images = [path for case in cases for path in paths_of(case)]
    targets = output_paths(images, args.output, [case.name for case in cases])
    check_keeps_inputs([*images, *given.values()], targets)
    sources = [labels_source(paths_of(case)[0], target) for case, target in zip(cases, targets, strict=True)]
    with locked(*targets):
        # A wrong file, and labels that could not be written, are refused before the first output is written.
        for case, target, source in zip(cases, targets, sources, strict=True):
            check_fits(target, case.peek().grid, source)
        for case, target, source in zip(cases, targets, sources, strict=True):
            hashes = {"input_sha256": sha256_of_all(paths_of(case)), f"{what}_sha256": sha256_of(given[case.name])}
            provenance = {**how, "napari_medseg": __version__, **hashes}
            found = work(case)
            io.write(target, found, provenance=provenance, source=source)
            terminal.print_labels(target, found)
