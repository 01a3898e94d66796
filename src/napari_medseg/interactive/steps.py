"""What a person does in a session, one value a step. A step is itself alone: two equal prompts are two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from napari_medseg.interactive.masks import SparseMask
from napari_medseg.prompts import Prompt

Method = Literal["auto", "geodesic"]
"""How prompts become masks: geodesic: without a network; auto: the best by figures, which is geodesic."""


@dataclass(frozen=True, eq=False)
class AddStep:
    """Prompts of one label were added, all at once."""

    prompts: tuple[Prompt, ...]

    @property
    def label(self) -> int:
        return self.prompts[0].label


@dataclass(frozen=True)
class LockStep:
    """A label was locked, or unlocked."""

    label: int
    locked: bool


@dataclass(frozen=True, eq=False)
class StartStep:
    """The masks of some labels were taken over from elsewhere."""

    masks: Mapping[int, SparseMask]
    names: Mapping[int, str] = field(default_factory=dict)


Step: TypeAlias = AddStep | LockStep | StartStep
