"""Networks that join the channels of an image later than at their first convolution.

N: batch. M: channels of the image, each of a modality. K: classes. *size: (Z, Y, X) or (Y, X).
    x           (N, M, *size)
    shares      (M, N) how much each modality counts; they sum to 1 over M
    apart       (M N, 1, *size), (M N, C, *size / 2^k) the modalities one after the other, as a batch
    joined      (N, C, *size / 2^k)
    logits      (N, K, *size)

A modality that is 0 at every voxel counts as missing: that is what an absent channel is normalised to.
Sources: HeMIS (Havaei et al., MICCAI 2016) joins features by their mean, so that any of them may be missing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.registry.spec import Argument

_PROBE = 64
"""Voxels along each axis of the image that shows which modules are the encoder."""


def fused(kind: Callable[..., nn.Module], arguments: Mapping[str, Argument], fusion: Argument) -> nn.Module:
    """The network with one encoder per channel ("layer"), or one network per channel ("decision").

    kind, arguments: of the network, for all channels. Raises ValueError for one channel, or a network whose encoder
    cannot be told from the rest.
    """
    count = arguments["in_channels"]
    assert isinstance(count, int), "checked by the registry"
    if count < 2:
        raise ValueError(f"fusion {fusion} needs two channels or more; got {count}")
    alone = {**arguments, "in_channels": 1}
    members = [kind(**alone) for _ in range(count)]
    if fusion == "decision":
        return DecisionFusion(members)
    return LayerFusion(members, _encoder_names(kind, tuple(alone.items())))


@functools.cache
def _encoder_names(kind: Callable[..., nn.Module], arguments: tuple[tuple[str, Argument], ...]) -> tuple[str, ...]:
    """`encoder_of` a network, tried out without weights."""
    alone = dict(arguments)
    dims = alone["spatial_dims"]
    assert isinstance(dims, int), "checked by the registry"
    size = [_PROBE] * dims
    with torch.device("meta"), torch.no_grad():
        names = encoder_of(kind(**alone), torch.zeros((1, 1, *size)))
        try:
            LayerFusion([kind(**alone) for _ in range(2)], names)(torch.zeros((1, 2, *size)))
        except (AttributeError, TypeError, RuntimeError) as error:
            raise ValueError("its encoder is wired into the rest: fuse its input, or decisions") from error
    return tuple(names)


def shares_of(x: Tensor) -> Tensor:
    """(N, M, *size) -> (M, N): 1 / n for each of the n modalities that are there; alike where none is."""
    present = (x != 0).flatten(2).any(2)
    present = present | ~present.any(1, keepdim=True)
    return (present / present.sum(1, keepdim=True)).t().to(x.dtype)


def joined(apart: Tensor, shares: Tensor) -> Tensor:
    """(M N, ...) -> (N, ...), the mean of the modalities by their shares; a missing one may hold anything finite."""
    modalities = torch.unflatten(apart, 0, tuple(shares.shape))
    weights = shares.to(apart.dtype).reshape(*shares.shape, *([1] * (apart.ndim - 1)))
    mean: Tensor = (modalities * weights).sum(0)
    return mean


class LayerFusion(nn.Module):
    """An encoder per modality; the decoder sees the mean of their features at the bottom and at every skip.

    Works on any network: the modalities go through it as a batch. A module of the encoder treats each part of the batch
    with the weights of its modality. Any other module with weights sees the mean of the parts, and each part is its
    output from there on. Weights that a module of the encoder with parts has itself, such as positions, are shared.
    """

    def __init__(self, members: Sequence[nn.Module], encoder: Sequence[str]) -> None:
        """members: a network per modality. encoder: the names of the modules of their encoder."""
        super().__init__()
        self.shares = _Shares()
        self.net = members[0]
        inside = set(encoder)
        for name, module in list(_outermost(self.net, inside)):
            if name in inside:
                apart: nn.Module = _Apart([member.get_submodule(name) for member in members])
            else:
                apart = _Joined(module, self.shares)
            parent, _, child = name.rpartition(".")
            setattr(self.net.get_submodule(parent), child, apart)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, M, *size) -> logits (N, K, *size), or Outputs, as the network itself."""
        self.shares.now = shares = shares_of(x)
        outputs: Tensor | Outputs = self.net(x.transpose(0, 1).flatten(0, 1)[:, None])
        if isinstance(outputs, Outputs):
            return outputs.map(lambda output: joined(output, shares))
        return joined(outputs, shares)


class DecisionFusion(nn.Module):
    """A network per modality; their probabilities are averaged."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """(N, M, *size) -> the logarithms of the mean probabilities (N, K, *size), at every supervised scale."""
        shares = shares_of(x)
        found = [member(part[:, None]) for member, part in zip(self.members, x.unbind(1), strict=True)]
        first = found[0]
        if not isinstance(first, Outputs):
            return mean_decision(found, shares)
        return Outputs(
            mean_decision([outputs.logits for outputs in found], shares),
            tuple(mean_decision(scale, shares) for scale in zip(*(o.auxiliary for o in found), strict=True)),
            {name: joined(torch.cat([outputs.heads[name] for outputs in found]), shares) for name in first.heads},
        )


def mean_decision(logits: Sequence[Tensor], shares: Tensor) -> Tensor:
    """M times (N, K, *size) -> the logarithm of the mean of the probabilities by their shares (M, N)."""
    stacked = torch.stack([scale.log_softmax(1) for scale in logits])
    weights = shares.to(stacked.dtype).log().reshape(*shares.shape, *([1] * (stacked.ndim - 2)))
    return (stacked + weights).logsumexp(0)


class _Shares:
    """The shares of the batch that is on its way; the joins read them here."""

    now: Tensor


class _Apart(nn.Module):
    """A module of the encoder with weights of its own for each modality."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """(M N, ...) -> (M N, ...), tensors or lists of them."""
        count = len(self.members)

        def of(number: int) -> Callable[[Tensor], Tensor]:
            return lambda x: x.chunk(count)[number]

        parts = [
            member(*mapped(inputs, of(number)), **mapped(named, of(number)))
            for number, member in enumerate(self.members)
        ]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]


class _Joined(nn.Module):
    """A module behind the encoder: it sees the mean of the modalities."""

    def __init__(self, module: nn.Module, shares: _Shares) -> None:
        super().__init__()
        self.module = module
        self._shares = shares

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """(M N, ...) -> (M N, ...), of M equal parts; tensors or lists of them."""
        shares = self._shares.now

        def join(x: Tensor) -> Tensor:
            return joined(x, shares)

        output = self.module(*mapped(inputs, join), **mapped(named, join))
        return mapped(output, lambda x: x.expand(len(shares), *x.shape).flatten(0, 1))


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with all tensors in it changed, those in lists and tables too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, change) for item in value)
    return {name: mapped(item, change) for name, item in value.items()} if isinstance(value, dict) else value


def encoder_of(network: nn.Module, x: Tensor) -> list[str]:
    """The names of the modules with weights that work down to the coarsest maps, and of those that see the image.

    Raises ValueError for a network whose coarsest maps come last, or that has one size of maps only.
    """
    seen: list[tuple[str, int]] = []
    first: list[str] = []
    names = {module: name for name, module in network.named_modules()}

    def look(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if inputs and inputs[0] is x:
            first.append(names[module])
        if torch.is_tensor(output) and output.ndim > 3:
            seen.append((names[module], output.shape[2:].numel()))
        elif seen:  # tokens, which have no size: they belong to the map before
            seen.append((names[module], seen[-1][1]))

    hooks = [module.register_forward_hook(look) for module in names if _is_leaf(module)]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    coarsest = min(size for _, size in seen)
    start = next(index for index, (_, size) in enumerate(seen) if size == coarsest)
    stop = next((i for i in range(start, len(seen)) if seen[i][1] != coarsest), len(seen))
    if stop == len(seen):
        raise ValueError("it has no encoder apart from the rest: fuse its input, or decisions")
    return list(dict.fromkeys([*(name for name, _ in seen[:stop]), *first]))


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module has weights and is to be treated as a whole."""
    if parametrize.is_parametrized(module) or isinstance(module, nn.MultiheadAttention):
        return True
    return not any(True for _ in module.children()) and any(True for _ in module.parameters())


def _outermost(module: nn.Module, encoder: set[str], name: str = "") -> list[tuple[str, nn.Module]]:
    """The modules of the encoder, and the largest ones with weights that hold none of it, by name."""
    if name in encoder:
        return [(name, module)]
    holds_encoder = any(inside.startswith(f"{name}." if name else "") for inside in encoder)
    is_list = isinstance(module, nn.ModuleList | nn.ModuleDict)
    if not holds_encoder and not is_list:
        return [(name, module)] if any(True for _ in module.parameters()) else []
    prefix = f"{name}." if name else ""
    return [found for child, part in module.named_children() for found in _outermost(part, encoder, prefix + child)]
