"""Several passes of a window through a network, and how far they disagree.

Shapes: windows are (B, C, z, y, x), logits (B, K, z, y, x), a variance (B, 1, z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from napari_medseg.config import DoubtConfig
from napari_medseg.errors import NotSupportedError
from napari_medseg.inference.plan import InferencePlan
from napari_medseg.inference.predictor import Predictor, mirrors_along, variance_of
from napari_medseg.models.file import Model
from napari_medseg.models.several import Ensemble

Look = Callable[[torch.Tensor], Iterator[torch.Tensor]]
"""A window in, the logits of each pass out."""


@dataclass(frozen=True, eq=False)
class Passes:
    """A network whose windows give logits, and for each way of looking again a channel with the variance."""

    predictor: Predictor
    looks: tuple[Look, ...]
    temperature: float

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """(B, C, z, y, x) -> (B, K + S, z, y, x)."""
        parts = [self.predictor(windows)]
        # Window by window: what is left out of one does not depend on those beside it.
        for look in self.looks:
            found = [self._variance(look(windows[i : i + 1])) for i in range(len(windows))]
            parts.append(torch.cat(found))
        return torch.cat(parts, dim=1)

    def _variance(self, logits: Iterator[torch.Tensor]) -> torch.Tensor:
        return variance_of(one.div(self.temperature).softmax(1) for one in logits)


def looks_of(
    kinds: Sequence[str], model: Model, plan: InferencePlan, predictor: Predictor, config: DoubtConfig
) -> tuple[Look, ...]:
    """How each kind looks again. Raises NotSupportedError for what the model cannot do."""
    makers: dict[str, Callable[[], Look]] = {
        "tta": lambda: _mirrored(model, predictor),
        "dropout": lambda: _dropped(model, predictor, config),
        "ensemble": lambda: _members(model, plan),
    }
    return tuple(makers[kind]() for kind in kinds if kind in makers)


def _mirrored(model: Model, predictor: Predictor) -> Look:
    axes = model.spec.recipe.mirror_axes
    if not axes:
        raise NotSupportedError(f"{model.path}: its training mirrored along no axis: leave tta out")
    plain = replace(predictor, mirrors=())

    def look(window: torch.Tensor) -> Iterator[torch.Tensor]:
        yield plain(window)
        for mirror in mirrors_along(axes):
            dims = [2 + axis for axis in mirror]
            yield plain(window.flip(dims)).flip(dims)

    return look


def _dropped(model: Model, predictor: Predictor, config: DoubtConfig) -> Look:
    layers = [m for m in predictor.network.modules() if isinstance(m, _DropoutNd) and m.p > 0]
    if not layers:
        raise NotSupportedError(f"{model.path}: {model.spec.network} was trained without drop-out: leave dropout out")
    plain = replace(predictor, mirrors=())

    def look(window: torch.Tensor) -> Iterator[torch.Tensor]:
        # The same draws for every window: what a voxel gets does not depend on the order of the windows.
        draw = torch.Generator().manual_seed(config.seed)
        with _dropping(layers, draw):
            for _ in range(config.passes):
                yield plain(window)

    return look


@contextmanager
def _dropping(layers: Sequence[_DropoutNd], draw: torch.Generator) -> Iterator[None]:
    """Inside, drop-out drops, by draws of its own: torch's are those of the whole process."""

    def drop(layer: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        assert isinstance(layer, _DropoutNd), "hooked to these only"
        whole = isinstance(layer, nn.Dropout2d | nn.Dropout3d | nn.Dropout1d)  # these drop channels
        shape = (*output.shape[:2], *(1 for _ in output.shape[2:])) if whole else output.shape
        kept = (torch.rand(shape, generator=draw) >= layer.p).to(output)
        return output * kept / max(1e-6, 1 - layer.p)

    hooks = [layer.register_forward_hook(drop) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _members(model: Model, plan: InferencePlan) -> Look:
    if not isinstance(model, Ensemble):
        raise NotSupportedError(f"{model.path} is one model: give several of the same labels, or leave ensemble out")
    device = torch.device(plan.device)
    members = [Predictor.of(m.load_network(plan.device), plan.spec, device, plan.precision) for m in model.members]

    def look(window: torch.Tensor) -> Iterator[torch.Tensor]:
        for member in members:
            yield member(window)

    return look
