"""PointRend: labels rendered point by point, from the features of any network and the labels around (CVPR 2020).

N: batch. C: channels of the image. F: features. K: classes, the background included. P: points. D: 2 or 3 axes.
*size: (Z, Y, X) or (Y, X).
    x         (N, C, *size)
    fine      (N, F, P), coarse (N, K, P)
    places    (N, P, D) of points, from -1 to 1 over the box of the voxels, the last axis of the image first
    logits    (N, K, P)

One convention holds everywhere: -1 and 1 are the outer faces of the outermost voxels (align_corners false), so that
sizes which are halved and doubled cover the same box.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_medseg.architectures.blocks.outputs import Outputs, logits_of

OVERSAMPLED, UNCERTAIN_SHARE = 3, 0.75
"""k and beta of the paper: of k times as many random points the least certain ones are taken, beta of those wanted."""
_SURE = 5.0
"""Logit that an untrained head gives the class of the coarse labels."""


class PointHead(nn.Module):
    """A perceptron of three layers of 256 for single points; every layer sees the coarse labels again.

    Untrained, it repeats the coarse labels: what it learns are the corrections (our choice; published: no such start).

    Source: Kirillov et al., CVPR 2020, doi:10.1109/CVPR42600.2020.00982.
    """

    def __init__(self, features: int, classes: int, width: int = 256, layers: int = 3) -> None:
        super().__init__()
        inputs = [features, *[width] * (layers - 1)]
        self.layers = nn.ModuleList(nn.Conv1d(n + classes, width, kernel_size=1) for n in inputs)
        self.predictor = nn.Conv1d(width + classes, classes, kernel_size=1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("predictor"):
                nn.init.normal_(parameter, std=0.001)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        with torch.no_grad():
            self.predictor.weight[:, width:, 0].copy_(_SURE * torch.eye(classes))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(N, F, P) and (N, K, P) -> logits (N, K, P)."""
        x = fine
        for layer in self.layers:
            x = torch.relu(layer(torch.cat([x, coarse], dim=1)))
        logits: Tensor = self.predictor(torch.cat([x, coarse], dim=1))
        return logits


class PointRend(nn.Module):
    """A network whose features a point head reads, to render given labels.

    layer: name of the module of `network` whose input, of `features` channels, the head reads. halvings: of the given
    labels, before the head brings them back to their size. share: of the voxels of each size that the head decides.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        layer: str,
        features: int,
        classes: int,
        spatial_dims: int,
        halvings: int,
        share: float,
    ) -> None:
        super().__init__()
        self.network = network
        self.head = PointHead(features, classes)
        self.layer = layer
        self.spatial_dims = spatial_dims
        self.halvings = halvings
        self.share = share

    def look(self, x: Tensor) -> tuple[Tensor | Outputs, Tensor]:
        """What the network makes of an image (N, C, *size), and the features (N, F, *size) on the way."""
        caught: list[Tensor] = []
        module = self.network.get_submodule(self.layer)
        hook = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            outputs = self.network(x)
        finally:
            hook.remove()
        return outputs, caught[0]

    def halved(self, shares: Tensor) -> Tensor:
        """The shares of the classes (N, K, *size) as means over the voxels of a coarser size."""
        return functional.interpolate(shares, size=self.sizes(shares.shape[2:])[0], mode="area")

    def sizes(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """The sizes of a rendering, each twice the one before, rounded; the last is `size`."""
        return [tuple(-(-n // 2**k) for n in size) for k in range(self.halvings, -1, -1)]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """An image (N, C, *size) and its labels (N, K - 1, *size), 1 in those of a voxel -> shares (N, K, *size).

        From size to size the least certain voxels are decided by the head and by the network itself, half and half (our
        choice; published: the head). At the last size all others keep their label.
        Volumes (N, C, Z, Y, X) are taken slice by slice where the network is one of slices.
        """
        if self.spatial_dims == 2 and x.ndim == 5:
            slices = self(*(given.transpose(1, 2).flatten(0, 1) for given in (x, labels)))
            volumes: Tensor = slices.unflatten(0, (len(x), -1)).transpose(1, 2)
            return volumes
        given = with_background(labels)
        outputs, features = self.look(x)
        own = logits_of(outputs).softmax(1)
        coarse = shares = self.halved(given)
        sizes = self.sizes(x.shape[2:])[1:]
        for step, size in enumerate(sizes, start=1):
            shares = functional.interpolate(shares, size=size, mode=_linear(self.spatial_dims), align_corners=False)
            chosen = least_certain(shares, self.share)
            places = places_of(chosen, size)
            decided = (self.decide(features, coarse, places).softmax(1) + sampled(own, places)) / 2
            shares = given.clone() if step == len(sizes) else shares.contiguous()
            shares.flatten(2).scatter_(2, chosen[:, None].expand(-1, shares.shape[1], -1), decided)
        return shares

    def decide(self, features: Tensor, coarse: Tensor, places: Tensor) -> Tensor:
        """The logits (N, K, P) at places (N, P, D)."""
        logits: Tensor = self.head(sampled(features, places), sampled(coarse, places))
        return logits


def with_background(labels: Tensor) -> Tensor:
    """(N, K - 1, *size) -> (N, K, *size): the background is what no label has."""
    return torch.cat([1 - labels.sum(1, keepdim=True).clamp(max=1), labels], dim=1)


def margin(shares: Tensor) -> Tensor:
    """How far the likeliest class is ahead of the next, (N, K, ...) -> (N, ...): 0 where nothing is certain."""
    first, second = shares.topk(2, dim=1).values.unbind(1)
    return first - second


def least_certain(shares: Tensor, share: float) -> Tensor:
    """The indices (N, P) of that share of the voxels of (N, K, *size) where the margin is least."""
    doubt = margin(shares).flatten(1)
    count = max(1, round(share * doubt.shape[1]))
    return doubt.topk(count, dim=1, largest=False).indices


def places_of(indices: Tensor, size: Sequence[int]) -> Tensor:
    """The places (N, P, D) of the centres of voxels with these indices (N, P) in an image of `size`."""
    axes: list[Tensor] = []
    for n in reversed(size):
        axes.append((2 * (indices % n) + 1) / n - 1)
        indices = torch.div(indices, n, rounding_mode="floor")
    return torch.stack(axes, dim=-1)


def sampled(values: Tensor, places: Tensor, mode: str = "bilinear") -> Tensor:
    """Values (N, F, *size) at places (N, P, D): (N, F, P). Beyond the outermost centres the edge is repeated."""
    n, count, dims = places.shape
    grid = places.view(n, count, *[1] * (dims - 1), dims).to(values.dtype)
    found = functional.grid_sample(values, grid, mode=mode, padding_mode="border", align_corners=False)
    return found.flatten(2)


def training_places(coarse: Tensor, count: int) -> Tensor:
    """Places (N, count, D) to learn from: most where the coarse shares (N, K, *size) are uncertain, others anywhere.

    Of k = 3 times as many random places the least certain ones make up beta = 0.75. torch's generator draws them.
    """
    n, dims = len(coarse), coarse.ndim - 2
    many = 2 * torch.rand(n, OVERSAMPLED * count, dims, device=coarse.device) - 1
    wanted = round(UNCERTAIN_SHARE * count)
    chosen = margin(sampled(coarse, many)).topk(wanted, dim=1, largest=False).indices
    uncertain = many.gather(1, chosen[..., None].expand(-1, -1, dims))
    anywhere = 2 * torch.rand(n, count - wanted, dims, device=coarse.device) - 1
    return torch.cat([uncertain, anywhere], dim=1)


def last_convolution(network: nn.Module, x: Tensor, classes: int) -> tuple[str, int]:
    """The layer from which a network gets its logits, and its input channels; ("", 0) where there is none.

    It is the convolution to `classes` channels that sees the largest maps, the last of these.
    """
    seen: list[tuple[int, str, int]] = []

    def note(name: str, module: nn.Module) -> object:
        def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append((inputs[0].shape[2:].numel(), name, inputs[0].shape[1]))

        return module.register_forward_pre_hook(look)

    kinds = (nn.Conv2d, nn.Conv3d)
    hooks = [note(name, m) for name, m in network.named_modules() if isinstance(m, kinds) and m.out_channels == classes]
    was_training = network.training
    with torch.no_grad():
        network.eval()(x)
    network.train(was_training)
    for hook in hooks:
        hook.remove()  # type: ignore[attr-defined]  # torch does not name its type
    largest = max((size for size, _, _ in seen), default=0)
    return next(((name, count) for size, name, count in reversed(seen) if size == largest), ("", 0))


def _linear(dims: int) -> str:
    return "trilinear" if dims == 3 else "bilinear"
