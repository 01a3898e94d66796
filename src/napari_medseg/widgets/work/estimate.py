"""What a run would take, shown before it: worked out in the background while the user chooses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_medseg.errors import MedsegError
from napari_medseg.widgets.fields.forms import caption, tell, warning_line
from napari_medseg.widgets.work.background import SETTLED_MS, Background
from napari_medseg.widgets.work.progress_row import duration

if TYPE_CHECKING:
    from napari_medseg.config import SegmentConfig
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.runs.pace import Pace
    from napari_medseg.models.file import Model
    from napari_medseg.models.several import ModelSet
    from napari_medseg.volume import Volume

    Question = tuple[Volume, Model | ModelSet, SegmentConfig]

_DEVICES = {"cpu": "this CPU"}
"""{device: what users call it}; all others are a GPU."""


@dataclass(frozen=True)
class Part:
    """What one model does in a run: all of it, or a part of the work of a set."""

    model: Model
    plan: InferencePlan
    pace: Pace


@dataclass(frozen=True)
class Outlook:
    """What is known of a run before it."""

    parts: tuple[Part, ...]
    doubts: tuple[str, ...] = ()
    """Signs that the model was not made for the image."""

    @property
    def device(self) -> str:
        return self.parts[0].plan.device

    def describe(self) -> str:
        """A line for each model."""
        return "\n".join(part.plan.describe() for part in self.parts)


class Estimate(QWidget):
    """How long a run takes, or why the choices do not go together; doubts about the model, on yellow.

    The tooltip has device, windows and memory. The time is that of an earlier run of a model at the same pace, or of
    one window, which is measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text, self.doubts = caption(), warning_line()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.doubts)
        layout.addWidget(self.text)
        self._question: Question | None = None
        self._paces: dict[Pace, float] = {}
        self._background = Background(self)
        self._work_soon = qdebounced(self._work, timeout=SETTLED_MS, parent=self)

    def ask(self, volume: Volume, model: Model | ModelSet, config: SegmentConfig) -> None:
        """Estimate this run once nothing was asked for a moment: a spin box that is turned asks many times."""
        before, self._question = self._question, (volume, model, config)
        if before is None or before[0].name != volume.name or before[1] is not model:
            self._tell("")  # what is shown is about another image or model
        self._work_soon()

    def clear(self, text: str = "") -> None:
        """Show this text and estimate nothing."""
        self._work_soon.cancel()
        self._question = None
        self._tell(text)

    def pause(self) -> None:
        """Measure nothing more while a run needs the device; what is shown stays."""
        self._work_soon.cancel()
        self._background.runner.cancel()

    def learn(self, model: Model, plan: InferencePlan, seconds: float) -> None:
        """Remember how long a whole run took, for the runs to come."""
        self._paces[_pace_of(model, plan)] = seconds / max(1, len(plan.windows))

    def _tell(self, text: str, doubts: str = "", plan: str = "") -> None:
        self.text.setText(text)
        self.text.setToolTip(plan)
        tell(self.doubts, doubts)

    def _work(self) -> None:
        assert self._question is not None, "without a question nothing is waited for"
        self._background.ask(partial(_outlook, self._question), partial(self._show, self._question))

    def _show(self, question: Question, found: Outlook | str) -> None:
        if question is not self._question:
            return  # the user changed a choice meanwhile
        if isinstance(found, str):
            self._tell(found)
            return
        doubts = "\n".join(f"Check: {doubt}." for doubt in found.doubts)
        self._tell("measuring how long it takes…", doubts, found.describe())
        new = [part for part in found.parts if part.pace not in self._paces]
        known = sum(self._paces.get(part.pace, 0.0) * len(part.plan.windows) for part in found.parts)
        if new:
            self._background.ask(partial(_seconds, new), partial(self._show_seconds, question, found.device, known))
        else:
            self._show_seconds(question, found.device, known, 0.0)

    def _show_seconds(self, question: Question, device: str, known: float, measured: float | str) -> None:
        if question is self._question:
            self.text.setText(measured if isinstance(measured, str) else about_seconds(known + measured, device))


def about_seconds(seconds: float, device: str) -> str:
    """ "about 20 s on this CPU": rounded, because it is an estimate."""
    rounded = 5 * round(seconds / 5) if seconds > 20 else max(1, round(seconds))
    return f"about {duration(rounded)} on {_DEVICES.get(device, 'this GPU')}"


def devices_seen() -> tuple[str, ...]:
    """In the worker: the devices that a user can choose here."""
    from napari_medseg.inference.torch_library import preload

    preload()
    from napari_medseg.inference.device import Devices

    return Devices.seen().names


def _pace_of(model: Model, plan: InferencePlan) -> Pace:
    from napari_medseg.inference.runs.pace import pace_of

    return pace_of(model, plan)


def _outlook(question: Question) -> Outlook | str:
    """In the worker, which is also where torch is first loaded."""
    from napari_medseg.inference.torch_library import preload

    preload()
    from napari_medseg.inference.runs.pace import pace_of, plan_for
    from napari_medseg.inference.source.absent import completed
    from napari_medseg.inference.suitability import ImageSample, doubts_about
    from napari_medseg.models.several import models_of

    volume, chosen, config = question
    parts, doubts = list[Part](), dict[str, None]()
    try:
        for model in models_of(chosen):
            plan = plan_for(volume, model, config)
            parts.append(Part(model, plan, pace_of(model, plan)))
            whole, spec = completed(volume, model.spec, config.missing)
            doubts |= dict.fromkeys(doubts_about(ImageSample.of(whole, spec), spec))
    except MedsegError as error:
        return str(error)
    return Outlook(tuple(parts), tuple(doubts))


def _seconds(parts: list[Part]) -> float | str:
    """In the worker: a window of each is run."""
    from napari_medseg.inference.runs.pace import seconds_of

    try:
        return sum(seconds_of(part.model, part.plan) for part in parts)
    except (MedsegError, RuntimeError) as error:  # torch raises RuntimeError where memory is short
        return f"the time cannot be measured: {error}"
