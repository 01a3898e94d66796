"""Images of any number of planes that nothing holds, and what a work over them holds at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_medseg import Grid, Volume


class _Repeated:
    """Some planes again and again: (1, depth, Y, X), made when they are read."""

    chunks = None

    def __init__(self, planes: npt.NDArray[Any], depth: int) -> None:
        self._planes = planes
        self.shape, self.dtype, self.ndim = (1, depth, *planes.shape[1:]), planes.dtype, 4

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        channel, z, *rest = key
        where = np.arange(self.shape[1])[z] % len(self._planes)
        found = self._planes[where][(slice(None), *rest)]
        return found if isinstance(channel, int | np.integer) else found[None]


def tall(planes: npt.NDArray[Any], depth: int, name: str = "tall") -> Volume:
    """An image (1, depth, Y, X) of these planes (z, Y, X) again and again."""
    grid = Grid((depth, *planes.shape[1:]), np.eye(4))
    return Volume(_Repeated(planes, depth), grid, ("image",), name=name)


class _Largest(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def held_by(work: Callable[[], object]) -> tuple[int, int]:
    """(most bytes of arrays and objects at once, elements of the largest tensor) while some work is done."""
    tracemalloc.start()
    try:
        with _Largest() as largest:
            work()
        return tracemalloc.get_traced_memory()[1], largest.elements
    finally:
        tracemalloc.stop()
