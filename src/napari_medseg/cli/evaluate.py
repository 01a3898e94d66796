"""Measure a segmentation against a reference: two files, or two folders matched by file name.

Scores go to stdout, and with -o to a file. Further flags measure more and add tables to it. Where some of several cases
cannot be measured, the others are measured, the output lists the cases left out, and the exit status is 2.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob, add_merge
from napari_medseg.config import (
    CalibrationConfig,
    InstancesConfig,
    MetricsConfig,
    RatersConfig,
    RegionsConfig,
    StatisticsConfig,
    field_docs,
)
from napari_medseg.errors import InputError
from napari_medseg.io.outputs import check_document, check_keeps_inputs, locked, output_paths

if TYPE_CHECKING:
    from napari_medseg.cases import Case
    from napari_medseg.metrics import Scores
    from napari_medseg.metrics.reports.slices import Picture
    from napari_medseg.metrics.study.batch import MeasuredCases
    from napari_medseg.metrics.study.case_files import Sources
    from napari_medseg.metrics.study.study import Study, StudyConfig

NAME = "evaluate"
_NAMED = 5
"""Most cases that the last line names."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--prediction", required=True, type=Path, metavar="PATH", help="Labels to judge.")
    parser.add_argument("--reference", required=True, type=Path, metavar="PATH", help="Labels taken as the truth.")
    add_knob(parser, MetricsConfig, "preset")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="SCORES",
        help="File for the scores: .csv, .json, .tex or .html. With .csv, further tables go beside it, as "
        "SCORES_NAME.csv. Files that are there are replaced, and tables that an earlier run left beside it removed.",
    )
    add_knob(parser, MetricsConfig, "nsd_tolerance_mm", flag="--nsd-tolerance", metavar="MM")
    add_merge(parser, "measure the labels in it as one, of this name; regions may share labels")
    parser.add_argument("--foreground", action="store_true", help=field_docs(RegionsConfig)["foreground"])
    _add_instances(parser)
    _add_beside(parser)
    _add_raters(parser)
    _add_statistics(parser)


def _add_instances(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("instances, such as lesions")
    docs = field_docs(InstancesConfig)
    group.add_argument(
        "--instances",
        nargs="?",
        const="components",
        choices=("components", "ids"),
        help=f"Match instances. {docs['instances']}",
    )
    group.add_argument(
        "--iou", type=float, action="append", metavar="F", help=f"{docs['iou']} (default: {InstancesConfig().iou[0]:g})"
    )
    add_knob(group, InstancesConfig, "connectivity")


def _add_beside(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("more about the labels")
    group.add_argument("--shape", action="store_true", help="Measure size and shape of every label.")
    group.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="Images: intensities, and slices in an .html report; several times for several channels.",
    )
    group.add_argument(
        "--probabilities", type=Path, metavar="PATH", help="Probabilities, a channel per label: their calibration."
    )
    for name in ("bins", "region"):
        add_knob(group, CalibrationConfig, name, flag=f"--calibration-{name}")
    group.add_argument(
        "--series",
        action="store_true",
        help="The cases, in sorted order, are time points of one patient; files may hold them all on a fourth axis.",
    )


def _add_raters(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("several readers")
    group.add_argument(
        "--reader",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="Labels of a further reader, beside the reference; several times for several readers.",
    )
    add_knob(group, RatersConfig, "consensus")
    group.add_argument(
        "--consensus-output",
        metavar="OUT",
        help="Label file for the consensus; for several cases a folder, or a pattern such as out/{name}.nii.gz.",
    )


def _add_statistics(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("over the cases")
    group.add_argument(
        "--compare", type=Path, metavar="PATH", help="Predictions of another method: paired comparison, case by case."
    )
    group.add_argument("--metrics", type=_names, metavar="NAME,...", help=field_docs(StatisticsConfig)["metrics"])
    for name in ("bootstrap", "confidence", "seed"):
        add_knob(group, StatisticsConfig, name)


def _names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(args: Namespace) -> None:
    from napari_medseg.metrics.reports.exports import check_suffix
    from napari_medseg.metrics.study.batch import iter_measure
    from napari_medseg.metrics.study.case_files import match_files
    from napari_medseg.metrics.study.statistics import compared_metrics
    from napari_medseg.metrics.study.study import study_of

    config = _config(args)
    compared_metrics(config.statistics)
    if args.output is not None:
        check_suffix(args.output)
        if args.output.suffix.lower() == ".json":
            check_document(args.output, "file of scores", "napari_medseg")
    cases, unmatched = match_files(_sources(args), series=args.series)
    _refuse_idle_flags(args, has_cases=any(case.name for case in cases))
    consensus = _consensus_paths(args, cases)
    if args.series:
        terminal.print_note(f"{NAME}: time points, in this order: {', '.join(case.name for case in cases)}")
    with locked(*([args.output] if args.output else []), *consensus.values()):
        found: MeasuredCases = terminal.follow(iter_measure(cases, config, consensus), NAME)
        made = study_of(found.measured, config, found.failed)
        tables = [*made.tables, *([unmatched] if unmatched else [])]
        terminal.print_scores(made.scores)
        if args.output is None:
            for table in tables:
                terminal.print_table(table)
        written = _write(args.output, cases, config, replace(made, tables=tuple(tables))) if args.output else []
        for path in [*written, *(consensus[m.name] for m in found.measured if m.name in consensus)]:
            terminal.print_result(f"wrote {path}")
    _refuse_failed(found, len(cases))


def _write(output: Path, cases: Sequence[Case], config: StudyConfig, found: Study) -> list[Path]:
    from napari_medseg.metrics.reports.exports import write_scores

    pictures = _pictures(cases, config, found.scores) if output.suffix.lower() == ".html" else []
    return write_scores(output, found.scores, found.tables, pictures, found.settings)


def _refuse_failed(found: MeasuredCases, cases: int) -> None:
    """Raise InputError where cases were not measured. The results of the others are written by then."""
    if found.failed:
        names = ", ".join(list(found.failed)[:_NAMED]) + (", ..." if len(found.failed) > _NAMED else "")
        raise InputError(f"{len(found.failed)} of {cases} cases not measured, for the reasons above: {names}")


def _refuse_idle_flags(args: Namespace, *, has_cases: bool) -> None:
    """Raise InputError for a flag that would change nothing because the flag that it belongs to is missing."""
    instances, calibration, statistics = InstancesConfig(), CalibrationConfig(), StatisticsConfig()
    in_components, connectivity = args.instances == "components", args.connectivity != instances.connectivity
    needs = (
        ("--consensus", args.consensus != RatersConfig().consensus, args.reader, "--reader"),
        ("--iou", args.iou is not None, args.instances, "--instances"),
        ("--connectivity", connectivity, in_components, "--instances components"),
        ("--calibration-bins", args.bins != calibration.bins, args.probabilities, "--probabilities"),
        ("--calibration-region", args.region != calibration.region, args.probabilities, "--probabilities"),
        ("--metrics", args.metrics is not None, args.compare, "--compare"),
        ("--bootstrap", args.bootstrap != statistics.bootstrap, has_cases, "folders, or --series"),
        ("--confidence", args.confidence != statistics.confidence, has_cases, "folders, or --series"),
        ("--seed", args.seed != statistics.seed, has_cases, "folders, or --series"),
    )
    for flag, is_given, has_needed, needed in needs:
        if is_given and not has_needed:
            raise InputError(f"{flag} needs {needed}: without it nothing would change")


def _config(args: Namespace) -> StudyConfig:
    from napari_medseg.metrics.study.study import StudyConfig
    from napari_medseg.transforms.regions import parsed

    instances = InstancesConfig(
        instances=args.instances or InstancesConfig().instances,
        connectivity=args.connectivity,
        iou=tuple(args.iou or InstancesConfig().iou),
    )
    return StudyConfig(
        metrics=MetricsConfig(preset=args.preset, nsd_tolerance_mm=args.nsd_tolerance_mm),
        regions=RegionsConfig(merge=tuple(parsed(args.merge).items()), foreground=args.foreground),
        instances=instances if args.instances else None,
        shape=args.shape,
        series=args.series,
        raters=RatersConfig(consensus=args.consensus),
        calibration=CalibrationConfig(bins=args.bins, region=args.region),
        statistics=StatisticsConfig(
            bootstrap=args.bootstrap, confidence=args.confidence, seed=args.seed, metrics=args.metrics
        ),
    )


def _sources(args: Namespace) -> Sources:
    from napari_medseg.metrics.study.case_files import Sources

    return Sources(
        prediction=args.prediction,
        reference=args.reference,
        compared=args.compare,
        image=args.image[0] if args.image else None,
        channels=args.image[1:],
        probabilities=args.probabilities,
        readers=args.reader,
    )


def _consensus_paths(args: Namespace, cases: Sequence[Case]) -> dict[str, Path]:
    """{case: where its consensus goes}; empty without --consensus-output."""
    if args.consensus_output is None:
        return {}
    if args.consensus == "none" or not args.reader:
        raise InputError("--consensus-output needs --reader, and --consensus vote or staple")
    paths = output_paths([case.labels for case in cases if isinstance(case.labels, Path)], args.consensus_output)
    check_keeps_inputs([path for case in cases for path in case.beside.values()], paths)
    return {case.name: path for case, path in zip(cases, paths, strict=True)}


def _pictures(cases: Sequence[Case], config: StudyConfig, scores: Scores) -> list[Picture]:
    """Each label's worst place, in the case where its Dice is lowest. That case is read again."""
    from napari_medseg.metrics.reports.slices import labels_by_worst_case, worst_slices
    from napari_medseg.metrics.study.case_files import opened
    from napari_medseg.metrics.study.study import in_regions, with_consensus

    worst = labels_by_worst_case(scores)
    found: list[Picture] = []
    for case in (case for case in cases if case.name in worst):
        images = in_regions(with_consensus(opened(case), config.raters.consensus), config.regions)
        slices = worst_slices(
            prediction=images.prediction,
            reference=images.reference,
            image=images.image,
            labels=worst[case.name],
            preset=config.metrics.preset,
        )
        found += [replace(picture, case=case.name) for picture in slices]
    return found
