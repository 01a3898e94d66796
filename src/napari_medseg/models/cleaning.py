"""The steps that a model asks for once its labels are there: a list of `CleanConfig`, checked, and as JSON has it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from napari_medseg.config import CleanConfig, knobs_of
from napari_medseg.errors import InputError
from napari_medseg.registry import shown

MAX_CLEANING = 64
"""Longest list."""


def cleaning_of(value: object, labels: Container[int]) -> tuple[CleanConfig, ...]:
    """The value as such a list. Raises InputError for anything else, and for labels that are not among `labels`."""
    found = tuple(value) if isinstance(value, tuple | list) else (None,)
    if len(found) > MAX_CLEANING or not all(isinstance(one, CleanConfig) for one in found):
        raise InputError(f"cleaning must hold at most {MAX_CLEANING} CleanConfig; got {shown(value)}")
    for one in found:
        assert isinstance(one, CleanConfig), "as just checked"
        if one.interpolate != "none":
            raise InputError("cleaning of a model interpolates nothing: that is for slices that somebody painted")
        if any(label not in labels for label in one.labels or ()):
            raise InputError(f"cleaning names a label that is not among the labels: {shown(one.labels)}")
    return found


def cleaning_document(config: CleanConfig) -> dict[str, Any]:
    """As JSON has it: the knobs that are not left at their defaults."""
    values = {name: (getattr(config, name), knob.default) for name, knob in knobs_of(CleanConfig).items()}
    changed = {name: value for name, (value, default) in values.items() if value != default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def read_cleaning(document: Mapping[str, Any]) -> CleanConfig:
    """The steps of a JSON document; InputError for unknown knobs and values out of bounds."""
    known = knobs_of(CleanConfig)
    for name, value in document.items():
        if name not in known:
            raise InputError(f"cleaning has an unknown key {shown(name)}: known are {', '.join(known)}")
        if isinstance(known[name].default, bool) and not isinstance(value, bool):
            raise InputError(f"cleaning {name} must be true or false; got {shown(value)}")
    labels = document.get("labels")
    return CleanConfig(**{**document, "labels": tuple(labels) if isinstance(labels, list) else labels})
