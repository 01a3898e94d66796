"""A training whose events also become its log, its report and what trackers show."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from napari_medseg.cases import Case
from napari_medseg.config import TrainConfig
from napari_medseg.errors import MedsegError
from napari_medseg.events import Event, Finished, Notice, Started, Validated
from napari_medseg.inference.engine import SEGMENTS
from napari_medseg.io.disk.files import make_folder, replace_bytes
from napari_medseg.models.file import Model, load_model
from napari_medseg.registry import network
from napari_medseg.training.loop import ShouldStop
from napari_medseg.training.reporting.log import Row, RunLog, rows_of
from napari_medseg.training.reporting.samples import sampling
from napari_medseg.training.reporting.trackers import Tracking, require_tracker, tracking_of
from napari_medseg.training.saving.checkpoint import Checkpoints
from napari_medseg.training.saving.earlier import folder_of

_LOG = "log.csv"
_LEAST_SECONDS = 5.0
_SHARE = 0.05
"""Seconds that segmenting validation cases for the report may take: this share of the training, but at least those."""
_LEFT_OUT = (
    "the report shows no validation case: to segment and measure one takes more than {seconds:.3g} s, which is "
    "{share:.0%} of the training, or {least:.0f} s; `napari-medseg segment` and `napari-medseg evaluate -o x.html` "
    "show one"
)


def reported(
    events: Generator[Event, None, None],
    cases: Sequence[Case],
    out: Path,
    config: TrainConfig,
    should_stop: ShouldStop,
) -> Generator[Event, None, None]:
    """Pass the events on, and leave log.csv and report.html in the folder of the training. cases: those that validate.

    A training that is resumed goes on in its log; one that was over keeps its log and its report. A report that cannot
    be written is told by a Notice: the model is there.
    """
    require_tracker(config.reporting.tracker)
    log, finished = RunLog(), None
    tracking: Tracking | None = None
    with contextlib.closing(events), contextlib.ExitStack() as stack:
        for event in events:
            if isinstance(event, Finished):
                finished = event
                break
            if isinstance(event, Started) and not log.plans:  # what lies in the folder from here on is of this training
                yield from _go_on(log, out)
                tracking = tracking_of(config.reporting.tracker, out.stem, folder_of(out))
                stack.callback(tracking.close if tracking is not None else lambda: None)
            row = log.add(event)
            if row is not None and tracking is not None:
                tracking.log(row.step, _numbers(row))
            yield event
            if isinstance(event, Validated):
                _write_log(log, out, {})
    assert finished is not None, "a training ends with Finished"
    model: Model = finished.result
    try:
        if log.plans:
            yield from _report(log, model, cases if _segments(model) and not should_stop() else [], config)
    except (MedsegError, OSError) as error:
        yield Notice(f"the report was not written: {error}")
    yield finished


def _segments(model: Model) -> bool:
    """Whether the model segments an image by itself, so that samples of it can be shown."""
    return model.spec.refines is None and network(model.spec.network).takes in SEGMENTS


def _go_on(log: RunLog, out: Path) -> Iterator[Event]:
    """Take over the log of the run that this one resumes, if there is one."""
    path = folder_of(out) / _LOG
    if not path.exists():
        return
    try:
        log.resume(rows_of(path.read_text(), load_model(Checkpoints(out).last_path).spec.labels))
    except (MedsegError, OSError, LookupError, ValueError) as error:
        yield Notice(f"{path}: cannot be read ({error}): the log begins anew")


def _report(log: RunLog, model: Model, cases: Sequence[Case], config: TrainConfig) -> Iterator[Event]:
    from napari_medseg.training.reporting.page import run_page

    _write_log(log, model.path, model.spec.labels)
    seconds = max(_LEAST_SECONDS, _SHARE * log.seconds)
    samples = yield from sampling(cases, model, config, seconds)
    if cases and samples is None:
        left_out = Notice(_LEFT_OUT.format(seconds=seconds, share=_SHARE, least=_LEAST_SECONDS))
        log.add(left_out)
        yield left_out
    page = run_page(log, model, samples)
    replace_bytes(folder_of(model.path) / "report.html", page.encode(errors="backslashreplace"))


def _write_log(log: RunLog, out: Path, labels: Mapping[int, str]) -> None:
    make_folder(folder_of(out))
    replace_bytes(folder_of(out) / _LOG, log.csv(labels))


def _numbers(row: Row) -> dict[str, float]:
    """The numbers of a row that are there."""
    if row.dice:
        return {"dice_mean": row.dice_mean, **{f"dice_{label}": dice for label, dice in row.dice.items()}}
    loss = {"loss": row.loss} if math.isfinite(row.loss) else {}
    return {**loss, "learning_rate": row.learning_rate}
