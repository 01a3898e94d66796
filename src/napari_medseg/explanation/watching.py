"""Rectifiers and convolutions of a network, found by what they compute: as modules, as functions, as methods.

Looking for attributes of some names, as public code does, finds none in networks that name them otherwise, and then
gives the plain gradient without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_RECTIFIERS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu6),
        *(functional.leaky_relu, functional.rrelu, torch.rrelu, functional.prelu, torch.prelu, Tensor.prelu),
        *(functional.elu, functional.celu, torch.celu, functional.selu, torch.selu),
        *(functional.gelu, functional.silu, functional.mish, functional.hardswish, functional.softplus),
        *(functional.threshold, torch.threshold, functional.hardtanh),
    }
)
"""Functions that let positive values pass and hold (most of) the negative ones back."""
_CONVOLUTIONS: frozenset[Callable[..., Any]] = frozenset(
    {torch.conv2d, torch.conv3d, torch.conv_transpose2d, torch.conv_transpose3d}
)


class Watch(TorchFunctionMode):
    """Inside it, the outputs of rectifiers and convolutions of this thread are kept, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.rectified: list[Tensor] = []
        self.convolved: list[tuple[Tensor, Tensor, Tensor]] = []
        """(input, weights, output)"""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS:
            self.rectified.append(found)
        elif func in _CONVOLUTIONS:
            given = [*args, *(kwargs or {}).values()]
            self.convolved.append((given[0], given[1], found))
        return found


class Guided(TorchFunctionMode):
    """Inside it, rectifiers pass positive gradients only (Springenberg et al., ICLR workshop 2015).

    The forward pass is untouched: functions that work in place still do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        """Calls of rectifiers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS:
            self.count += 1
            if found.requires_grad:
                found.register_hook(_positive)
        return found


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)
