"""Filling an object from its painted slices: at once, or by a network that first learns them beside the user's work."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_error
from qtpy.QtCore import QObject

from napari_medseg.config import PropagateConfig
from napari_medseg.errors import MedsegError
from napari_medseg.events import Work
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.interactive.slices import ToFill, fill_from_slices, slices_to_fill, take_filled
from napari_medseg.volume import Segmentation
from napari_medseg.widgets.work.background import Background

if TYPE_CHECKING:
    from napari_medseg.models.file import Model
    from napari_medseg.widgets.interacting.work_on_image import WorkOnImage


class Filling(QObject):
    """What comes is a change of the session like any other. `runner` tells of the network that learns."""

    def __init__(self, parent: QObject, work: Callable[[], WorkOnImage | None]) -> None:
        """work: what the panel works on now."""
        super().__init__(parent)
        self._work = work
        self._learning = Background(self, "Fill the volume")
        self.runner = self._learning.runner

    def start(self, work: WorkOnImage, config: PropagateConfig, model: Model | None, *, between: bool) -> None:
        """Fill the object that is drawn for. model: a memory network, for the method auto."""
        label = work.label
        if config.method == "learn":
            work.compute(partial(_asked, label=label, between=between), partial(self._learn, work, config))
            return
        at_once = partial(fill_from_slices, label=label, between=between)
        if config.method == "auto":
            work.do(partial(_told, label=label, fill=partial(at_once, model=model)))
        else:
            work.do(partial(_told, label=label, fill=partial(at_once, method=config.method)))

    def _learn(self, work: WorkOnImage, config: PropagateConfig, asked: ToFill | str) -> None:
        if isinstance(asked, str):
            show_error(asked)
        elif self._work() is work:
            self._learning.ask_in_steps(partial(_learned, asked, config), partial(self._take, work, asked))

    def _take(self, work: WorkOnImage, asked: ToFill, filled: Segmentation) -> None:
        if self._work() is work:
            take = partial(take_filled, asked=asked, filled=filled)
            work.do(partial(_told, label=asked.label, fill=take))


def _told(session: InteractiveSession, label: int, fill: Callable[[InteractiveSession], str]) -> str:
    """Fill, and tell how much it gave; first what the filling itself tells."""
    told = fill(session)
    millilitres = session.mask(label).voxels * float(np.prod(session.volume.grid.spacing)) / 1000
    return "; ".join(
        filter(None, (told, f"label {session.called(label)} has {millilitres:.1f} ml now: look through its slices"))
    )


def _asked(session: InteractiveSession, label: int, between: bool) -> ToFill | str:
    """In the worker: what is painted, or why nothing can be filled from it."""
    try:
        return slices_to_fill(session, label, between=between)
    except MedsegError as error:
        return str(error)


def _learned(asked: ToFill, config: PropagateConfig) -> Work[Segmentation]:
    """In the worker: a network learns in a process of its own, and fills here."""
    # Imported here: torch would hold up the window.
    importlib.import_module("napari_medseg.inference.torch_library").preload()
    filling = importlib.import_module("napari_medseg.refinement.filling").filling
    train = importlib.import_module("napari_medseg.training.apart.parent").iter_train_apart
    found: Segmentation = yield from filling(asked.volume, asked.some_slices, config, slices=asked.slices, train=train)
    return found
