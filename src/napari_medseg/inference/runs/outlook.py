"""What a run takes, told before it: seconds, memory and disk. No voxel is read."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.volume import label_dtype

if TYPE_CHECKING:
    from napari_medseg.cases import Case
    from napari_medseg.config import SegmentConfig
    from napari_medseg.inference.plan import InferencePlan
    from napari_medseg.inference.results.wanted import Wanted
    from napari_medseg.models.file import Model

_MIB = 1 << 20
_WORTH_MEASURING = 40
"""Windows from which on the time is measured: that takes two of them."""


@dataclass(frozen=True)
class Outlook:
    """What a run takes."""

    memory_bytes: int
    """For sums, input and rows that are not written yet: beside the network, whatever the number of slices."""
    disk_bytes: int
    """What the outputs take if they do not compress; labels shrink to a hundredth."""
    free_bytes: int | None = None
    """What is free where they go; None where nothing is written."""
    seconds: float | None = None
    """What the network takes; None where it was not measured."""

    def describe(self) -> str:
        """In one line."""
        parts = [] if self.seconds is None else [f"about {_duration(self.seconds)}"]
        parts.append(f"{self.memory_bytes / _MIB:.0f} MiB of memory beside the network")
        parts.append(f"at most {self.disk_bytes / _MIB:.0f} MiB on the disk")
        if self.free_bytes is not None:
            parts[-1] += f" ({self.free_bytes / _MIB:.0f} free)"
        return ", ".join(parts)


def outlook_of(case: Case, model: Model, config: SegmentConfig, wanted: Wanted) -> Outlook:
    """What the run on a case takes; the time of two windows is spent on it where there are many."""
    from napari_medseg.inference.device import machine_for
    from napari_medseg.inference.plan import ImageFacts, resolve
    from napari_medseg.inference.runs.pace import seconds_of

    plan = resolve(ImageFacts.of(case.peek()), model.spec, config, machine_for(config.device))
    seconds = seconds_of(model, plan) if len(plan.windows) >= _WORTH_MEASURING else None
    return planned(plan, wanted, seconds)


def planned(plan: InferencePlan, wanted: Wanted, seconds: float | None = None) -> Outlook:
    """What a plan takes whose outputs go there."""
    spec = plan.spec
    _, height, width = plan.image_grid.shape
    voxels, classes = math.prod(plan.image_grid.shape), len(spec.label_ids)
    labels = label_dtype(max(spec.label_ids)).itemsize
    channels = (classes if wanted.probabilities else 0) + (
        2 + plan.telling_mirrors().mirrors_told if wanted.uncertainty else 0
    )
    # Windows that are not blended give all their planes at once.
    deep = plan.windows.window[0] * plan.image_grid.shape[0] / plan.grid.shape[0] if plan.blending == "core" else 0
    rows = math.ceil(height * width * (64 * labels + (16 + deep) * 4 * channels))
    free = None if wanted.out is None else shutil.disk_usage(_nearest(wanted.out)).free
    return Outlook(plan.accumulator_bytes + plan.slab_bytes + rows, voxels * (labels + 4 * channels), free, seconds)


def _nearest(path: Path) -> Path:
    """The folder above a path that exists."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
