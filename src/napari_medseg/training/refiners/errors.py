"""The labels that a model gives for the cases, from whose errors a refiner learns.

A case is segmented by a model that has not seen it where there is one: by its fold, where the model is the set of folds
of a training on these very cases.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import nn

from napari_medseg.cases import Case, groups_of
from napari_medseg.config import RefineConfig, SegmentConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, Progress, Started, Work
from napari_medseg.inference.engine import segmenting
from napari_medseg.inference.refining.engine import refining
from napari_medseg.inference.refining.network import PatchNetwork
from napari_medseg.models.file import Model
from napari_medseg.models.refining import RefiningMethod
from napari_medseg.models.several import AnyModel, Ensemble, as_models
from napari_medseg.models.spec import PATIENTS, ModelSpec
from napari_medseg.registry import network as network_named
from napari_medseg.transforms.depths import depths_in
from napari_medseg.volume import Segmentation, Volume, label_dtype


@dataclass(frozen=True, eq=False)
class Errors:
    """What a model says of the cases, by their names."""

    model: Model
    found: Mapping[str, Segmentation]

    def of(self, volume: Volume) -> Segmentation:
        """The model's labels of a case."""
        return self.found[volume.name]

    def refined(self, volume: Volume, network: nn.Module, spec: ModelSpec, device: torch.device) -> Segmentation:
        """What a refiner makes of the model's labels of a case: its network is put in eval mode, and back."""
        was_training = network.training
        patches = PatchNetwork(network.eval(), spec, device)
        result = Segmentation(np.zeros(volume.grid.shape, label_dtype(max(spec.label_ids))), volume.grid, spec.labels)
        for _ in refining(volume, self.of(volume), patches, RefineConfig(), result):
            pass
        network.train(was_training)
        return result


def model_of_errors(init: AnyModel | None, config: TrainConfig, plan: object) -> Model:
    """The model whose errors a refiner learns. Raises InputError for none, one that cannot be, and idle settings."""
    if init is None:
        raise InputError(
            f"scheme {config.scheme} learns from the errors of a model: give it as the model to start from (init)"
        )
    for asked, what in (
        (plan is not None, "a plan"),
        (config.cascade != "none", f"cascade {config.cascade}"),
        (config.optimiser.adapt != "all", f"adapt {config.optimiser.adapt}"),
        (config.loss.weak != "none", f"weak {config.loss.weak}"),
    ):
        if asked:
            raise InputError(f"scheme {config.scheme} takes no {what.removeprefix('a ')}: leave it out")
    found = as_models(init)
    if not isinstance(found, Model):
        raise InputError("a refiner learns from the errors of one model, or of folds that are averaged; got a set")
    if found.spec.refines is not None:
        raise InputError(f"model {found.path} is a refiner: give the model whose errors another refiner learns")
    if depths_in(found.spec.labels) or network_named(found.spec.network).takes != "image":
        raise InputError(f"model {found.path} gives no labels of an image by itself: give one that does")
    return found


def require_segmenter(model: Model) -> Model:
    """The model. Raises InputError for a refiner, from which no training of a network that segments can start."""
    if model.spec.refines is not None:
        raise InputError(f"model {model.path} is a refiner, which no training starts from: give one that segments")
    return model


def refiner_of(scheme: str) -> RefiningMethod:
    """The method of the refiner that a scheme makes."""
    for method in get_args(RefiningMethod):
        if method == scheme:
            found: RefiningMethod = method
            return found
    raise AssertionError("a scheme that learns errors has the name of its method")


def finding_errors(
    model: Model, cases: Sequence[Case], all_cases: Sequence[Case], config: TrainConfig
) -> Generator[Event, None, Errors]:
    """Segment cases by the model; yields a Progress per case, and Notices. all_cases: in name order, by which folds go.

    Raises as `segmenting`.
    """
    groups = groups_of(all_cases)
    members = _folds_of(model, groups)
    places = {case.name: index for index, group in enumerate(groups) for case in group}
    if members:
        yield Notice(f"each case is segmented by the fold of {model.path.name} that has not seen it")
    found: dict[str, Segmentation] = {}
    for done, case in enumerate(cases, start=1):
        seen_by = places.get(case.name)
        teacher = members[seen_by % len(members)] if members and seen_by is not None else model
        volume = case.volume()
        segmented = yield from _quiet(segmenting(volume, teacher, SegmentConfig(device=config.device)))
        kept = replace(segmented, data=np.asarray(segmented.data[...]))
        found |= {case.name: kept, volume.name: kept}
        yield Progress(done, len(cases), "segmenting cases by the model")
    return Errors(model, found)


def _folds_of(model: Model, groups: Sequence[Sequence[Case]]) -> tuple[Model, ...]:
    """The members of a set of folds of these cases, fold by fold: each has trained on all but every n-th group."""
    if not isinstance(model, Ensemble):
        return ()
    count = len(model.members)
    for fold, member in enumerate(model.members):
        trained = [group for number, group in enumerate(groups) if number % count != fold]
        record = member.spec.training
        cases = sum(map(len, trained))
        patients = record.fingerprint.get(PATIENTS, record.cases)  # an earlier version parted those of one patient
        if f".fold{fold + 1}of{count}" not in member.path.name or (record.cases, patients) != (cases, len(trained)):
            return ()
    return model.members


def _quiet(work: Work[Segmentation]) -> Work[Segmentation]:
    """The work without its events but for Notices: they are not those of the training."""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            result: Segmentation = end.value
            return result
        if isinstance(event, Notice) and not isinstance(event, Started):
            yield event
