"""Shapes layers and their copies in the linked views, which napari-orthogonal-views 0.5.0 cannot keep the same.

It sets one property after the other, and each must fit the number of shapes; and it does not carry what kind they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Shapes

_OF_EACH_SHAPE = ("features", "edge_width", "edge_color", "face_color")
_OF_THE_NEXT = ("feature_defaults", "current_edge_width", "current_edge_color", "current_face_color")
CARRIED = {"data", "properties", "current_properties", *_OF_EACH_SHAPE, *_OF_THE_NEXT}
"""The properties that the plugin must leave alone."""


def same_shapes(layer: Shapes, copy: Shapes) -> list[tuple[Any, Callable[[Any], None]]]:
    """A hook of the plugin: what is drawn in one of the two is in the other, with its kind, its features and its look.

    What the next shape gets comes from the layer alone.
    """
    carries = False

    def carry(source: Shapes, target: Shapes, action: str) -> None:
        nonlocal carries
        if not carries and len(source.features) == source.nshapes:  # else there is more to come
            carries = True
            try:
                _take(source, target, action)
            finally:
                carries = False

    def follow(event: Any) -> None:
        carry(layer, copy, str(getattr(event, "action", "changed")))

    def follow_copy(event: Any) -> None:
        if str(event.action) in ("added", "removed", "changed"):
            carry(copy, layer, str(event.action))

    def follow_next(_event: Any = None) -> None:
        copy.selected_data = set()  # napari would give it to what is selected
        for name in _OF_THE_NEXT:
            if hasattr(copy, name):
                setattr(copy, name, getattr(layer, name))

    follow_next()
    signals: list[tuple[Any, Callable[[Any], None]]] = [
        (getattr(layer.events, name), follow) for name in ("data", *_OF_EACH_SHAPE)
    ]
    signals += [(getattr(layer.events, name), follow_next) for name in ("feature_defaults", "current_edge_color")]
    signals.append((copy.events.data, follow_copy))
    for signal, slot in signals:
        signal.connect(slot)
    return signals


def _take(source: Shapes, target: Shapes, action: str) -> None:
    """Who follows the target is told once all of it is there."""
    with target.events.data.blocker():
        target.data = list(zip(source.data, source.shape_type, strict=True))
        for name in _OF_EACH_SHAPE if source.nshapes else ("features",):
            setattr(target, name, getattr(source, name))
    target.events.data(value=target.data, action=action)
