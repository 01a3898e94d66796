"""Several models as one: averaged where they have the same labels, a set where they have different ones.

A set is a JSON file beside its members: {"napari_medseg_set": 1, "members": [{"model": "liver.safetensors", "labels":
{"1": 5}}, ...]}. "labels" maps the ids of a member to those of the set, and may be left out for the ids as they are.
With "combine": "average" the members are averaged, as the folds of a training; without it their labels are merged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_medseg import strictjson
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.io.folders import natural
from napari_medseg.models import checks
from napari_medseg.models.file import Model, as_model, models_folder
from napari_medseg.models.presets import lost_by
from napari_medseg.models.trust import Trust
from napari_medseg.registry import shown

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_medseg.models.spec import ModelSpec

KEY = "napari_medseg_set"
"""The key that makes a JSON file a set; its value is the version of the form."""
_MOST_BYTES = 2**20
_MOST_MEMBERS = 64
_SAME = ("channels", "labels", "patch_zyx", "spacing_zyx_mm", "orientation", "normalisation", "mode", "recipe")
"""What models that are averaged have in common."""

AnyModel = Model | str | Path
"""A model, or its path or name."""


@dataclass(frozen=True)
class Ensemble(Model):
    """Models of the same labels on the same grid; spec and path are those of the first."""

    members: tuple[Model, ...] = ()

    def load_network(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """The members' networks as one, which averages their logits."""
        from napari_medseg.architectures.averaged import Averaged

        return Averaged([member.load_network(device, dtype) for member in self.members]).eval()

    def load_first(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """The members' first stages as one, as nnU-Net has it: every second stage sees the same labels."""
        from napari_medseg.architectures.averaged import Averaged

        return Averaged([member.load_first(device, dtype) for member in self.members]).eval()


@dataclass(frozen=True)
class Member:
    """A model of a set."""

    model: Model
    ids: Mapping[int, int]
    """{its label id: id in the set}; labels that are not here are left out."""


@dataclass(frozen=True)
class ModelSet:
    """Models of different labels; where several label a voxel, the first one decides."""

    members: tuple[Member, ...]
    labels: Mapping[int, str]
    path: Path | None = None
    """The file that names the members; None for models that were given one by one."""

    @classmethod
    def of(cls, members: Sequence[Member], path: Path | None = None) -> ModelSet:
        """Raises InputError where two members give an id two names."""
        labels: dict[int, str] = {}
        for member in members:
            for own, of_set in member.ids.items():
                name = member.model.spec.labels[own]
                if labels.setdefault(of_set, name) != name:
                    raise InputError(
                        f"{member.model.path}: its label {of_set} ({name}) is {labels[of_set]} in another model: put "
                        f"the models into a set that maps their ids"
                    )
        return cls(tuple(members), dict(sorted(labels.items())), path)

    @property
    def sha256(self) -> str:
        """Of the members and their ids, in hexadecimal."""
        return _sha256([f"{member.model.sha256} {sorted(member.ids.items())}" for member in self.members])


def as_models(models: AnyModel | ModelSet | Sequence[AnyModel]) -> Model | ModelSet:
    """One model, several averaged, or a set.

    Raises ModelFileError for a file that is neither, InputError for models that cannot be taken together.
    """
    if isinstance(models, ModelSet):
        return models
    if isinstance(models, str | Path) and Path(models).suffix == ".json":
        return load_set(Path(models))
    if isinstance(models, Model | str | Path):
        return as_model(models)
    members = [as_model(model) for model in models]
    if not members:
        raise InputError("no model is given: give one, or several")
    if len(members) == 1:
        return members[0]
    if all(dict(m.spec.labels) == dict(members[0].spec.labels) for m in members):
        return averaged(members)
    return ModelSet.of([Member(m, {label: label for label in m.spec.labels}) for m in members])


def models_of(model: Model | ModelSet) -> tuple[Model, ...]:
    """The model itself, or those of a set."""
    return tuple(member.model for member in model.members) if isinstance(model, ModelSet) else (model,)


def is_one_file(model: Model | ModelSet) -> bool:
    """Whether a path says which model it is."""
    return isinstance(model, Model) and not isinstance(model, Ensemble)


def averaged(members: Sequence[Model]) -> Ensemble:
    """Models as one that averages their logits. Raises InputError where they do not see images the same way."""
    first = members[0]
    for member in members[1:]:
        differing = _first_difference(member.spec, first.spec)
        if differing is not None:
            name, mine, theirs = differing
            raise InputError(
                f"{member.path} and {first.path} cannot be averaged: their {name} differ ({shown(mine)}, "
                f"{shown(theirs)}): average models that were trained with one plan"
            )
    # What a validation measured holds for all where it holds for each.
    worst = max((member.spec for member in members), key=_lost)
    training = replace(first.spec.training, presets=worst.training.presets)
    spec = replace(
        first.spec,
        training=training,
        bf16_ok=all(m.spec.bf16_ok for m in members),
        # The geometric mean; what Dice to expect was measured for none of them together.
        trust=Trust(temperature=math.prod(m.spec.trust.temperature for m in members) ** (1 / len(members))),
        cleaning=tuple(step for step in first.spec.cleaning if all(step in m.spec.cleaning for m in members)),
    )
    return Ensemble(spec, first.path, _sha256([m.sha256 for m in members]), tuple(members))


def _lost(spec: ModelSpec) -> float:
    lost = lost_by("balanced", spec)
    return math.inf if lost is None else lost


_ONE_PLAN = (
    *("channels", "labels", "patch_zyx", "spacing_zyx_mm", "size_zyx", "orientation", "normalisation", "steps"),
    *("output", "sliding", "mode", "recipe"),
)
"""What models have in common whose logits are averaged."""


def _first_difference(one: ModelSpec, other: ModelSpec) -> tuple[str, object, object] | None:
    """(name, value, value) of what forbids to average two models; None where nothing does."""
    for name in _ONE_PLAN:
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine != theirs:
            return name, mine, theirs
    if one.first is None or other.first is None:
        return None if one.first is other.first else ("first stages", one.first, other.first)
    mine, theirs = ((stage.guide, stage.margin_mm) for stage in (one.first, other.first))
    if mine != theirs:
        return "guides", mine, theirs
    return _first_difference(one.first.model, other.first.model)


def list_sets() -> list[Path]:
    """The files in the models folder that may be sets, in the natural order of their names; they are not opened."""
    return sorted(models_folder().glob("*.json"), key=lambda path: natural(path.name))


def load_set(path: Path) -> Model | ModelSet:
    """The set in a JSON file; one that is averaged as one model. Raises ModelFileError for whatever is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelFileError(f"{path}: a set has at most {_MOST_BYTES} bytes")
        document = strictjson.parse(path.read_text("utf-8"))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict) or {*document, "combine"} != {KEY, "members", "combine"} or document[KEY] != 1:
        raise ModelFileError(f'{path}: a set of models is {{"{KEY}": 1, "members": [...]}}')
    combine = document.get("combine", "merge")
    if combine not in ("average", "merge"):
        raise ModelFileError(f"{path}: combine is average or merge; got {shown(combine)}")
    entries = document["members"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MOST_MEMBERS:
        raise ModelFileError(f"{path}: members must be a list of 1 to {_MOST_MEMBERS} models")
    try:
        members = [_member(path, entry) for entry in entries]
        if combine == "merge":
            return ModelSet.of(members, path)
        if any(own != of_set for member in members for own, of_set in member.ids.items()):
            raise InputError("the labels of models that are averaged keep their ids")
        return averaged([member.model for member in members])
    except InputError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _member(path: Path, entry: Any) -> Member:
    if not isinstance(entry, dict) or not {"model"} <= set(entry) <= {"model", "labels"}:
        raise InputError(f'a member is {{"model": NAME, "labels": {{...}}}}; got {shown(entry)}')
    name = checks.text("model name", entry["model"], "row name")
    if Path(name).name != name:
        raise InputError(f"a member lies beside its set, and has a name without folders; got {shown(name)}")
    model = as_model(path.parent / name)
    ids = entry.get("labels", {str(label): label for label in model.spec.labels})
    known = {str(label): label for label in model.spec.labels}
    if not isinstance(ids, dict) or not ids or not set(ids) <= set(known):
        raise InputError(f"the labels of {name} are {', '.join(known)}; got {shown(ids)}")
    return Member(model, {known[own]: checks.whole("label id", of_set) for own, of_set in ids.items()})


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
