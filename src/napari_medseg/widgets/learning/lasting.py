"""The training of a window: a process of its own, which goes on when the panel that began it is closed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QObject

from napari_medseg.cases import cases_without_labels
from napari_medseg.events import Event, Finished, Started, TrainProgress, Validated
from napari_medseg.widgets.learning.preview import Preview
from napari_medseg.widgets.work.runner import lasting_runner

if TYPE_CHECKING:
    from napari import Viewer

    from napari_medseg.cases import Case
    from napari_medseg.volume import Segmentation, Volume

    Cases = Iterable[Case | tuple[Volume, Segmentation] | Segmentation]

_NAME = "napari-medseg training"
_MOST = 1000
"""Steps that are kept for a panel that is opened later; above this number every second one is dropped."""


class Training(QObject):
    """The one training of a window; it ends, and can be resumed, when the window does."""

    def __init__(self, window: QObject, viewer: Viewer) -> None:
        self.runner = lasting_runner(window, _NAME)
        super().__init__(self.runner)
        self.out = Path()
        """The model that is trained, or was trained last."""
        self.events: list[Event] = []
        """What a panel that is opened later needs to show the same."""
        self.preview = Preview(self, viewer)
        self.runner.happened.connect(self._keep)

    def begin(self, cases: Cases, out: Path, images: list[Any], **options: Any) -> None:
        """Train the model `out`. images: layers of the case that is shown meanwhile. options: those of `iter_train`."""
        self.out, self.events = out, []
        self.preview.begin(out, images, options["config"].device)
        options |= {"out": out, "should_stop": self.runner.should_stop}
        self.runner.start(partial(_training, cases, **options), f"Train {out.stem}", ends_itself=True)

    def _keep(self, event: Event) -> None:
        if isinstance(event, Started):
            self.events = []  # the second network of a cascade counts its steps from 0 again
        if isinstance(event, Started | TrainProgress | Validated | Finished):
            self.events.append(event)
            self.preview.renew()
        if len(self.events) > _MOST:
            steps = [event for event in self.events if isinstance(event, TrainProgress)]
            dropped = {id(step) for step in steps[::2]}
            self.events = [event for event in self.events if id(event) not in dropped]
        if isinstance(event, Finished):
            show_info(f"model {self.out.stem!r} is trained")


def training_in(viewer: Viewer, panel: QObject) -> Training:
    """The training of the viewer's window; that of the panel, where the viewer has no window."""
    main = getattr(viewer, "window", None)
    window = panel if main is None else main.main_menu.window()
    found: Training | None = lasting_runner(window, _NAME).findChild(Training)
    return found or Training(window, viewer)


def _training(
    cases: Cases, *, unlabelled: Iterable[Volume | Path] = (), target: Iterable[Volume | Path] = (), **options: Any
) -> Iterator[Event]:
    """In the worker, which loads torch for the preview and matplotlib for the curves: both would hold up the window."""
    importlib.import_module("napari_medseg.inference.torch_library").preload()
    importlib.import_module("napari_medseg.widgets.views.curves")
    parent = importlib.import_module("napari_medseg.training.apart.parent")
    further = {"unlabelled": _opened(unlabelled), "target": _opened(target)}
    yield from parent.iter_train_apart(cases, **further, **options)


def _opened(sources: Iterable[Volume | Path]) -> list[Case | Volume]:
    """Volumes, and the cases of folders without labels."""
    found: list[Case | Volume] = []
    for source in sources:
        found += cases_without_labels(source) if isinstance(source, Path) else [source]
    return found
