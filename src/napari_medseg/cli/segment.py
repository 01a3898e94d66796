"""Segment images with a model.

The model and the headers of every image are read before the first output is written.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import io
from napari_medseg.cases import Case, cases_of_images, with_channels
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_channels, add_knob, expanded
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.events import finishing
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.inference.results.wanted import Wanted, region_paths
from napari_medseg.inference.runs.files import check_cases, labels_source, paths_of, segmenting_case
from napari_medseg.inference.runs.many import segmenting_cases
from napari_medseg.inference.runs.outlook import outlook_of
from napari_medseg.inference.scale.crew import check_crew, crew_of
from napari_medseg.io.folders import by_channel
from napari_medseg.io.outputs import DEFAULT_SUFFIX, check_keeps_inputs, check_writable, locked, output_paths
from napari_medseg.models.file import about, load_model
from napari_medseg.models.several import ModelSet, as_models, is_one_file, models_of

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

NAME = "segment"
_CASES_A_WORKER = 2
"""Cases for each worker from which on a worker gets whole cases, and not blocks of one."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="Image file, OME-Zarr or DICOM folder.")
    add_channels(parser, ", in the order of the model")
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        help="Model file, the name of one in the models folder, or a set of models (.json); several times to average "
        "models of the same labels, or to merge the labels of others.",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="Label file; its suffix decides the format. For several images a folder, or a pattern such as "
        "out/{name}_labels.nii.gz.",
    )
    add_knob(parser, SegmentConfig, "device")
    add_knob(parser, SegmentConfig, "preset")
    add_knob(parser, SegmentConfig, "overlap")
    add_knob(parser, SegmentConfig, "tta")
    add_knob(parser, SegmentConfig, "precision")
    add_knob(parser, SegmentConfig, "backend")
    add_knob(parser, SegmentConfig, "instances")
    parser.add_argument(
        "--missing",
        action="append",
        default=[],
        metavar="CHANNEL",
        help="A channel of the model that the images lack; give the others. Several times for several.",
    )
    parser.add_argument(
        "--probabilities",
        metavar="PATH",
        help="Also write an OME-Zarr image with the probability of each class; with {name} for several images.",
    )
    parser.add_argument(
        "--uncertainty",
        metavar="PATH",
        help="Also write an OME-Zarr image with entropy and margin of the probabilities, and with "
        "--tta --preset exact their variance over mirror images; with {name} for several.",
    )
    parser.add_argument(
        "--regions",
        metavar="PATH",
        help="Also write each region of a model whose regions overlap as labels of its own: a folder, for "
        "{name}_{region}.nii.gz in it, or such a pattern.",
    )
    parser.add_argument(
        "--refine",
        metavar="REFINER",
        help="Refiner that makes the labels better along their boundaries: a model file, or the name of one; see the "
        "command refine.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="Work with N processes of this machine: on blocks of an image, or on several images at once.",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="Work with the workers of a dask scheduler, such as tcp://node1:8786."
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="Continue a run that was broken off, wherever it stopped; what is done already is not done again.",
    )


def run(args: Namespace) -> None:
    for name in args.model:
        refuse_foreign_model(Path(name))
    check_crew(args.workers, args.scheduler)
    knobs = ("device", "preset", "overlap", "tta", "precision", "backend", "instances")
    config = SegmentConfig(**{name: getattr(args, name) for name in knobs}, missing=tuple(args.missing))
    if config.backend == "openvino":
        terminal.print_note("OpenVINO: a network is converted before its first run, which takes some seconds")
    args.images = expanded(args.images)
    cases = _cases(args)
    inputs = [path for case in cases for path in paths_of(case)]
    outputs = output_paths(inputs, args.output, [case.name for case in cases])
    wanted = []
    for case, target in zip(cases, outputs, strict=True):
        labels_source(paths_of(case)[0], target)
        wanted.append(_wanted(args, case.name, target, alone=len(cases) == 1))
    check_keeps_inputs(inputs, [path for goal in wanted for path in goal.paths])
    with locked(*outputs):
        refiner = None if args.refine is None else load_model(args.refine)
        model = as_models(_one_or_several(args.model))  # before torch is loaded: a wrong file is refused at once
        if args.regions is not None:
            wanted = _with_regions(args.regions, model, cases, wanted)
        regions = [path for goal in wanted for path in (goal.regions or {}).values()]
        check_keeps_inputs(inputs, regions)
        check_cases(cases, model, config, refiner, wanted)
        try:
            with locked(*regions):
                _segment(args, cases, model, config, wanted, refiner)
        except KeyboardInterrupt:
            if not isinstance(model, ModelSet):
                terminal.print_note("the same command with --resume continues")
            raise


def _segment(
    args: Namespace,
    cases: list[Case],
    model: Model | ModelSet,
    config: SegmentConfig,
    wanted: list[Wanted],
    refiner: Model | None,
) -> None:
    """Segment the cases: here, or by workers, who share out the cases where there are enough, else their blocks."""
    spread = args.workers is not None or args.scheduler is not None
    if spread and not is_one_file(model):
        raise NotSupportedError("workers run one model file: give one --model, or no workers")
    with crew_of(args.workers, args.scheduler) if spread else nullcontext() as crew:
        for one in models_of(model):
            terminal.print_note(f"{one.path.name}: {about(one)}")
        if crew is not None and len(cases) >= _CASES_A_WORKER * crew.size:
            work = segmenting_cases(cases, model, config, wanted, crew, refiner)
            for path in terminal.follow(finishing(work), "segment"):
                terminal.print_result(f"wrote {path}")
            return
        for case, goal in zip(cases, wanted, strict=True):
            for one in models_of(model):
                terminal.print_note(f"{case.name}: {outlook_of(case, one, config, goal).describe()}")
            work_on_case = segmenting_case(case, model, config, goal, crew, refiner)
            made = terminal.follow(finishing(work_on_case), case.name)
            if made is not None:  # a Notice has said that it is done already
                for path in goal.labels:
                    terminal.print_result(f"wrote {path}")


def _wanted(args: Namespace, name: str, out: Path, *, alone: bool) -> Wanted:
    """The outputs of a case."""
    paths = []
    for text in (args.probabilities, args.uncertainty):
        if text is not None and not alone and "{name}" not in text:
            raise InputError(f"{text}: several images need {{name}} in the name of this output")
        path = None if text is None else Path(text.replace("{name}", name))
        if path is not None and path.suffix.lower() != ".zarr":
            raise InputError(f"{path}: probabilities and uncertainty are streamed into a .zarr folder: end it in .zarr")
        paths.append(path)
    return Wanted(out, paths[0], paths[1], args.resume)


def _with_regions(out: str, model: Model | ModelSet, cases: Sequence[Case], wanted: Sequence[Wanted]) -> list[Wanted]:
    """The outputs of the cases with a file for each region. Raises InputError for a name that several would have."""
    pattern = out
    if "{region}" not in out:
        if Path(out).suffix and not Path(out).is_dir():
            raise InputError(f"{out}: each region is a file of its own: give a folder, or a name with {{region}} in it")
        pattern = str(Path(out) / f"{{name}}_{{region}}{DEFAULT_SUFFIX}")
    if len(cases) > 1 and "{name}" not in pattern:
        raise InputError(f"{out}: several images need {{name}} in the names of their regions")
    found = []
    for case, goal in zip(cases, wanted, strict=True):
        regions = region_paths(model, pattern.replace("{name}", case.name))
        for path in regions.values():
            check_writable(path)
        found.append(replace(goal, regions=regions))
    return found


def _cases(args: Namespace) -> list[Case]:
    """The cases to segment; several files that are the channels of one case are one."""
    if bool(args.images) == bool(args.channels):
        raise InputError("give one or more images, or --images for each channel: one of the two")
    if args.channels:
        return cases_of_images(args.channels)
    named = {io.strip_suffix(image): image for image in args.images}
    grouped = by_channel(named) if len(named) == len(args.images) else {}
    wanted = _channels_of(args.model) - len(args.missing)
    if 0 < len(grouped) < len(named) and wanted == max(map(len, grouped.values())):
        return [Case(name=name, images=paths) for name, paths in grouped.items()]
    # A fourth axis is time for a model of one channel, which asks for the point that is meant.
    several = any(image.is_file() for image in args.images) and wanted > 1
    return [
        Case(name=io.strip_suffix(image), images=with_channels([image]) if several else (image,))
        for image in args.images
    ]


def _channels_of(names: list[str]) -> int:
    return len(models_of(as_models(_one_or_several(names)))[0].spec.channels)


def _one_or_several(names: list[str]) -> str | list[str]:
    return names[0] if len(names) == 1 else names
