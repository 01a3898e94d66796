"""A training that follows a plan: what the plan decides of its settings and of its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_medseg.config import SamplingConfig, TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.models.spec import ModelSpec, Stage
from napari_medseg.training.planning.document import Plan
from napari_medseg.training.planning.facts import CaseFacts
from napari_medseg.training.planning.fine_tuning import planned


def config_of(plan: Plan, config: TrainConfig, initial: str | None) -> TrainConfig:
    """The config of a training by the plan. initial: the name of a model to start from.

    Raises InputError for a setting that the plan decides otherwise.
    """
    if initial is not None:
        raise InputError(f"a plan does not go with {initial} to start from, which has its own: give one of them")
    size = config.sampling.batch_size
    if size not in (SamplingConfig().batch_size, plan.batch_size):
        raise InputError(f"batch_size {size} does not go with the plan, which has {plan.batch_size}: leave it out")
    first = plan.spec.first
    own = "none" if first is None else "coarse-to-fine" if first.guide == "channel" else "detect"
    if config.cascade not in ("none", own):
        raise InputError(f"cascade {config.cascade} does not go with the plan, which has {own}: plan it again")
    first_network = "" if first is None else first.model.network
    if config.first_network not in ("", first_network):
        raise InputError(f"first_network {config.first_network} does not go with the plan: leave it out")
    changes = {"batch_size": plan.batch_size, "cascade": own, "first_network": first_network}
    return configured(TrainConfig, config, changes)


def of_plan(
    plan: Plan,
    facts: Sequence[CaseFacts],
    config: TrainConfig,
    labels: Mapping[int, str],
    *,
    first: Stage | None,
    coarse: bool,
) -> ModelSpec:
    """The model to train: that of the plan, or its stage at low resolution. first: that stage, trained."""
    if not coarse:
        return planned(plan.spec, facts, config, labels=labels, first=first)
    assert plan.spec.first is not None, "a cascade has a first stage"
    own = configured(TrainConfig, config, {"spacing_zyx_mm": None, "patch_zyx": None, "arguments": {}})
    return planned(plan.spec.first.model, facts, own, labels=labels, first=None)
