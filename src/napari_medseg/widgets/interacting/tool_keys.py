"""The keys of the tools, on the layers of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Layer


class ToolKeys:
    """On the session's own layers only: napari's keys stay as they are elsewhere."""

    def __init__(self, calls: Mapping[str, Callable[[], None]]) -> None:
        """calls: {key as napari writes it: what it does}."""
        self._calls = calls
        self._bound: list[tuple[Layer, str]] = []

    def bind(self, layers: Iterable[Layer]) -> None:
        """Let the keys count while one of these layers is active."""
        for layer in layers:
            for key, call in self._calls.items():
                layer.bind_key(key, _handler(call), overwrite=True)
                self._bound.append((layer, key))

    def unbind(self) -> None:
        """Give all keys back."""
        for layer, key in self._bound:
            layer.bind_key(key, None)
        self._bound.clear()


def _handler(call: Callable[[], None]) -> Callable[[object], None]:
    """A function that napari can name, which it does with every key."""

    def handle(_layer: object) -> None:
        call()

    return handle
