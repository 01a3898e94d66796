"""What a training says of itself: in one line before it starts, and in the model file."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from napari_medseg._version import __version__
from napari_medseg.models.spec import MISSING, ModelSpec
from napari_medseg.training.state import Setup, TrainState
from napari_medseg.training.validate import mean_of

_NAMED = 10
"""Most cases that the line of the plan names."""
_LONGEST = 180
"""Characters of a label's name in the record."""


def described(setup: Setup, state: TrainState, validating: Sequence[str]) -> str:
    """The plan in one line. validating: the names of the cases that validate, in their order."""
    spec = setup.spec
    parameters = sum(p.numel() for p in state.network.parameters())
    patch = "x".join(map(str, spec.patch_zyx))
    spacing = ", ".join(f"{s:.3g}" for s in spec.spacing_zyx_mm or ())
    axes = spec.recipe.axes_told
    mirrored = f", mirrored along {axes}" if axes else ""
    return (
        f"{setup.device} {setup.precision}: {spec.network} with {parameters:,} parameters, patches of {patch} "
        f"at {spacing} mm{mirrored}, cases to train: {spec.training.cases}, to validate: {_listed(validating)}, "
        f"steps an epoch: {setup.budget.steps_per_epoch}"
    )


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} ({', '.join(names[:_NAMED])}{more})"


def _apart(labels: Mapping[int, str]) -> dict[int, str]:
    """The names of labels as a record has them: cut, and with the id where another has the same."""
    short = {label: name[:_LONGEST] for label, name in labels.items()}
    count = Counter(short.values())
    return {label: name if count[name] == 1 else f"{name} ({label})" for label, name in short.items()}


def recorded(
    setup: Setup, state: TrainState, *, bf16_ok: bool = False, presets: Mapping[str, float] = MappingProxyType({})
) -> ModelSpec:
    """The ModelSpec with the record of the training so far. presets: the mean Dice with each of them."""
    scores = {f"dice {name}": state.dice[k] for k, name in _apart(setup.spec.labels).items() if k in state.dice}
    if state.dice:
        scores["dice mean"] = mean_of(state.dice)
    # "stage" is the word that model files have for a phase
    scores |= {f"dice mean of stage {name}": dice for name, dice in state.phase_dice.items()}
    dropout = setup.config.augmentation.modality_dropout
    record = replace(
        setup.spec.training,
        fingerprint={**setup.spec.training.fingerprint, **({MISSING: dropout} if dropout else {})},
        epochs=(state.step - state.steps_before) / setup.budget.steps_per_epoch,
        minutes=setup.budget.elapsed() / 60,
        versions={"napari-medseg": __version__}
        | {p: importlib.metadata.version(p) for p in ("torch", "monai", "numpy")},
        validation=scores,
        presets=presets,
    )
    return replace(setup.spec, training=record, bf16_ok=bf16_ok)
