"""Scores over cases: their spread, the comparison of two methods, and the agreement of volumes.

In the spread only finite values count, and every row holds their number: a method that misses a label has an infinite
distance there. Two methods are compared by ranks. Infinity has a rank, so that the comparison leaves out undefined
values only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import scipy

from napari_medseg.config import StatisticsConfig, configured
from napari_medseg.errors import InputError, UnknownNameError, did_you_mean
from napari_medseg.geometry import FloatArray
from napari_medseg.metrics.pairwise.columns import COLUMNS
from napari_medseg.metrics.pairwise.instances import InstanceRow
from napari_medseg.metrics.pairwise.scores import Row, Scores, absent

AnyRow = TypeVar("AnyRow", Row, InstanceRow)

NORMAL_95 = 1.96
"""Standard deviations around the mean that hold 95 % of a normal distribution."""
INSTANCE_METRICS = ("recall", "precision", "f1", "sq", "pq", "lesion_dice")
"""The columns of instances that judge a segmentation."""
_BATCH = 1000
"""Resamples in memory at once."""
_DECIMALS = 12
"""Decimals in which differences are compared, so that equal scores tie in spite of rounding."""
_ROUNDING = 1e-12
"""Values that differ by no more than this fraction are equal but for rounding."""


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One metric of one label over the cases."""

    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    metric: str
    """The column of the scores."""
    cases: int
    """Cases in which the value is finite; the others count nowhere in this row."""
    left_out: int
    """Cases in which it is not."""
    mean: float
    """Mean over the cases."""
    mean_low: float
    """Lower end of the mean's confidence interval: bootstrap over cases, BCa (Efron, JASA 1987)."""
    mean_high: float
    """Its upper end."""
    sd: float
    """Standard deviation over the cases (divided by n - 1)."""
    median: float
    """Median over the cases."""
    q1: float
    """25th percentile over the cases; the interquartile range is q3 - q1."""
    q3: float
    """75th percentile over the cases."""


@dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """One metric of one label, of two methods on the same cases."""

    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    metric: str
    """The column of the scores."""
    cases: int
    """Cases that have the label in the reference or in either prediction, and in which both values are defined."""
    left_out: int
    """Cases in which one of them is not, such as RVD of an empty reference or the precision of an empty prediction."""
    median: float
    """Median of the prediction's values over these cases; of RVD, which is best at 0, this and all that follows is of
    the magnitudes."""
    median_compared: float
    """Median of the compared method's values over the same cases."""
    difference: float
    """Median of the differences, prediction - compared, case by case; two infinite values do not differ."""
    low: float
    """Lower end of that median's confidence interval: bootstrap over cases, percentiles."""
    high: float
    """Its upper end."""
    p: float
    """Wilcoxon signed-rank test, two-sided, cases without a difference left out (Wilcoxon 1945)."""
    p_holm: float
    """p after Holm's correction over all rows of this table (Holm 1979)."""
    better: str
    """Which method the median difference speaks for, whatever p is: prediction, compared or neither."""


@dataclass(frozen=True, kw_only=True)
class VolumeAgreementRow:
    """How the volumes of one label agree over the cases (Bland and Altman 1986, doi:10.1016/S0140-6736(86)90837-8)."""

    label: int
    """Id of the label."""
    name: str
    """Name of the label."""
    cases: int
    """Cases that have the label in reference or prediction."""
    bias_ml: float
    """Mean of the differences, prediction - reference."""
    sd_ml: float
    """Standard deviation of the differences (divided by n - 1)."""
    lower_ml: float
    """Lower limit of agreement, bias - 1.96 sd."""
    upper_ml: float
    """Upper limit of agreement, bias + 1.96 sd."""


def judged_metrics() -> tuple[str, ...]:
    """The columns of the scores that judge a segmentation: those where higher, lower or zero is better."""
    return tuple(f.name for f in fields(Row) if COLUMNS[f.name].better)


def compared_metrics(config: StatisticsConfig) -> tuple[str, ...]:
    """The columns that `compare` compares: the chosen ones, else `judged_metrics`. UnknownNameError for other names."""
    known = judged_metrics()
    chosen = known if config.metrics is None else tuple(dict.fromkeys(config.metrics))
    for metric in chosen:
        if metric not in known:
            meant = did_you_mean(metric, known)
            raise UnknownNameError(f"no metric is called {metric!r}; {meant}methods are compared by {', '.join(known)}")
    return chosen


def summarise(scores: Scores, config: StatisticsConfig | None = None, **knobs: Any) -> tuple[SummaryRow, ...]:
    """A row for each label and metric of combined scores (`combine`), labels ascending."""
    chosen = configured(StatisticsConfig, config, knobs)
    return tuple(
        _summary([getattr(row, metric) for row in rows], chosen, label=label, name=name, metric=metric)
        for label, name, rows in _by_label(scores.rows)
        for metric in judged_metrics()
    )


def summarise_instances(
    rows: Sequence[InstanceRow], config: StatisticsConfig | None = None, **knobs: Any
) -> tuple[SummaryRow, ...]:
    """The same for the metrics of instances. Their names hold the threshold: "f1, IoU above 0.5"."""
    chosen = configured(StatisticsConfig, config, knobs)
    return tuple(
        _summary(
            [getattr(row, metric) for row in of_label if row.iou_above == threshold],
            chosen,
            label=label,
            name=name,
            metric=f"{metric}, IoU above {threshold:g}",
        )
        for label, name, of_label in _by_label(rows)
        for threshold in dict.fromkeys(row.iou_above for row in of_label)
        for metric in INSTANCE_METRICS
    )


def compare(
    scores: Scores, compared: Scores, config: StatisticsConfig | None = None, **knobs: Any
) -> tuple[DifferenceRow, ...]:
    """A row for each label and metric of two methods' combined scores, paired by case.

    Where neither reference nor prediction has a label, the preset's rule for two empty masks holds (survey and chaos:
    Dice 1, distances 0). So a false positive of the other method counts against it. Infinite distances are worse than
    all others. An undefined value leaves the case out of both methods; `left_out` counts these cases. Metrics that are
    best at 0, such as RVD, are compared by their magnitudes.

    The metrics are those of `StatisticsConfig.metrics`, by default `judged_metrics`. Holm's correction is over all
    rows: labels times metrics. Raises InputError where the two share no case, or follow different definitions or
    references, UnknownNameError for an unknown metric.
    """
    if scores.config != compared.config:
        raise InputError(f"compared scores need the same definitions; got {scores.config} and {compared.config}")
    common = [case for case in scores.cases if case in compared.cases]
    if not common:
        raise InputError("compared scores need cases of the same names: combine each method's with their names")
    chosen = configured(StatisticsConfig, config, knobs)
    metrics = compared_metrics(chosen)
    labels = [(label, name) for label, name, _ in _by_label((*scores.rows, *compared.rows))]
    paired = [(label, name, _paired(scores, compared, label, common)) for label, name in labels]
    rows = [
        _difference(pairs, chosen, label=label, name=name, metric=metric)
        for label, name, pairs in paired
        for metric in metrics
    ]
    corrected = holm([row.p for row in rows])
    return tuple(replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values after Holm's step-down correction (Scandinavian Journal of Statistics 1979); NaN stands for no test."""
    p = np.array(p_values, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    steps = p[order] * np.arange(len(order), 0, -1)
    p[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(v) for v in p]


def volume_agreement(scores: Scores) -> tuple[VolumeAgreementRow, ...]:
    """A row for each label of combined scores: bias and limits of agreement of its volumes."""
    rows = []
    for label, name, of_label in _by_label(scores.rows):
        differences = np.array([row.volume_prediction_ml - row.volume_reference_ml for row in of_label])
        bias, sd = float(differences.mean()), _sd(differences)
        rows.append(
            VolumeAgreementRow(
                label=label,
                name=name,
                cases=len(of_label),
                bias_ml=bias,
                sd_ml=sd,
                lower_ml=bias - NORMAL_95 * sd,
                upper_ml=bias + NORMAL_95 * sd,
            )
        )
    return tuple(rows)


def bootstrap_interval(
    values: FloatArray, statistic: Callable[..., Any], config: StatisticsConfig
) -> tuple[float, float]:
    """The BCa confidence interval of a statistic over cases; NaN for fewer than two cases or no resamples.

    values: (cases,), finite. The seed makes it the same at every call.
    """
    if len(values) < 2 or not config.bootstrap:
        return math.nan, math.nan
    low, high = float(values.min()), float(values.max())
    if high - low <= _ROUNDING * max(abs(low), abs(high)):  # every resample is the same, and BCa has no interval
        return low, high
    found = scipy.stats.bootstrap(
        (values,),
        statistic,
        n_resamples=config.bootstrap,
        batch=_BATCH,
        confidence_level=config.confidence,
        random_state=np.random.default_rng(config.seed),  # `rng` is not known before scipy 1.15
    ).confidence_interval
    return float(found.low), float(found.high)


def median_interval(values: FloatArray, config: StatisticsConfig) -> tuple[float, float]:
    """The percentile confidence interval of a median over cases; NaN for fewer than two cases or no resamples.

    values: (cases,), may be infinite. The ends are medians of resamples, not interpolated: between infinities there is
    nothing to interpolate. The seed makes it the same at every call.
    """
    cases = len(values)
    if cases < 2 or not config.bootstrap:
        return math.nan, math.nan
    rng = np.random.default_rng(config.seed)
    batches = (min(_BATCH, config.bootstrap - done) for done in range(0, config.bootstrap, _BATCH))
    medians = np.sort(np.concatenate([_median(values[rng.integers(0, cases, (n, cases))]) for n in batches]))
    beyond = (1 - config.confidence) / 2 * (config.bootstrap - 1)
    return float(medians[math.floor(beyond)]), float(medians[-1 - math.floor(beyond)])


def _summary(of_cases: Sequence[float], config: StatisticsConfig, *, label: int, name: str, metric: str) -> SummaryRow:
    values = np.array(of_cases, dtype=float)
    finite = values[np.isfinite(values)]
    low, high = bootstrap_interval(finite, np.mean, config)
    q1, median, q3 = np.percentile(finite, (25, 50, 75)).tolist() if len(finite) else (math.nan,) * 3
    return SummaryRow(
        label=label,
        name=name,
        metric=metric,
        cases=len(finite),
        left_out=len(values) - len(finite),
        mean=float(finite.mean()) if len(finite) else math.nan,
        mean_low=low,
        mean_high=high,
        sd=_sd(finite),
        median=median,
        q1=q1,
        q3=q3,
    )


def _paired(scores: Scores, compared: Scores, label: int, cases: Sequence[str]) -> list[tuple[Row, Row]]:
    """A label's rows of both methods, for each case where the reference or a prediction has the label."""
    nowhere = absent(label, scores.config)
    first, second = ({row.case: row for row in of.rows if row.label == label} for of in (scores, compared))
    present = first.keys() | second.keys()
    return [_pair(first.get(case), second.get(case), nowhere) for case in cases if case in present]


def _pair(first: Row | None, second: Row | None, nowhere: Row) -> tuple[Row, Row]:
    """The rows of one case. A method without a row predicted nothing, and the reference has nothing."""
    rows = [row for row in (first, second) if row]
    if len(rows) == 1 and rows[0].voxels_reference:
        raise InputError(
            f"compared scores need the same references; that of {rows[0].case!r} has {rows[0].name!r} for one method "
            f"only: measure both predictions against one file"
        )
    return first or nowhere, second or nowhere


def _difference(
    pairs: Sequence[tuple[Row, Row]], config: StatisticsConfig, *, label: int, name: str, metric: str
) -> DifferenceRow:
    values = np.array([[getattr(row, metric) for row in pair] for pair in pairs], dtype=float).reshape(-1, 2)
    a, b = (np.abs(values) if COLUMNS[metric].better == "zero" else values)[~np.isnan(values).any(axis=1)].T
    differences = _minus(a, b)
    difference = float(_median(differences))
    low, high = median_interval(differences, config)
    return DifferenceRow(
        label=label,
        name=name,
        metric=metric,
        cases=len(differences),
        left_out=len(pairs) - len(differences),
        median=float(_median(a)),
        median_compared=float(_median(b)),
        difference=difference,
        low=low,
        high=high,
        p=wilcoxon(differences),
        p_holm=math.nan,
        better=_better(metric, difference),
    )


def wilcoxon(differences: FloatArray) -> float:
    """The two-sided p value of the signed-rank test; 1 where no case differs, NaN without cases.

    differences: (cases,); infinite ones have the highest rank.
    """
    if not len(differences):
        return math.nan
    # The test depends on ranks only. Given ranks instead of values, SciPy meets no infinities.
    ranks = np.sign(differences) * scipy.stats.rankdata(np.abs(differences))
    return float(scipy.stats.wilcoxon(ranks).pvalue) if ranks.any() else 1.0


def _better(metric: str, difference: float) -> str:
    """Which method the median difference favours. Where higher is not better, a negative difference is a gain."""
    gain = difference if COLUMNS[metric].better == "higher" else -difference
    return "prediction" if gain > 0 else "compared" if gain < 0 else "neither"


def _minus(first: FloatArray, second: FloatArray) -> FloatArray:
    """first - second; two equal infinities do not differ."""
    with np.errstate(invalid="ignore"):
        return np.where(first == second, 0.0, np.round(first - second, _DECIMALS))


def _by_label(rows: Sequence[AnyRow]) -> Iterable[tuple[int, str, list[AnyRow]]]:
    """Yield (label, name, its rows), labels ascending; the name is that of the first row."""
    for label in sorted({row.label for row in rows}):
        of_label = [row for row in rows if row.label == label]
        yield label, of_label[0].name, of_label


def _median(values: FloatArray) -> FloatArray:
    """Along the last axis, without NaN in it; NaN for no values. The middle of -inf and inf is 0, as for -x and x."""
    if not values.shape[-1]:
        return np.full(values.shape[:-1], math.nan)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.median(values, axis=-1), nan=0.0, posinf=math.inf, neginf=-math.inf)


def _sd(values: FloatArray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
