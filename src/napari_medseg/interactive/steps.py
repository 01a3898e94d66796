"""What a person does in a session, one value a step. A step is itself alone: two equal prompts are two steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from napari_medseg.errors import InputError
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.prompts import Prompt

Method = Literal["auto", "geodesic"]
"""How prompts become masks: geodesic: without a network; auto: the best by figures, which is geodesic."""
MOST_NAME = 1024
"""Characters of a label's name."""


@dataclass(frozen=True, eq=False)
class AddStep:
    """Prompts of one label were added, all at once. Raises InputError for none, and for several labels."""

    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        if len({prompt.label for prompt in self.prompts}) != 1:
            labels = [prompt.label for prompt in self.prompts][:5]
            raise InputError(f"prompts that are added together have one label; got {labels}: add one label at a time")

    @property
    def label(self) -> int:
        return self.prompts[0].label


@dataclass(frozen=True)
class LockStep:
    """A label was locked, or unlocked."""

    label: int
    locked: bool


@dataclass(frozen=True)
class NameStep:
    """A label was given a name."""

    label: int
    name: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MOST_NAME:
            raise InputError(
                f"the name of label {self.label} has {len(self.name)} characters: give it one of 1 to {MOST_NAME}"
            )


@dataclass(frozen=True)
class DeleteStep:
    """An object was deleted, with its name and what was said of it."""

    label: int


@dataclass(frozen=True, eq=False)
class StartStep:
    """The masks of some labels were taken over from elsewhere."""

    masks: Mapping[int, SparseMask]
    names: Mapping[int, str] = field(default_factory=dict)


Step: TypeAlias = AddStep | LockStep | NameStep | DeleteStep | StartStep
