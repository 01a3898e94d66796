"""A training as it was asked for; what does not go together is refused before a case is read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from napari_medseg.cases import Case, groups_of
from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.models.file import Model, as_model
from napari_medseg.training.budget import Clock
from napari_medseg.training.cases import (
    as_case,
    as_cases,
    in_regions,
)
from napari_medseg.training.generative.labels_only import with_made_images
from napari_medseg.training.loop import ShouldStop
from napari_medseg.training.losses.context import Loss
from napari_medseg.training.losses.supervised import loss_named
from napari_medseg.training.planning.document import Plan, as_plan
from napari_medseg.training.planning.following import config_of
from napari_medseg.training.refiners.errors import (
    model_of_errors,
    require_segmenter,
)
from napari_medseg.training.saving.checkpoint import require_writable
from napari_medseg.training.schemes.objects import cases_for
from napari_medseg.training.schemes.requirements import require_fitting, require_searching, require_trains
from napari_medseg.training.schemes.scheme import SchemeSpec
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.sparse import in_part
from napari_medseg.transforms.regions import Merge
from napari_medseg.volume import Segmentation, Volume

DEFAULT_NETWORK = "unet3d"
"""The network that is trained where none is named."""


@dataclass(frozen=True)
class Job:
    """A training as it was asked for, and what it works with."""

    cases: list[Case]
    network: str
    out: Path
    config: TrainConfig
    should_stop: ShouldStop = lambda: False
    now: Clock = time.monotonic
    loss: Loss | None = None
    """By default that of the config."""
    unlabelled: Sequence[Case] = ()
    """Cases without labels."""
    target: Sequence[Case] = ()
    """Cases of another domain, without labels."""
    resume: bool = False
    plan: Plan | None = None
    """What decides the network and its preprocessing; None to work it out from the cases."""
    errors_of: Model | None = None
    """The model whose errors a refiner learns, for a scheme that makes one."""


def asked(
    cases: Iterable[Case | tuple[Volume, Segmentation] | Segmentation],
    network: str | None,
    out: str | Path,
    init: Model | str | Path | None,
    merge: Merge,
    plan: Plan | str | Path | None,
    config: TrainConfig,
    *,
    unlabelled: Iterable[Case | Volume] = (),
    target: Iterable[Case | Volume] = (),
    resume: bool = False,
    should_stop: ShouldStop = lambda: False,
) -> tuple[Job, Model | None]:
    """The job, and the model to start from, of what `iter_train` was asked.

    Raises as `iter_train` for what does not go together; no case is read for that.
    """
    loss_named(config.loss.loss)  # refused now, not after the cases are read
    images = [as_case(image, number) for number, image in enumerate(unlabelled)]
    of_target = [as_case(image, number) for number, image in enumerate(target)]
    scheme = scheme_named(config.scheme)
    require_searching(scheme, config, starts=init is not None, planned=plan is not None)
    require_fitting(scheme, config, unlabelled=images, target=of_target, planned=plan is not None)
    require_trains(scheme, network or scheme.network or DEFAULT_NETWORK)
    require_trainable(config.first_network or DEFAULT_NETWORK)
    errors_of = model_of_errors(init, config, plan) if scheme.learns_errors else None
    initial = None if init is None or errors_of is not None else require_segmenter(as_model(init))
    given = None if plan is None else as_plan(plan)
    if given is not None:
        config = config_of(given, config, None if initial is None else initial.path.name)
    chosen = network or ""
    if errors_of is None:
        chosen = _network_of(network, initial if given is None else given, scheme)
        require_trains(scheme, chosen)
        if initial is None and given is None:
            config = scheme.with_arguments(config, chosen)
    found = in_regions(with_made_images(as_cases(cases), scheme.name, scheme.from_labels), merge)
    annotated, config = in_part(cases_for(scheme.learns, found, config), config)
    job = Job(
        annotated,
        chosen,
        require_writable(out),
        config,
        should_stop,
        unlabelled=images,
        target=of_target,
        resume=resume,
        plan=given,
        errors_of=errors_of,
    )
    if config.optimiser.adapt != "all" and initial is None:
        raise InputError(f"adapt {config.optimiser.adapt} is for a model to start from: give one, or adapt all weights")
    if config.cascade != "none" and of_target:
        raise InputError("a cascade is trained on one domain: give no target images, or no cascade")
    if config.cascade != "none" and initial is not None:
        raise InputError("a cascade is trained from its first stage on: give no model to start from, or no cascade")
    return job, initial


def _network_of(network: str | None, initial: Model | Plan | None, scheme: SchemeSpec) -> str:
    """The network to train. Raises InputError for another one than that of the model to start from, or of the plan."""
    if initial is None:
        return network or scheme.network or DEFAULT_NETWORK
    own = initial.spec.network
    if network and network != own:
        owner = "the plan" if isinstance(initial, Plan) else "the model to start from"
        raise InputError(
            f"network {network} does not go with {owner}, which is of network {own}: leave the network out"
        )
    return own


def require_trainable(name: str) -> None:
    """Raise UnknownNameError for an unknown network, InputError for one that takes more than an image."""
    require_trains(scheme_named("supervised"), name)


def split(cases: list[Case], fraction: float) -> tuple[list[Case], list[Case]]:
    """The cases to train on and the last `fraction` of them, rounded, to validate on; one at least trains.

    Cases of one group stay together: it is the fraction of the groups.
    """
    groups = groups_of(cases)
    first = max(1, len(groups) - round(len(groups) * fraction))
    training, validation = (list(chain.from_iterable(part)) for part in (groups[:first], groups[first:]))
    return training, validation


def told_of_groups(cases: Sequence[Case], fraction: float) -> str:
    """How cases of the same patient are shared out, in one line; empty where each case is a group by itself.

    fraction: of the groups, that validates.
    """
    groups = groups_of(cases)
    if len(groups) == len(cases):
        return ""
    if len(groups) == 1:
        return f"all cases show {cases[0].group}: none is left to validate on, since those of one patient stay together"
    shared = max(groups, key=len)
    told = (
        f"{len(cases)} cases of {len(groups)} patients: those of one train or validate together, such as "
        f"{shared[0].name} and {shared[1].name}"
    )
    _, validating = split(list(cases), fraction)
    return told if validating else f"{told}; none is left to validate on: give a larger --val"
