"""The plan of a training that starts from a model, or follows a plan that was made before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError, NotSupportedError
from napari_medseg.inference.suitability import require_order
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import ModelSpec, Stage, TrainingRecord
from napari_medseg.models.transfer import channels_from, origins_of
from napari_medseg.training.planning.facts import (
    CaseFacts,
    channels_of,
    labels_of,
    seen_in,
)
from napari_medseg.training.planning.rules import (
    fingerprint_of,
    median_triple,
    mirror_axes,
    normalisation_of,
    unsided,
)
from napari_medseg.volume import called, is_named


def plan_from(
    initial: ModelSpec, facts: Sequence[CaseFacts], config: TrainConfig, *, labels: Mapping[int, str] | None = None
) -> ModelSpec:
    """The spec that fine-tunes a model on new cases: its network and preprocessing, the cases' labels.

    labels: {id: name} of the cases; by default those of `facts`. Labels of the model that no case holds stay where the
    cases add none and mean the same by their ids. Raises NotSupportedError for a model that needs the whole image.
    """
    if initial.has_pipeline:
        raise NotSupportedError(
            "the model to start from prepares images, or reads its outputs, as another program does, which a training "
            "cannot: train a new one, or start from a plain model of nnU-Net or of this package"
        )
    if len(facts[0].channels) == len(initial.channels):
        require_order(f"case {facts[0].name}", facts[0].channels, [channel.name for channel in initial.channels])
    else:
        initial = _with_channels(initial, facts)
    _refuse_idle(initial, config)
    patch = config.sampling.patch_zyx or initial.patch_zyx
    labels = _labels_from(initial.labels, labels_of(facts) if labels is None else labels)
    spacing = initial.spacing_zyx_mm or config.sampling.spacing_zyx_mm or median_triple([f.grid.spacing for f in facts])
    record = TrainingRecord(
        fingerprint=fingerprint_of(facts, spacing, initial.patch_zyx, labels),
        cases=len(facts),
        seed=config.seed,
        seen=seen_in(facts, initial.orientation),
    )
    return replace(
        initial,
        arguments={**initial.arguments, "out_channels": len(labels) + 1},
        labels=labels,
        spacing_zyx_mm=spacing,
        patch_zyx=((patch if initial.mode in ("3d", "triplanar") else initial.patch_zyx)[0], *patch[1:]),
        bf16_ok=False,
        recipe=_recipe(initial, _both_mirror(initial.recipe.mirror_axes, unsided(facts, initial.orientation)), config),
        training=record,
    )


def _both_mirror(earlier: tuple[int, ...], found: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which the new labels allow it, of those of the first model; it may have mirrored along none."""
    return tuple(axis for axis in found if axis in earlier or not earlier)


def _recipe(spec: ModelSpec, found: tuple[int, ...], config: TrainConfig) -> Recipe:
    """The recipe of a spec, with the axes along which a training of it mirrors."""
    axes = mirror_axes(found, spec.mode, config)
    return replace(spec.recipe, mirror_axes=axes, mirrored=spec.recipe.mirrored and bool(axes))


def _with_channels(initial: ModelSpec, facts: Sequence[CaseFacts]) -> ModelSpec:
    """The spec with the channels of the cases: those of the model where they have one, see `channels_from`."""
    if initial.first is not None or "fusion" in initial.arguments:
        raise InputError(
            "a cascade, and a model that fuses its channels, keep them: give images with the channels of the model to "
            "start from"
        )
    channels = channels_of(facts)
    origins = channels_from(facts[0].channels, [channel.name for channel in initial.channels])
    slices = initial.patch_zyx[0] if initial.mode == "2.5d" else 1
    return replace(
        initial,
        channels=tuple(
            new if k is None else replace(initial.channels[k], name=new.name)
            for k, new in zip(origins, channels, strict=True)
        ),
        normalisation=tuple(
            normalisation_of(facts, c, channels[c].modality) if k is None else initial.normalisation[k]
            for c, k in enumerate(origins)
        ),
        arguments={**initial.arguments, "in_channels": len(channels) * slices},
        training=replace(initial.training, seen=None),
    )


def planned(
    spec: ModelSpec, facts: Sequence[CaseFacts], config: TrainConfig, *, labels: Mapping[int, str], first: Stage | None
) -> ModelSpec:
    """The spec of a plan for these cases, with the record of the training. first: the stage before it, trained.

    Patches are mirrored as the plan says, unless they are not augmented. Raises InputError where the cases have other
    channels, a label that the plan lacks, or the config says otherwise.
    """
    if len(facts[0].channels) != len(spec.channels):
        raise InputError(f"the cases have {len(facts[0].channels)} channels, the plan {len(spec.channels)}")
    require_order(f"case {facts[0].name}", facts[0].channels, [channel.name for channel in spec.channels])
    _refuse_idle(spec, config, "the plan")
    patch = config.sampling.patch_zyx or spec.patch_zyx
    if patch != spec.patch_zyx and (spec.mode in ("3d", "triplanar") or patch[1:] != spec.patch_zyx[1:]):
        raise InputError(f"patch_zyx {patch} does not go with the plan, which has {spec.patch_zyx}: leave it out")
    unknown = config.loss.ignore_label
    if unknown in spec.labels:
        raise InputError(f"the plan learns label {unknown}, which is to be ignored: plan again with ignore_label")
    lacking = [called(i, labels) for i in labels if i not in spec.labels]
    if lacking:
        raise InputError(f"the plan has no label {', '.join(lacking[:5])}, which the cases hold: plan them again")
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    record = TrainingRecord(
        fingerprint=fingerprint_of(facts, spec.spacing_zyx_mm, spec.patch_zyx, spec.labels),
        cases=len(facts),
        seed=config.seed,
        seen=seen_in(facts, spec.orientation),
    )
    mirror = config.augmentation.mirror
    if mirror != TrainConfig().augmentation.mirror and _recipe(spec, spec.recipe.mirror_axes, config) != spec.recipe:
        along = spec.recipe.axes_told or "no axis"
        raise InputError(f"mirror {mirror} does not go with the plan, which mirrors along {along}: leave it out")
    recipe = spec.recipe if config.augmentation.augment else _recipe(spec, (), config)
    return replace(spec, first=first, training=record, recipe=recipe)


def _refuse_idle(initial: ModelSpec, config: TrainConfig, owner: str = "the model to start from") -> None:
    """Raise InputError for a knob that the model to start from, or the plan, decides otherwise."""
    own = initial.arguments
    arguments = [(f"argument {name}", value, own.get(name)) for name, value in config.arguments.items()]
    spacing = config.sampling.spacing_zyx_mm
    same_spacing = None in (spacing, initial.spacing_zyx_mm) or spacing == initial.spacing_zyx_mm
    slices = initial.patch_zyx[0] if initial.mode == "2.5d" else 1
    fusion = own.get("fusion", "input")
    given = (
        ("mode", config.mode, config.mode in ("auto", initial.mode), initial.mode),
        ("fusion", config.fusion, config.fusion in ("input", fusion), fusion),
        ("slices", config.slices, config.slices in (TrainConfig().slices, slices), slices),
        ("spacing_zyx_mm", spacing, same_spacing, initial.spacing_zyx_mm),
        *((name, value, value == has, has) for name, value, has in arguments),
    )
    for name, value, agrees, has in given:
        if not agrees:
            raise InputError(f"{name} {value} does not go with {owner}, which is of {name} {has}: leave the {name} out")


def _labels_from(earlier: Mapping[int, str], found: Mapping[int, str]) -> dict[int, str]:
    """The labels of a fine-tuned model. earlier: of the model. found: in the cases, whose own names go first."""
    meant = {i: name if is_named(i, name) else earlier.get(i, name) for i, name in found.items()}
    origins = origins_of(meant, earlier)
    return {**earlier, **meant} if all(origins.of[i] == i for i in meant) else meant
