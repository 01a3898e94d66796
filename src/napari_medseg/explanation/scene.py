"""An image as the network sees it, window by window: the engine's sources and preparation, for either kind of model."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.errors import NotSupportedError
from napari_medseg.events import Event
from napari_medseg.geometry import Shape3
from napari_medseg.inference.job import Job
from napari_medseg.inference.plan import InferencePlan, Maps
from napari_medseg.inference.planes import BoxReader
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.source.prepared import preparing
from napari_medseg.inference.stream import Source
from napari_medseg.inference.windows import Windows
from napari_medseg.volume import Volume


@dataclass(frozen=True, eq=False)
class Scene:
    """What the windows of a run are cut from."""

    plan: InferencePlan
    predictor: Predictor
    windows: Windows
    maps: Maps
    """From the grid of the windows to that of the image, in the model's axis order."""
    opened: Callable[[], AbstractContextManager[Source]]
    """A source of boxes, to be used inside."""

    @classmethod
    def of(cls, volume: Volume, plan: InferencePlan, predictor: Predictor) -> Generator[Event, None, Scene]:
        """Measure the image where that is needed. A model with steps of another program has it prepared as a whole.

        Raises NotSupportedError for a cascade of such models.
        """
        if plan.spec.has_pipeline:
            if plan.first is not None:
                raise NotSupportedError(
                    "a cascade with steps of another program cannot be explained: explain a model of one stage"
                )
            prepared = yield from preparing(volume, plan)
            values = torch.from_numpy(prepared.values)
            _, z, y, x = values.shape
            made = _Values(values)
            return cls(plan, predictor, plan.windows_on((z, y, x)), prepared.maps, lambda: nullcontext(made))
        job = yield from Job.prepare(volume, plan, predictor)

        @contextmanager
        def opened() -> Iterator[Source]:
            with closing(BoxReader(volume, plan.order)) as reader:
                yield job.source(reader)

        return cls(plan, predictor, job.windows, plan.to_image, opened)

    @property
    def corners(self) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """The rows of windows; see `Windows.rows`."""
        return self.windows.rows()

    @property
    def shape(self) -> Shape3:
        """The image, in the model's axis order."""
        return self.plan.image_grid.shape


class _Values:
    """The boxes of an image that is in memory."""

    guides = 0

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values

    def read(self, box: Box) -> torch.Tensor:
        return self._values[(slice(None), *box)]

    def expect(self, box: Box) -> None:
        """It is there."""
