"""How long a run takes: one window is measured, or an earlier run is remembered."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_medseg.inference.device import machine_for
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.inference.tuning import remembered

if TYPE_CHECKING:
    from napari_medseg.config import SegmentConfig
    from napari_medseg.models.file import Model
    from napari_medseg.volume import Volume

Pace = tuple[str, str, str, str, int, str, int]
"""What the seconds of a window depend on: SHA-256 of the model, device, number format, backend, windows at once,
preset, and how many mirror images there are."""


def plan_for(volume: Volume, model: Model, config: SegmentConfig) -> InferencePlan:
    """The plan of a run. Raises InputError where volume and model do not fit, or the device is missing."""
    from napari_medseg.inference.engine import require_fit

    require_fit(volume, model.spec, str(model.path), config.missing)
    return resolve(ImageFacts.of(volume), model.spec, config, machine_for(config.device))


def pace_of(model: Model, plan: InferencePlan) -> Pace:
    """What earlier runs must have in common with this one, so that their seconds a window hold for it."""
    mirrors = 2 ** len(plan.mirror_axes)
    return (model.sha256, plan.device, plan.precision, plan.backend, plan.batch_size, plan.preset, mirrors)


def seconds_of(model: Model, plan: InferencePlan) -> float:
    """The seconds that the network needs for all windows, from one batch of zeros. Reading and blending come on top."""
    known = replace(plan, layout=remembered(model, plan) or plan.layout)
    return _seconds(load_predictor(model, known), plan)


def _seconds(predictor: Predictor, plan: InferencePlan) -> float:
    windows = plan.windows
    z, y, x = windows.window
    batch = torch.zeros((plan.batch_size, plan.inputs, z + 2 * plan.halo, y, x))
    predictor(batch)  # the first run loads the code for these sizes
    start = time.perf_counter()
    float(predictor(batch)[0, 0, 0, 0, 0])  # the number is waited for: a GPU works on its own
    seconds = (time.perf_counter() - start) * math.ceil(len(windows) / plan.batch_size)
    if plan.first is None or predictor.first is None:
        return seconds
    return seconds + _seconds(predictor.first, plan.first)
