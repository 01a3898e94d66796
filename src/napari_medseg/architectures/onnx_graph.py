"""A network as an ONNX graph, which programs without torch run.

Shapes: images (N, C, *size), logits (N, K, *size).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.errors import NotSupportedError

_OPSET = 18
_NOISY = "torch.onnx._internal.exporter._registration"
"""Its logger tells of packages that are not installed, which no network here needs."""


def onnx_graph(network: nn.Module, shape: tuple[int, ...], *, careful_sums: bool = False) -> bytes:
    """The graph of a network for images of one shape (N, C, *size): its input is "image", its output "outputs".

    careful_sums: take means over a volume in two steps, row by row and then over the rows. Programs that add up all
    voxels in one float32 lose four digits in instance and group norms.

    Raises ImportError without the packages onnx and onnxscript; NotSupportedError for a network that has no graph.
    """
    import onnxscript  # noqa: F401  # torch exports with it

    with _quiet():
        try:
            program = torch.export.export(_Logits(network).eval(), (torch.zeros(shape),), strict=False)
            if careful_sums:
                program = program.run_decompositions(_CAREFUL)
            graph: Any = torch.onnx.export(
                program,
                input_names=["image"],
                output_names=["outputs"],
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        except (RuntimeError, TypeError, ValueError) as error:
            first_line = str(error).strip().partition("\n")[0]
            raise NotSupportedError(f"{type(network).__name__} has no ONNX graph: {first_line}") from error
        content: bytes = graph.model_proto.SerializeToString()
    return content


class _Logits(nn.Module):
    """A network that returns its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return logits_of(self.network(image))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself."""
    logger = logging.getLogger(_NOISY)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _normalised(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(N, C, *size) with mean 0 and variance 1 in each group of channels, then scaled."""
    y = x - _mean(x, groups)
    y = y * torch.rsqrt(_mean(y * y, groups) + eps)
    along = (1, -1, *[1] * (x.ndim - 2))
    y = y if weight is None else y * weight.reshape(along)
    return y if bias is None else y + bias.reshape(along)


def _mean(x: Tensor, groups: int) -> Tensor:
    """(N, C, *size) -> (N, C, 1, ...), the mean of each channel's group.

    The reshape keeps the two steps from being merged. It is of small arrays: of `x` it would cost a copy in each layer.
    """
    n, channels = x.shape[:2]
    of_groups = x.mean(-1).reshape(n, groups, -1).mean(-1, keepdim=True)
    return of_groups.expand(n, groups, channels // groups).reshape(n, channels, *[1] * (x.ndim - 2))


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    if use_input_stats:
        return _normalised(x, x.shape[1], weight, bias, eps)
    return torch.batch_norm(x, weight, bias, running_mean, running_var, False, momentum, eps, cudnn_enabled)


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    return _normalised(x, num_groups, weight, bias, eps)


_CAREFUL: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.instance_norm.default: _instance_norm,
    torch.ops.aten.group_norm.default: _group_norm,
}
"""How norms are written where sums are taken with care, by torch's operator."""
