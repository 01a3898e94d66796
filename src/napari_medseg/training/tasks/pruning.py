"""A shallower network cut from a model, and what both cost and are worth."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_medseg.cases import Case
from napari_medseg.config import Device, LossConfig, SegmentConfig
from napari_medseg.events import Event, Work, finishing
from napari_medseg.inference.device import choose_device
from napari_medseg.inference.engine import segment
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.prune import prune_model
from napari_medseg.training.validate import mean_of, validate

_PASSES = 3
"""Windows that are timed, after one that is not; the median counts."""


@dataclass(frozen=True)
class Worth:
    """What a model costs, and how good it is."""

    parameters: int
    file_bytes: int
    window_seconds: float
    """Of one window through the network, on the device of the run."""
    dice: float
    """The mean over labels and cases; NaN where nothing says it."""


@dataclass(frozen=True)
class Pruned:
    """A pruned model beside the whole one."""

    model: Model
    whole: Worth
    pruned: Worth
    measured: bool
    """Whether Dice is of the cases given; else that of the whole is the one of its training."""


def iter_prune(
    model: Model | str | Path, level: int, out: str | Path, *, cases: Sequence[Case] = (), device: Device = "auto"
) -> Iterator[Event]:
    """Write the model that `prune_model` cuts from a UNet++, and compare both.

    cases: images with labels, whose Dice is measured. Yields a Progress per case and model, and Finished with what was
    Pruned. Raises as `prune_model` and `segment`.
    """
    yield from finishing(_pruning(as_model(model), level, out, cases, device))


def _pruning(model: Model, level: int, out: str | Path, cases: Sequence[Case], device: Device) -> Work[Pruned]:
    pruned = prune_model(model, level, out)
    recorded = model.spec.training.validation.get("dice mean", math.nan)
    of_whole = yield from _worth(model, cases, device, recorded)
    of_pruned = yield from _worth(pruned, cases, device, math.nan)
    return Pruned(pruned, of_whole, of_pruned, measured=bool(cases))


def _worth(model: Model, cases: Sequence[Case], device: Device, recorded: float) -> Work[Worth]:
    """recorded: the Dice where there is no case to measure it on."""
    target = choose_device(device)
    network = model.load_network(target)
    predictor = Predictor.of(network, model.spec, target, "fp32")
    dice = recorded
    if cases:
        config = SegmentConfig(device=device)
        found = yield from validate(
            cases, model.spec, lambda volume: segment(volume, model, config=config), LossConfig()
        )
        dice = mean_of(found)
    return Worth(
        sum(p.numel() for p in network.parameters()), model.path.stat().st_size, _seconds_of(predictor, model), dice
    )


def _seconds_of(predictor: Predictor, model: Model) -> float:
    spec = model.spec
    channels = len(spec.channels) + (spec.first.channels if spec.first else 0)
    window = torch.zeros(1, channels, *spec.patch_zyx)
    predictor(window)
    taken = []
    for _ in range(_PASSES):
        began = time.perf_counter()
        predictor(window).sum().item()  # waits for a GPU
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
