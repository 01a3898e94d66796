"""How a run trades time for Dice: what each preset means, and which of them a model may take by itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_medseg.config import InferencePreset
    from napari_medseg.models.spec import ModelSpec

Mirroring = Literal["all", "spread", "uncertain"]
"""all: every window is averaged over its mirror images; spread: windows that overlap are mirrored in turn, so that a
voxel sees all mirrors for the time of none; uncertain: windows are averaged where the network is uncertain."""

MOST_LOST = 0.002
"""Dice that a preset may cost before it is no more chosen, or offered, without a word."""


@dataclass(frozen=True)
class Setting:
    """What a preset means."""

    overlap: float
    """Fraction of a window that it shares with its neighbour."""
    blending: Literal["gaussian", "core"]
    """gaussian: overlapping windows are averaged; core: each voxel is that of the window it lies deepest in."""
    mirroring: Mirroring
    """How windows are mirrored, in a run that mirrors."""
    mirrors_by_default: bool
    """Whether a model whose makers mirror is mirrored without being asked."""


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "exact": Setting(0.5, "gaussian", "all", True),
        "balanced": Setting(0.375, "gaussian", "spread", True),
        "fast": Setting(0.25, "core", "uncertain", False),
    }
)
"""{preset: what it means}; exact is MONAI's sliding window with a gaussian weight, and nnU-Net's."""


def preset_for(asked: InferencePreset, spec: ModelSpec) -> str:
    """exact, balanced or fast; "auto" is balanced where the model's validation lost at most `MOST_LOST` by it."""
    if asked != "auto":
        return asked
    lost = lost_by("balanced", spec)
    return "balanced" if lost is not None and lost <= MOST_LOST else "exact"


def lost_by(preset: str, spec: ModelSpec) -> float | None:
    """The mean Dice that a preset cost in the model's validation; None where that was not measured."""
    found = spec.training.presets
    return found["exact"] - found[preset] if {"exact", preset} <= set(found) else None


def doubt_about_preset(asked: InferencePreset, spec: ModelSpec) -> str | None:
    """A line for a user who asked for a preset that costs Dice, or may; None otherwise."""
    preset = preset_for(asked, spec)
    lost = lost_by(preset, spec)
    if preset == "exact":
        return None
    if lost is None:
        return f"what the preset {preset} costs was not measured for this model: compare it with exact"
    if lost > MOST_LOST:
        return f"the preset {preset} cost {lost:.3f} Dice in the model's validation: exact costs none"
    return None
