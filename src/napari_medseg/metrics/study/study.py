"""Everything that can be measured in a set of cases: in each (`measure`), and then over all (`study_of`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from napari_medseg.config import (
    CalibrationConfig,
    Consensus,
    InstancesConfig,
    MetricsConfig,
    RatersConfig,
    RegionsConfig,
    StatisticsConfig,
    configured,
)
from napari_medseg.errors import InputError
from napari_medseg.metrics.agreement.calibration import CalibrationRow, ReliabilityRow, calibrate, channel_ids
from napari_medseg.metrics.agreement.raters import AgreementRow, PairRow, agreement_of, majority_vote
from napari_medseg.metrics.agreement.staple import RaterRow, staple
from napari_medseg.metrics.descriptive.intensity import IntensityRow, intensity_statistics
from napari_medseg.metrics.descriptive.series import SeriesRow, series_rows
from napari_medseg.metrics.descriptive.shape import ShapeRow, shape_statistics
from napari_medseg.metrics.inputs import require_segmentation, require_volume
from napari_medseg.metrics.pairwise.comparison import evaluate
from napari_medseg.metrics.pairwise.instances import InstanceRow, Pair, match_instances, pooled
from napari_medseg.metrics.pairwise.scores import Scores, combine
from napari_medseg.metrics.study.settings import (
    Setting,
    calibration_settings,
    instances_settings,
    metrics_settings,
    pixel_settings,
    raters_settings,
    regions_settings,
    statistics_settings,
)
from napari_medseg.metrics.study.statistics import (
    DifferenceRow,
    SummaryRow,
    VolumeAgreementRow,
    compare,
    summarise,
    summarise_instances,
    volume_agreement,
)
from napari_medseg.metrics.study.tables import Table, scores_table, table_of
from napari_medseg.transforms.regions import passes
from napari_medseg.volume import Segmentation, Volume, require_order_onto

TABLES: Mapping[str, tuple[type, str]] = {
    "statistics": (SummaryRow, "Statistics over the cases"),
    "comparison": (DifferenceRow, "Prediction against the compared method, paired by case"),
    "volumes": (VolumeAgreementRow, "Agreement of volumes (Bland-Altman)"),
    "series_reference": (SeriesRow, "Volumes over time, reference"),
    "series_prediction": (SeriesRow, "Volumes over time, prediction"),
    "instances": (InstanceRow, "Instances"),
    "instances_pooled": (InstanceRow, "Instances of all cases together"),
    "pairs": (Pair, "Which instance is which"),
    "shape_reference": (ShapeRow, "Size and shape, reference"),
    "shape_prediction": (ShapeRow, "Size and shape, prediction"),
    "intensities": (IntensityRow, "Intensities inside the reference"),
    "calibration": (CalibrationRow, "Calibration"),
    "reliability": (ReliabilityRow, "Reliability"),
    "agreement": (AgreementRow, "Agreement of all readers"),
    "reader_pairs": (PairRow, "Agreement of every two readers"),
    "staple": (RaterRow, "Readers as STAPLE judges them"),
}
"""{name of a table: (class of its rows, title)}, in the order of a report."""
_FOLLOWED: Mapping[str, tuple[str, ...]] = {
    "statistics": ("regions", "metrics", "raters", "instances", "statistics"),
    "comparison": ("regions", "metrics", "raters", "statistics"),
    "volumes": ("regions", "raters"),
    "series_reference": ("regions", "raters"),
    "instances": ("regions", "raters", "instances"),
    "instances_pooled": ("regions", "raters", "instances"),
    "pairs": ("regions", "raters", "instances"),
    "shape_reference": ("regions", "raters"),
    "intensities": ("regions", "raters"),
    "calibration": ("raters", "calibration"),
    "reliability": ("raters", "calibration"),
}
"""{name of a table: the fields of StudyConfig that its numbers depend on}; other tables depend on the regions
alone."""
PREDICTION = "prediction"
"""Name of the prediction among the raters."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseImages:
    """The images of one case, all on one grid, up to flips and permutations of the axes."""

    name: str = ""
    """What tells it from the others; empty where it is the only one."""
    prediction: Segmentation
    reference: Segmentation
    compared: Segmentation | None = None
    """The prediction of another method."""
    image: Volume | None = None
    """Measured inside the labels."""
    probabilities: Volume | None = None
    """A channel per label, as `calibrate` takes it."""
    raters: Mapping[str, Segmentation] = field(default_factory=dict)
    """All readers of the case by name, the reference among them; their agreement is measured where there are two."""
    rater_rows: tuple[RaterRow, ...] = ()
    """What STAPLE thinks of the readers, where it made the reference."""

    def __post_init__(self) -> None:
        """Raise GridMismatchError, naming the image, unless all lie on the reference's grid; InputError for arrays."""
        require_segmentation(self.prediction, "the prediction")
        require_segmentation(self.reference, "the reference")
        labels = {"the prediction": self.prediction, "the compared prediction": self.compared, **self.raters}
        images = {"the image": self.image, "the probabilities": self.probabilities}
        for role, other in (*labels.items(), *images.items()):
            if other is not None:
                require = require_segmentation if role in labels else require_volume
                require(other, role)
                require_order_onto(other, self.reference, role, "the reference")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What is measured beside the scores, and how."""

    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    regions: RegionsConfig = field(default_factory=RegionsConfig)
    """Which labels are measured as one. Regions that share labels get scores; all else is of the first of them."""
    instances: InstancesConfig | None = None
    """How instances are matched; None: they are not."""
    shape: bool = False
    """Measure size and shape of the labels of reference and prediction."""
    series: bool = False
    """The cases are time points of one patient, in their order."""
    raters: RatersConfig = field(default_factory=RatersConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What `measure` finds in one case."""

    name: str
    scores: Scores
    compared: Scores | None
    rows: Mapping[str, Sequence[Any]]
    """{name of a table: its rows}."""
    in_pixels: bool = False
    """Whether nothing says how large a pixel is, and each counts as 1 mm."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The scores of all cases, and the further tables."""

    scores: Scores
    tables: tuple[Table, ...]
    settings: tuple[Setting, ...] = ()
    """How the scores were made, beside the settings that they hold."""


@dataclass(frozen=True, kw_only=True)
class FailedRow:
    """A case that was not measured; no other table has it."""

    case: str
    """Name of the case."""
    reason: str
    """What was wrong with it."""


def measure(case: CaseImages, config: StudyConfig | None = None, **knobs: Any) -> Measured:
    """Measure one case. Raises as each measure does."""
    chosen = configured(StudyConfig, config, knobs)
    seen = in_regions(case, chosen.regions)
    return Measured(
        name=case.name,
        scores=_scores(case.prediction, case.reference, chosen),
        compared=None if case.compared is None else _scores(case.compared, case.reference, chosen),
        rows={**_instance_rows(seen, chosen), **_label_rows(seen, chosen), **_rater_rows(seen)},
        in_pixels=case.reference.grid.in_pixels,
    )


def in_regions(case: CaseImages, config: RegionsConfig) -> CaseImages:
    """The case with regions in place of the labels in them; of regions that share labels the first ones."""
    first = passes(config)[0]
    if not first.regions:
        return case
    if case.probabilities is not None:
        raise InputError("calibration needs the labels that the channels of the probabilities are of: merge none")
    return replace(
        case,
        prediction=first.of(case.prediction),
        reference=first.of(case.reference),
        compared=None if case.compared is None else first.of(case.compared),
        raters={who: first.of(labels) for who, labels in case.raters.items()},
    )


def with_consensus(case: CaseImages, method: Consensus) -> CaseImages:
    """The case with the consensus of its raters as reference; unchanged for fewer than two raters, or "none"."""
    if method == "none" or len(case.raters) < 2:
        return case
    if method == "vote":
        return replace(case, reference=majority_vote(list(case.raters.values())))
    consensus = staple(case.raters)
    return replace(case, reference=consensus.segmentation, rater_rows=consensus.raters)


def study_of(
    measured: Sequence[Measured],
    config: StudyConfig | None = None,
    failed: Mapping[str, str] | None = None,
    **knobs: Any,
) -> Study:
    """The scores and tables of all cases together; of a single case without a name, its own scores.

    failed: {name of a case that was not measured: why}; it becomes the first table.
    """
    chosen = configured(StudyConfig, config, knobs)
    single = len(measured) == 1 and not measured[0].name
    combined = combine([(m.name, m.scores) for m in measured])
    rows = {name: [replace(row, case=m.name) for m in measured for row in m.rows.get(name, ())] for name in TABLES}
    if not single:
        of_instances = summarise_instances(rows["instances"], chosen.statistics)
        rows["statistics"] = [*summarise(combined, chosen.statistics), *of_instances]
        rows["instances_pooled"] = list(pooled(rows["instances"]))
        rows["volumes"] = list(volume_agreement(combined))
    if chosen.series:
        rows["series_reference"], rows["series_prediction"] = _series(combined)
    settings = _settings(
        replace(chosen, metrics=combined.config),
        has_raters=bool(rows["agreement"]),
        in_pixels=any(m.in_pixels for m in measured),
    )
    extra = []
    compared = [(m.name, m.compared) for m in measured if m.compared is not None]
    if compared:
        others = combine(compared)
        rows["comparison"] = list(compare(combined, others, chosen.statistics))
        table = scores_table(others, settings["scores"])
        extra = [replace(table, name="compared", title="Scores of the compared method")]
    tables = [
        table_of(rows[name], kind, name=name, title=title, settings=settings[name])
        for name, (kind, title) in TABLES.items()
        if rows[name]
    ]
    return Study(
        scores=measured[0].scores if single else combined,
        tables=(*_failed(failed or {}), *tables, *extra),
        settings=settings["scores"],
    )


def _settings(config: StudyConfig, *, has_raters: bool, in_pixels: bool) -> dict[str, tuple[Setting, ...]]:
    """{name of a table: its settings}; "scores" has those that the scores do not hold."""
    of = {
        "metrics": metrics_settings(config.metrics),
        "regions": regions_settings(config.regions),
        "raters": raters_settings(config.raters) if has_raters else (),
        "instances": instances_settings(config.instances) if config.instances else (),
        "calibration": calibration_settings(config.calibration),
        "statistics": statistics_settings(config.statistics),
    }
    always = pixel_settings() if in_pixels else ()
    followed = {name: _FOLLOWED.get(name, ("regions",)) for name in TABLES} | {"scores": ("regions", "raters")}
    return {name: (*(s for part in parts for s in of[part]), *always) for name, parts in followed.items()}


def _failed(failed: Mapping[str, str]) -> Iterator[Table]:
    if failed:
        rows = [FailedRow(case=case, reason=reason) for case, reason in failed.items()]
        yield table_of(rows, FailedRow, name="failed", title="Cases that were not measured")


def _scores(prediction: Segmentation, reference: Segmentation, config: StudyConfig) -> Scores:
    regions = config.regions
    return evaluate(
        prediction=prediction,
        reference=reference,
        config=config.metrics,
        merge=regions.merge,
        foreground=regions.foreground,
    )


def _instance_rows(case: CaseImages, config: StudyConfig) -> dict[str, Sequence[Any]]:
    if config.instances is None:
        return {}
    found = match_instances(prediction=case.prediction, reference=case.reference, config=config.instances)
    return {"instances": found.rows, "pairs": found.pairs}


def _label_rows(case: CaseImages, config: StudyConfig) -> dict[str, Sequence[Any]]:
    """Shapes, intensities and calibration, as far as the case has images for them."""
    rows: dict[str, Sequence[Any]] = {}
    if config.shape:
        rows["shape_reference"] = shape_statistics(case.reference)
        rows["shape_prediction"] = shape_statistics(case.prediction)
    if case.image is not None:
        rows["intensities"] = intensity_statistics(case.reference, case.image)
    if case.probabilities is not None:
        p = case.probabilities
        ids = channel_ids(p.channels, case.reference, case.prediction)
        held = calibrate(probabilities=p, reference=case.reference, labels=ids, config=config.calibration)
        rows["calibration"], rows["reliability"] = held.rows, held.reliability
    return rows


def _rater_rows(case: CaseImages) -> dict[str, Sequence[Any]]:
    """The agreement of the raters among themselves, and of the prediction with each of them."""
    if len(case.raters) < 2:
        return {}
    names = case.reference.labels
    among = agreement_of(case.raters, names)
    beside = (agreement_of({PREDICTION: case.prediction, who: it}, names).pairs for who, it in case.raters.items())
    return {
        "agreement": among.rows,
        "reader_pairs": [*among.pairs, *itertools.chain.from_iterable(beside)],
        "staple": case.rater_rows,
    }


def _series(scores: Scores) -> tuple[list[SeriesRow], list[SeriesRow]]:
    """(series of the reference, of the prediction); the cases are the time points."""
    names = {row.label: row.name for row in reversed(scores.rows)}
    found = []
    for column in ("volume_reference_ml", "volume_prediction_ml"):
        volumes: dict[str, dict[int, float]] = {case: {} for case in scores.cases}
        for row in scores.rows:
            volumes[row.case][row.label] = getattr(row, column)
        found.append(list(series_rows(volumes, names)))
    return found[0], found[1]
