"""Several models as one: averaged where they have the same labels, a set where they have different ones.

A set is a JSON file beside its members: {"napari_medseg_set": 1, "members": [{"model": "liver.safetensors", "labels":
{"1": 5}}, ...]}. "labels" maps the ids of a member to those of the set, and may be left out for the ids as they are.
With "combine": "average" the members are averaged, as the folds of a training; without it their labels are merged.
A member of such a set may itself be averaged: "model" is then a list of names. One member may have the "role" "crop":
it looks first, and the others see the box around its "labels" (a list of ids) with a margin of "margin_mm".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from napari_medseg.volume import same_name

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_medseg.models.spec import ModelSpec

KEY = "napari_medseg_set"
"""The key that makes a JSON file a set; its value is the version of the form."""
CROP = "crop"
"""The role of the member that says where the others look."""
MARGIN_MM = 20.0
"""What is added to the box of a crop on each side, where its set does not say."""
_MOST_BYTES = 2**20
_MOST_MEMBERS = 64

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
class Crop:
    """A model that looks at the whole image first: the models of a set see the box around its labels."""

    model: Model
    labels: tuple[int, ...]
    """Those of its labels that the box is around."""
    margin_mm: float = MARGIN_MM
    """Added to the box on each side."""


@dataclass(frozen=True)
class ModelSet:
    """Models of different labels; where several label a voxel, the first one decides."""

    members: tuple[Member, ...]
    labels: Mapping[int, str]
    path: Path | None = None
    """The file that names the members; None for models that were given one by one."""
    crop: Crop | None = None
    """Where the models look; None: everywhere."""

    @classmethod
    def of(cls, members: Sequence[Member], path: Path | None = None, crop: Crop | None = None) -> ModelSet:
        """Raises InputError where two members give an id two names."""
        labels: dict[int, str] = {}
        for member in members:
            for own, of_set in member.ids.items():
                name = member.model.spec.labels[own]
                if not same_name(labels.setdefault(of_set, name), name):
                    raise InputError(
                        f"{member.model.path}: its label {of_set} ({name}) is {labels[of_set]} in another model: put "
                        f"the models into a set that maps their ids"
                    )
        return cls(tuple(members), dict(sorted(labels.items())), path, crop)

    @property
    def sha256(self) -> str:
        """Of the members and their ids, and of the crop, in hexadecimal."""
        lines = [f"{member.model.sha256} {sorted(member.ids.items())}" for member in self.members]
        if self.crop is not None:
            lines.append(f"{CROP} {self.crop.model.sha256} {self.crop.labels} {self.crop.margin_mm}")
        return _sha256(lines)


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
    if all(_same_labels(m.spec.labels, members[0].spec.labels) for m in members):
        return averaged(members)
    return ModelSet.of([Member(m, {label: label for label in m.spec.labels}) for m in members])


def _same_labels(a: Mapping[int, str], b: Mapping[int, str]) -> bool:
    """Whether the ids are the same, and their names mean the same."""
    return a.keys() == b.keys() and all(same_name(name, b[label]) for label, name in a.items())


def models_of(model: Model | ModelSet) -> tuple[Model, ...]:
    """The model itself, or those of a set, the crop last."""
    if isinstance(model, Model):
        return (model,)
    return (*(member.model for member in model.members), *((model.crop.model,) if model.crop else ()))


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
                f"{member.path} and {first.path} cannot be averaged: their {name} differ ({_told(mine)}, "
                f"{_told(theirs)}): average models of one plan; of others, segment with each and let them vote "
                f"(napari-medseg evaluate --consensus)"
            )
    # What a validation measured holds for all where it holds for each.
    worst = max((member.spec for member in members), key=_lost)
    training = replace(first.spec.training, presets=worst.training.presets)
    axes = set.intersection(*(set(m.spec.recipe.mirror_axes) for m in members))
    spec = replace(
        first.spec,
        training=training,
        recipe=replace(first.spec.recipe, mirror_axes=tuple(sorted(axes))),
        bf16_ok=all(m.spec.bf16_ok for m in members),
        # The geometric mean; what Dice to expect was measured for none of them together.
        trust=Trust(temperature=math.prod(m.spec.trust.temperature for m in members) ** (1 / len(members))),
        cleaning=tuple(step for step in first.spec.cleaning if all(step in m.spec.cleaning for m in members)),
    )
    return Ensemble(spec, first.path, _sha256([m.sha256 for m in members]), tuple(members))


def _told(value: object) -> str:
    """A value of a plan for a message: rules, of which there are several, by their kinds."""
    rules = value if isinstance(value, tuple) else ()
    kinds = [str(rule.kind) for rule in rules if hasattr(rule, "kind")]
    return " and ".join(kinds) if kinds and len(kinds) == len(rules) else shown(value)


def _lost(spec: ModelSpec) -> float:
    lost = lost_by("balanced", spec)
    return math.inf if lost is None else lost


_ONE_PLAN = (
    *("channels", "patch_zyx", "spacing_zyx_mm", "size_zyx", "orientation", "normalisation", "steps"),
    *("output", "sliding", "mode"),
)
"""What models have in common whose logits are averaged, besides the labels."""


def _first_difference(one: ModelSpec, other: ModelSpec) -> tuple[str, object, object] | None:
    """(name, value, value) of what forbids to average two models; None where nothing does."""
    if not _same_labels(one.labels, other.labels):
        return "labels", dict(one.labels), dict(other.labels)
    plans = [(name, getattr(one, name), getattr(other, name)) for name in _ONE_PLAN]
    own, others = (asdict(spec.recipe) for spec in (one, other))
    if not (one.recipe.mirrored or other.recipe.mirrored):  # a run mirrors where it is asked to, along those of all
        own["mirror_axes"] = others["mirror_axes"]
    for name, mine, theirs in [*plans, *((key, own[key], others[key]) for key in own)]:
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
    if sum(_count(entry) for entry in entries) > _MOST_MEMBERS:
        raise ModelFileError(f"{path}: members must name at most {_MOST_MEMBERS} models")
    try:
        if combine == "merge":
            members = [_member(path, entry) for entry in entries if not _is_crop(entry)]
            return ModelSet.of(members, path, _crop(path, [entry for entry in entries if _is_crop(entry)], members))
        members = [_member(path, entry) for entry in entries]
        if any(own != of_set for member in members for own, of_set in member.ids.items()):
            raise InputError("the labels of models that are averaged keep their ids")
        return averaged([member.model for member in members])
    except InputError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _count(entry: Any) -> int:
    """How many models an entry names."""
    named = entry.get("model") if isinstance(entry, dict) else None
    return len(named) if isinstance(named, list) else 1


def _is_crop(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("role") == CROP


def _member(path: Path, entry: Any) -> Member:
    if not isinstance(entry, dict) or not {"model"} <= set(entry) <= {"model", "labels"}:
        raise InputError(f'a member is {{"model": NAME, "labels": {{...}}}}; got {shown(entry)}')
    model = _beside(path, entry["model"])
    ids = entry.get("labels", {str(label): label for label in model.spec.labels})
    known = {str(label): label for label in model.spec.labels}
    if not isinstance(ids, dict) or not ids or not set(ids) <= set(known):
        raise InputError(f"the labels of {model.path.name} are {', '.join(known)}; got {shown(ids)}")
    return Member(model, {known[own]: checks.whole("label id", of_set) for own, of_set in ids.items()})


def _crop(path: Path, entries: Sequence[Mapping[str, Any]], members: Sequence[Member]) -> Crop | None:
    """The crop among the entries of a set. Raises InputError for several, and for one without other members."""
    if not entries:
        return None
    if len(entries) > 1 or not members:
        raise InputError("a set has one crop at most, and models that look inside of its box")
    entry = entries[0]
    if not set(entry) <= {"model", "role", "labels", "margin_mm"} or "model" not in entry:
        raise InputError(f'a crop is {{"model": NAME, "role": "crop", "labels": [...]}}; got {shown(entry)}')
    model = _beside(path, entry["model"])
    labels = entry.get("labels", list(model.spec.labels))
    if not isinstance(labels, list) or not labels or not all(type(i) is int and i in model.spec.labels for i in labels):
        raise InputError(
            f"the labels of {model.path.name} are {', '.join(map(str, model.spec.labels))}; got {shown(labels)}"
        )
    return Crop(model, tuple(labels), checks.number("margin_mm", entry.get("margin_mm", MARGIN_MM)))


def _beside(path: Path, named: Any) -> Model:
    """The model beside a set, or the mean of several. named: a name, or a list of names."""
    names = named if isinstance(named, list) else [named]
    if not names:
        raise InputError("a member is one model, or several that are averaged; got none")
    models = []
    for name in names:
        checks.text("model name", name, "row name")
        if Path(name).name != name:
            raise InputError(f"a member lies beside its set, and has a name without folders; got {shown(name)}")
        models.append(as_model(path.parent / name))
    return models[0] if len(models) == 1 else averaged(models)


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
