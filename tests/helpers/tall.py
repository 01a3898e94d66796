"""Images of any number of planes that nothing holds, and how much of them a work takes at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_medseg import Grid, Volume
from napari_medseg.inference.device import machine_for


class Repeated:
    """Some planes again and again: (1, depth, Y, X), made when they are read."""

    chunks = None

    def __init__(self, planes: npt.NDArray[Any], depth: int) -> None:
        self._planes = planes
        self.shape, self.dtype, self.ndim = (1, depth, *planes.shape[1:]), planes.dtype, 4
        self.most = 0
        """Voxels that were read at once."""

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        channel, z, *rest = key
        where = np.arange(self.shape[1])[z] % len(self._planes)
        found = self._planes[where][(slice(None), *rest)]
        self.most = max(self.most, found.size)
        return np.asarray(found if isinstance(channel, int | np.integer) else found[None])


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return made


def taken_at_once(depth: int, work: Callable[[Volume], object]) -> tuple[int, int]:
    """(voxels of an image of that depth, elements of tensors) that some work takes at once, at most."""
    planes = np.random.default_rng(0).normal(size=(12, 20, 16)).astype(np.float32)
    data = Repeated(planes, depth)
    machine_for("cpu")  # measures the machine once in a process, with tensors of its own
    with _Largest() as largest:
        work(Volume(data, Grid((depth, *planes.shape[1:]), np.eye(4)), ("image",), name="tall"))
    return data.most, largest.elements
