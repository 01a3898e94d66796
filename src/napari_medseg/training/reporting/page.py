"""The report of a training in one HTML file: curves, slices, scores of each label, the plan, versions.

The page is `run.html.jinja`. As the report of scores, it runs and loads nothing, and its pictures are inside.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_medseg._version import __version__
from napari_medseg.events import MadeUp
from napari_medseg.metrics.reports.html import Figure, figure_of, plot, template
from napari_medseg.metrics.reports.plots import draw_reliability
from napari_medseg.models.file import Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.trust import Trust, ece_of
from napari_medseg.training.reporting.log import Row, RunLog
from napari_medseg.training.reporting.samples import Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1000
"""Points of a curve; the steps between are left out."""
_SMOOTHED = 50
"""Steps whose mean is drawn over the loss."""
_NOTICES = 200
_LOSS, _MEAN = "#9ecae9", "#0072B2"
_MADE_UP = "#009E73"
_COLUMNS = ("dice", "iou", "nsd", "asd_mm", "hd95_mm", "rvd")
"""The columns of the scores in the page; the log has the rest of the Dice."""


def run_page(log: RunLog, model: Model, samples: Samples | None) -> str:
    """The page as text."""
    record = model.spec.training
    summary = f"{record.cases} cases, {record.epochs:.3g} epochs in {record.minutes:.1f} minutes, seed {record.seed}."
    return template("napari_medseg.training.reporting", "run.html.jinja").render(
        name=model.path.name,
        summary=summary,
        version=__version__,
        plans=log.plans,
        curves=list(_curves(log, model.spec)),
        reliability=list(_reliability(model.spec.trust)),
        trust=_trust_in_words(model.spec.trust),
        scores=[] if samples is None else list(_means(samples)),
        columns={} if samples is None else {name: samples.scores.definitions[name] for name in _COLUMNS},
        cases=0 if samples is None else len(samples.scores.cases),
        of=0 if samples is None else samples.of,
        pictures=[] if samples is None else [figure_of(picture) for picture in samples.pictures],
        made_up=[plot(partial(_draw_made_up, made=made), 2.6, made.caption) for made in log.made_up],
        notices=log.notices[:_NOTICES],
        plan=dict(_plan(model.spec)),
        versions={**record.versions, "Python": platform.python_version(), "system": platform.platform()},
    )


def _curves(log: RunLog, spec: ModelSpec) -> Iterator[Figure]:
    for stage in sorted({row.stage for row in log.rows}):
        rows = [row for row in log.rows if row.stage == stage]
        which = f" of stage {stage}" if len(log.plans) > 1 else ""
        yield plot(partial(_draw_losses, rows=rows), 3.0, f"loss{which}, and its mean over {_SMOOTHED} steps")
        if any(row.dice for row in rows):
            yield plot(partial(_draw_dice, rows=rows, labels=spec.labels), 3.0, f"validation Dice{which}")


def _reliability(trust: Trust) -> Iterator[Figure]:
    if trust.after:
        lines = {
            f"temperature 1, ECE {ece_of(trust.before):.4f}": trust.before,
            f"temperature {trust.temperature:.3g}, ECE {ece_of(trust.after):.4f}": trust.after,
        }
        yield plot(partial(draw_reliability, bins=lines), 3.4, "reliability of the validation's probabilities")


def _trust_in_words(trust: Trust) -> str:
    if trust.dice is None:
        return "Too few cases validate to say what Dice a case without a reference may have."
    line = trust.dice
    return (
        f"A case without a reference has an expected Dice of {line.intercept:.3f} + {line.slope:.3f} x its soft Dice "
        f"+ {line.per_volume:.3f} x log(its ml) + {line.per_sure:.3f} x its share of sure voxels; each of the "
        f"{line.cases} validation cases lies {line.spread:.3f} around what the others say of it."
    )


def _draw_losses(axes: Axes, rows: list[Row]) -> None:
    steps = [(row.step, row.loss) for row in rows if not row.dice and math.isfinite(row.loss)]
    every = max(1, len(steps) // _POINTS)
    axes.plot(*_columns(steps[::every]), color=_LOSS, linewidth=0.8)
    means = [
        (block[-1][0], sum(loss for _, loss in block) / len(block))
        for block in (steps[at : at + _SMOOTHED] for at in range(0, len(steps), _SMOOTHED))
    ]
    axes.plot(*_columns(means), color=_MEAN, linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")


def _draw_dice(axes: Axes, rows: list[Row], labels: Mapping[int, str]) -> None:
    validated = [row for row in rows if row.dice]
    for label in sorted({label for row in validated for label in row.dice}):
        points = [(row.step, row.dice[label]) for row in validated if label in row.dice]
        axes.plot(*_columns(points), marker="o", markersize=3, label=labels.get(label, f"label {label}")[:28])
    axes.plot(*_columns([(row.step, row.dice_mean) for row in validated]), color="black", label="mean", linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_ylabel("Dice")
    axes.legend(fontsize=8)


def _draw_made_up(axes: Axes, made: MadeUp) -> None:
    axes.set_axis_off()
    axes.imshow(made.image, cmap="gray")
    for label in sorted(set(made.labels.ravel().tolist()) - {0}):
        axes.contour(made.labels == label, levels=[0.5], colors=_MADE_UP, linewidths=1.2)


def _columns(points: list[tuple[int, float]]) -> Any:
    return zip(*points, strict=True) if points else ([], [])


def _means(samples: Samples) -> Iterator[tuple[str, dict[str, float]]]:
    """(label, its means over the cases), then the means over all rows."""
    for label in sorted({row.label for row in samples.scores.rows}):
        of_label = samples.scores.of_label(label)
        yield f"{label} {of_label.rows[0].name}", {name: of_label.mean[name] for name in _COLUMNS}
    yield "mean", {name: samples.scores.mean[name] for name in _COLUMNS}


def _plan(spec: ModelSpec) -> Iterator[tuple[str, str]]:
    yield "network", f"{spec.network}, mode {spec.mode}"
    yield "arguments", ", ".join(f"{name} {value}" for name, value in spec.arguments.items())
    yield "patch (z, y, x)", " x ".join(map(str, spec.patch_zyx))
    yield "spacing (z, y, x)", f"{', '.join(f'{s:.4g}' for s in spec.spacing_zyx_mm or ())} mm"
    yield "orientation", str(spec.orientation)
    for channel, rule in zip(spec.channels, spec.normalisation, strict=True):
        numbers = (
            "" if rule.low is None else f": {rule.low:.4g} to {rule.high:.4g}, mean {rule.mean:.4g}, std {rule.std:.4g}"
        )
        yield f"channel {channel.name}", f"{channel.modality}, {rule.kind}{numbers}"
    for label, name in spec.labels.items():
        share = spec.training.fingerprint.get(f"fraction_label_{label}")
        yield f"label {label}", name if share is None else f"{name} ({100 * share:.3g} % of the voxels)"
    if spec.first is not None:
        yield "first stage", f"{spec.first.model.network}, guide {spec.first.guide}"
