"""`iter_plan`: the cases' fingerprint becomes a plan for this machine, which a training can follow later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_medseg.cases import Case
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Progress, Work, finishing, result_of
from napari_medseg.inference.device import choose_device, free_bytes
from napari_medseg.models.spec import ModelSpec, Stage
from napari_medseg.training.cases import as_cases, in_regions, require_regions
from napari_medseg.training.job import DEFAULT_NETWORK, require_trainable, split
from napari_medseg.training.planning import rules
from napari_medseg.training.planning.document import Plan
from napari_medseg.training.planning.doubts import label_doubts
from napari_medseg.training.planning.facts import CaseFacts, facts_of, labels_of, require_same_channels
from napari_medseg.training.planning.fitting import Pace, candidate, chosen, distinct, measured_pace, voxel_limits
from napari_medseg.training.schemes.objects import cases_for
from napari_medseg.training.schemes.requirements import require_trains
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.sparse import in_part
from napari_medseg.transforms.regions import Merge
from napari_medseg.volume import Segmentation, Volume

_PATCH_AXIS = 16
"""Voxels below which an axis of a patch is not made smaller to save time."""


def iter_plan(
    cases: Iterable[Case | tuple[Volume, Segmentation]],
    *,
    network: str | None = None,
    merge: Merge = (),
    config: TrainConfig | None = None,
    pace: Pace = measured_pace,
    **knobs: Any,
) -> Iterator[Event]:
    """Work out how a network would be trained on annotated volumes, here and within the budget.

    cases, network, merge, config, knobs: those of `iter_train`; the cases that would validate say only which labels
    there are. Several patches are tried by their estimated memory and time. With `cascade`, the plan has a stage at low
    resolution. pace: how fast this machine trains; by default that is measured in a moment.

    Yields Progress per case, and Finished with the Plan. Raises as `iter_train`.
    """
    config = configured(TrainConfig, config, knobs)
    scheme = scheme_named(config.scheme)
    name = network or scheme.network or DEFAULT_NETWORK
    if config.searching.search:
        raise InputError("a search trains the plans that it tries: give search to the training")
    if scheme.takes != "image" or scheme.learns_errors:
        raise InputError(f"scheme {scheme.name} plans when it trains: train with it, without a plan")
    require_trains(scheme, name)
    require_trainable(config.first_network or DEFAULT_NETWORK)
    config = scheme.with_arguments(config, name)
    annotated, config = in_part(cases_for(scheme.learns, in_regions(as_cases(cases), merge), config), config)
    yield from finishing(_planning(annotated, name, config, pace))


def plan(cases: Iterable[Case | tuple[Volume, Segmentation]], **options: Any) -> Plan:
    """Plan a training and return the plan; the options are those of `iter_plan`."""
    found: Plan = result_of(iter_plan(cases, **options))
    return found


def _planning(cases: list[Case], name: str, config: TrainConfig, pace: Pace) -> Work[Plan]:
    device = choose_device(config.device)
    draw = np.random.default_rng(config.seed)
    training, validation = split(cases, config.validation.val)
    found = []
    for done, case in enumerate([*training, *validation], start=1):
        found.append(facts_of(case, config.loss, draw))
        yield Progress(done, len(cases), "reading cases")
    require_same_channels(found)
    labels, facts = labels_of(found), found[: len(training)]
    require_regions(cases, labels)
    first = _first_stage(facts, name, config, device, labels)
    specs = _specs(facts, name, config, device, labels, first)
    speed = pace(specs[-1], device)
    size = config.sampling.batch_size
    tried = [candidate(spec, size * rules.patches_at_once(spec), speed) for spec in specs]
    best = chosen(tried, device, free_bytes(device), config.budget.minutes)
    return replace(
        best,
        batch_size=max(1, best.batch_size // rules.patches_at_once(best.spec)),
        notes=(*best.notes, *_doubts(facts, found[len(training) :], best.spec)),
    )


def _first_stage(
    facts: Sequence[CaseFacts], name: str, config: TrainConfig, device: torch.device, labels: dict[int, str]
) -> Stage | None:
    """The stage at low resolution, where the config wants a cascade."""
    if config.cascade == "none":
        return None
    if config.cascade == "detect":
        raise InputError("a detector is planned when it is trained: plan one network, or a cascade from coarse to fine")
    own = configured(TrainConfig, config, {"spacing_zyx_mm": None, "patch_zyx": None})
    coarse = rules.plan(facts, config.first_network or name, own, device.type, labels=labels, coarse=True)
    return Stage(model=coarse, guide="channel")


def _specs(
    facts: Sequence[CaseFacts],
    name: str,
    config: TrainConfig,
    device: torch.device,
    labels: dict[int, str],
    first: Stage | None,
) -> list[ModelSpec]:
    """The plans to try, the largest patch first; one where the patch is given."""
    limits = voxel_limits(rules.PATCH_VOXELS[device.type])
    if config.sampling.patch_zyx is not None:
        limits = limits[:1]
    made = [
        rules.plan(facts, name, config, device.type, labels=labels, first=first, patch_voxels=limit) for limit in limits
    ]
    return [spec for n, spec in enumerate(distinct(made)) if n == 0 or min(spec.patch_zyx[1:]) >= _PATCH_AXIS]


def _doubts(facts: Sequence[CaseFacts], others: Sequence[CaseFacts], spec: ModelSpec) -> tuple[str, ...]:
    doubts = label_doubts(facts, others, spec.labels)
    if rules.wants_low_resolution(facts, spec):
        part = 100 * rules.part_of_volume(facts, spec)
        doubts.append(f"a patch holds {part:.0f} % of a volume: a first stage at low resolution may help (--cascade)")
    return tuple(doubts)
