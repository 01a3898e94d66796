"""Checks of what scripts pass to the public functions; each error says in one line what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from napari_medseg.errors import InputError
from napari_medseg.volume import Segmentation, Volume


def require_segmentation(value: object, what: str) -> None:
    """Raise InputError unless `value` is a Segmentation. what: its name in messages."""
    _require(value, Segmentation, what, "array_zyx")


def require_volume(value: object, what: str) -> None:
    """Raise InputError unless `value` is a Volume. what: its name in messages."""
    _require(value, Volume, what, "array_czyx")


def require_named(values: object, what: str) -> None:
    """Raise InputError unless `values` is {name: Segmentation}. what: the name of one of them in messages."""
    if not isinstance(values, Mapping):
        raise InputError(f"each {what} needs a name: give {{name: Segmentation}}; got {type(values).__name__}")
    for name, value in values.items():
        require_segmentation(value, f"{what} {name!r}")


def label_ids(labels: Iterable[int]) -> list[int]:
    """The ids as a list. Raises InputError unless they are whole numbers."""
    found: Any = list(labels) if isinstance(labels, Iterable) else [None]
    if not all(isinstance(label, Integral) for label in found):
        raise InputError(f"labels needs label ids, such as (1, 2); got {labels!r}")
    return [int(label) for label in found]


def _require(value: object, kind: type, what: str, data: str) -> None:
    if not isinstance(value, kind):
        name = kind.__name__
        raise InputError(
            f"{what} must be a {name}, which knows where its voxels lie; got {type(value).__name__}: make one with "
            f"{name}({data}, Grid.from_spacing(shape_zyx, spacing_zyx_mm))"
        )
