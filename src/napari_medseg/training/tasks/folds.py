"""`iter_train_folds`: one model for each fold of the cases, by one plan, and the set that averages them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from napari_medseg.cases import Case, groups_of
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import FileError, InputError
from napari_medseg.events import Event, Finished, Notice, Progress, Work, finishing, result_of
from napari_medseg.inference.device import choose_device
from napari_medseg.io.disk.files import check_no_folder, replace_bytes
from napari_medseg.models.file import Model, as_model
from napari_medseg.models.naming import SUFFIX
from napari_medseg.training.cases import as_cases, in_regions
from napari_medseg.training.fit import iter_train
from napari_medseg.training.generative.labels_only import with_made_images
from napari_medseg.training.job import DEFAULT_NETWORK
from napari_medseg.training.planning import rules
from napari_medseg.training.planning.document import Plan, as_plan
from napari_medseg.training.planning.facts import facts_of, require_same_channels
from napari_medseg.training.schemes.objects import cases_for
from napari_medseg.training.schemes.requirements import require_trains
from napari_medseg.training.schemes.table import scheme_named
from napari_medseg.training.sparse import in_part
from napari_medseg.transforms.regions import Merge
from napari_medseg.volume import Segmentation, Volume

SET_SUFFIX = ".json"
"""The suffix of a set of models."""
_MOST = 20
"""Folds at most."""
_OF_A_FOLD = ("should_stop", "init", "unlabelled", "target", "resume")
"""Arguments of `iter_train` that are no knobs."""


@dataclass(frozen=True)
class Folds:
    """The models of the folds, and the set that they make."""

    path: Path
    """The set: a JSON file beside its members, which `segment` takes as a model."""
    models: tuple[Model, ...]

    @property
    def scores(self) -> dict[str, tuple[float, float]]:
        """{score: its mean over the folds and their standard deviation}, on cases that the fold has not seen.

        Empty where a fold was stopped before its first validation.
        """
        found = [model.spec.training.validation for model in self.models]
        names = [name for name in found[0] if all(name in of_fold for of_fold in found)]
        values = {name: [of_fold[name] for of_fold in found] for name in names}
        return {name: (float(np.mean(each)), float(np.std(each))) for name, each in values.items()}


def iter_train_folds(
    cases: Iterable[Case | tuple[Volume, Segmentation]],
    *,
    folds: int = 5,
    out: str | Path,
    network: str | None = None,
    merge: Merge = (),
    plan: Plan | str | Path | None = None,
    config: TrainConfig | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Train a model on each fold of the cases. Each is validated on the cases that it has not seen.

    folds: 2 to 20; fold k validates on every `folds`-th case from k on, in name order, or on every `folds`-th group
    where cases have groups. out: the set to write,
    NAME.json; its members are NAME.fold1of5.safetensors and so on. A budget in minutes is shared by the folds. They all
    follow one plan, which is made from all cases unless one is given. The other options are those of `iter_train`.

    Yields the events of each fold, with a Notice before it, and Finished with the Folds. Raises as `iter_train`.
    """
    knobs = {name: options.pop(name) for name in list(options) if name not in _OF_A_FOLD}
    config = configured(TrainConfig, config, knobs)
    scheme = scheme_named(config.scheme)
    if scheme.learns_errors:
        raise InputError(f"scheme {config.scheme} makes one refiner: leave folds out, or give a set of folds as init")
    if config.searching.search:
        raise InputError("folds follow one plan: leave search out, or give the plan that a search found")
    found = in_regions(with_made_images(as_cases(cases), scheme.name, scheme.from_labels), merge)
    count = len(groups_of(found))
    if not 2 <= folds <= min(_MOST, count):
        what = "cases" if count == len(found) else f"patients of the {len(found)} cases"
        raise InputError(f"folds must be 2 to {_MOST}, and no more than the {count} {what}; got {folds}")
    given = None if plan is None else as_plan(plan)
    initial = None if options.get("init") is None else as_model(options.pop("init"))
    if scheme_named(config.scheme).takes != "image":
        raise InputError(f"models of scheme {config.scheme} cannot be averaged: train without folds")
    if config.cascade != "none" or any(made is not None and made.spec.first is not None for made in (given, initial)):
        raise InputError("folds are averaged, and cascades cannot be: train one network in folds, or no folds")
    further = {name: tuple(options.get(name, ())) for name in ("unlabelled", "target")}
    options |= {"init": initial, **further}  # each fold walks over them
    yield from finishing(_train(found, folds, require_set_path(out), network, given, config, options))


def train_folds(cases: Iterable[Case | tuple[Volume, Segmentation]], **options: Any) -> Folds:
    """Train the folds and return them; the options are those of `iter_train_folds`."""
    found: Folds = result_of(iter_train_folds(cases, **options))
    return found


def require_set_path(out: str | Path) -> Path:
    """The path of a set to write. Raises InputError for another suffix, FileError for a folder that is not there."""
    path = Path(out)
    if path.suffix != SET_SUFFIX:
        raise InputError(f"{path}: folds make a set of models: end its name in {SET_SUFFIX}")
    if not path.parent.is_dir():
        raise FileError(f"{path.parent} is not a folder: make it first, or choose another place for the set")
    check_no_folder(path)
    return path


def _train(
    cases: list[Case],
    folds: int,
    out: Path,
    network: str | None,
    plan: Plan | None,
    config: TrainConfig,
    options: dict[str, Any],
) -> Work[Folds]:
    if plan is None and options["init"] is None:
        plan = yield from _plan_of_all(*in_part(cases, config), network)
    minutes = config.budget.minutes
    should_stop = options.get("should_stop", lambda: False)
    models: list[Model] = []
    groups = groups_of(cases)
    for fold in range(folds):
        apart = groups[fold::folds]
        held = list(chain.from_iterable(apart))
        rest = list(chain.from_iterable(group for number, group in enumerate(groups) if number % folds != fold))
        of_fold = {"val": len(apart) / len(groups), "minutes": None if minutes is None else minutes / folds}
        yield Notice(f"fold {fold + 1} of {folds}: {len(rest)} cases to train, {len(held)} to validate")
        events = iter_train(
            [*rest, *held],
            network=network,
            plan=plan,
            out=out.with_name(f"{out.stem}.fold{fold + 1}of{folds}{SUFFIX}"),  # other folds have other cases
            config=configured(TrainConfig, config, of_fold),
            **options,
        )
        for event in events:
            if isinstance(event, Finished):
                models.append(event.result)
            else:
                yield event
        if should_stop():
            yield Notice(f"stopped after {fold + 1} of {folds} folds: the set has these alone")
            break
    write_set(out, models)
    return Folds(out, tuple(models))


def _plan_of_all(cases: list[Case], config: TrainConfig, network: str | None) -> Work[Plan]:
    """The plan that a training on all cases has: models that are averaged must see images the same way."""
    scheme = scheme_named(config.scheme)
    name = network or scheme.network or DEFAULT_NETWORK
    require_trains(scheme, name)
    config = scheme.with_arguments(config, name)
    cases = cases_for(scheme.learns, cases, config)
    draw = np.random.default_rng(config.seed)
    facts = []
    for done, case in enumerate(cases, start=1):
        facts.append(facts_of(case, config.loss, draw))
        yield Progress(done, len(cases), "reading cases")
    require_same_channels(facts)
    spec = rules.plan(facts, name, config, choose_device(config.device).type)
    return Plan(spec=spec, batch_size=config.sampling.batch_size)


def write_set(path: Path, models: list[Model]) -> None:
    """Write the set of models that lie beside it, whose logits are averaged. Raises FileError."""
    members = [{"model": model.path.name} for model in models]
    content = {"napari_medseg_set": 1, "combine": "average", "members": members}
    replace_bytes(path, (json.dumps(content, indent=1) + "\n").encode())
