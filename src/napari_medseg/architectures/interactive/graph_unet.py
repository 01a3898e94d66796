"""Graph U-Net (Gao and Ji 2019) on the supervoxels of an image.

V: nodes. E: edges. C: channels.
    x         (V, in_channels)
    edges     (2, E), node indices of undirected edges
    level k   (V_k, channels), V_k: kept_percent[k - 1] % of V_{k-1}
    logits    (V, out_channels)
On images of volumes:
    x         (N, C, Z, Y, X)
    parts     (Z, Y, X), whole numbers 0 .. V - 1: the supervoxel of each voxel
    logits    (N, out_channels, Z, Y, X)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from skimage.segmentation import slic
from torch import Tensor, nn
from torch.nn.functional import elu

SELF_WEIGHT = 2.0
"""Of a node beside its neighbours, each 1 (Gao and Ji 2019, section 3.4)."""

SUPERVOXEL = 40
"""Voxels of a supervoxel, about."""
COMPACTNESS = 0.1
"""Of supervoxels: what a step sideways counts beside a difference of intensities, which go from 0 to 1."""
_CLIPPED = 3.0
"""Deviations of the image that intensities are clipped to, so that a bright spot leaves the others apart."""


@dataclass(frozen=True)
class Graph:
    """Which nodes are neighbours, each pair in both directions and once, no node its own neighbour."""

    nodes: int
    edges: Tensor
    """(2, E) long: receiver and sender, sorted."""

    @classmethod
    def of(cls, nodes: int, edges: Tensor) -> Graph:
        """From pairs in any order, repeated or not; a node's edge to itself is left out."""
        apart = edges[:, edges[0] != edges[1]]
        return cls(nodes, torch.cat((apart, apart.flip(0)), dim=1).unique(dim=1))  # type: ignore[no-untyped-call]  # torch

    def pooled(self, kept: Tensor) -> Graph:
        """The graph of the kept nodes (k,), numbered in that order, joined where they were within two steps.

        Source: Gao and Ji 2019, section 3.4, where the square of the adjacency keeps pooling from cutting nodes off.
        """
        number = torch.full((self.nodes,), -1, device=kept.device)
        number[kept] = torch.arange(len(kept), device=kept.device)
        middle, end = self.edges[:, number[self.edges[1]] >= 0]  # sorted by the middle
        ends = middle.bincount(minlength=self.nodes)
        count = ends[middle]
        first = (ends.cumsum(0) - ends)[middle].repeat_interleave(count)
        nth = torch.arange(len(first), device=kept.device) - (count.cumsum(0) - count).repeat_interleave(count)
        two_steps = torch.stack((end.repeat_interleave(count), end[first + nth]))
        one_step = self.edges[:, (number[self.edges] >= 0).all(0)]
        return Graph.of(len(kept), number[torch.cat((one_step, two_steps), dim=1)])


class GraphUNet(nn.Module):
    """Graph convolutions at every level; the nodes that a learned direction scores highest go down; skips added.

    One graph at a time. Source: Gao and Ji, ICML 2019; neighbours within two steps stay joined, without weights.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        channels: int,
        kept_percent: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims  # of the image; its graph has no axes
        self.embed = GraphConvolution(in_channels, channels)
        self.pools = nn.ModuleList(TopKPool(channels, percent / 100) for percent in kept_percent)
        self.down = nn.ModuleList(GraphConvolution(channels, channels) for _ in kept_percent)
        self.up = nn.ModuleList(GraphConvolution(channels, channels) for _ in kept_percent)
        self.dropout = nn.Dropout(dropout)
        self.classify = GraphConvolution(channels, out_channels)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """(V, in_channels), (2, E) -> logits (V, out_channels)."""
        graph = Graph.of(len(x), edges)
        x = elu(self.embed(x, graph))
        above: list[tuple[Tensor, Graph, Tensor]] = []
        for pool, convolve in zip(self.pools, self.down, strict=True):
            pooled, kept = pool(x)
            above.append((x, graph, kept))
            graph = graph.pooled(kept)
            x = elu(convolve(self.dropout(pooled), graph))
        for convolve in self.up:
            skip, graph, kept = above.pop()
            x = elu(convolve(self.dropout(skip.index_add(0, kept, x.to(skip.dtype))), graph))
        logits: Tensor = self.classify(x, graph)
        return logits

    def on_volumes(self) -> OnSupervoxels:
        """This network on the supervoxels of volumes."""
        return OnSupervoxels(self)


class GraphConvolution(nn.Module):
    """A layer on each node, then the mean over a node and its neighbours, weighted by both nodes' degrees.

    Source: Kipf and Welling, ICLR 2017, eq. 2, with a node's own weight of two.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layer = nn.Linear(before, after, bias=False)
        self.bias = nn.Parameter(torch.zeros(after))
        nn.init.xavier_uniform_(self.layer.weight)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """(V, before) -> (V, after), summed in float32."""
        receiver, sender = graph.edges
        degree = torch.full((graph.nodes,), SELF_WEIGHT, device=x.device)
        scale = degree.index_add(0, receiver, torch.ones_like(receiver, dtype=degree.dtype)).rsqrt()[:, None]
        scaled = self.layer(x).float() * scale
        gathered = (SELF_WEIGHT * scaled).index_add(0, receiver, scaled[sender])
        y: Tensor = gathered * scale + self.bias
        return y


class TopKPool(nn.Module):
    """Keeps the share of nodes that lie farthest along a learned direction, and multiplies them by their score.

    Without the product the direction would have no gradient. Source: Gao and Ji, ICML 2019, eq. 2.
    """

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.direction = nn.Parameter(torch.empty(channels, 1))
        nn.init.xavier_uniform_(self.direction)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(V, C) -> kept nodes (k, C) and their indices (k,), ascending; at least one."""
        scores = (x @ (self.direction / self.direction.norm()))[:, 0]
        kept = scores.topk(max(1, round(self.share * len(x)))).indices.sort().values
        return x[kept] * scores[kept].sigmoid()[:, None], kept


class OnSupervoxels(nn.Module):
    """A graph U-Net as a network of volumes: every voxel gets the logits of its supervoxel.

    A node has the mean and the deviation of each channel, and its place in the volume, from -1 to 1 along each axis.
    """

    halo = 0

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Z, Y, X) -> logits (N, out_channels, Z, Y, X)."""
        return self.on(x, [supervoxels(image) for image in x])

    def on(self, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The same, with the supervoxels of each image."""
        return torch.stack([self._logits(image, own) for image, own in zip(x, parts, strict=True)])

    def _logits(self, image: Tensor, parts: Tensor) -> Tensor:
        nodes, edges = supervoxel_graph(image, parts)
        logits: Tensor = self.net(torch.cat((nodes, places(parts)), dim=1), edges)
        return logits.T[:, parts]


def supervoxels(image: Tensor) -> Tensor:
    """(C, Z, Y, X), mean 0 and deviation 1 -> the supervoxel of each voxel (Z, Y, X), the same each time.

    SLIC (Achanta et al., TPAMI 2012).
    """
    seen = image.detach().float().clamp(-_CLIPPED, _CLIPPED).cpu().numpy()
    count = max(1, seen[0].size // SUPERVOXEL)
    parts = slic(seen, n_segments=count, compactness=COMPACTNESS, channel_axis=0, start_label=0, convert2lab=False)
    return torch.from_numpy(parts).long().to(image.device)


def places(parts: Tensor) -> Tensor:
    """The middle of each supervoxel (V, 3), from -1 to 1 along each axis."""
    flat = parts.flatten()
    count = flat.bincount().clamp_min(1)
    axes = [torch.linspace(-1, 1, n, device=parts.device) if n > 1 else parts.new_zeros(1).float() for n in parts.shape]
    sums = torch.zeros(len(count), parts.ndim, device=parts.device)
    sums.index_add_(0, flat, torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2))
    return sums / count[:, None]


def majority(parts: Tensor, classes: Tensor, count: int) -> Tensor:
    """The commonest class of each supervoxel, at its voxels; -1 where none of them has a class.

    parts, classes: (Z, Y, X), classes from 0 to count - 1, or less than 0 where nobody knows.
    """
    known = classes >= 0
    votes = torch.zeros(int(parts.max()) + 1, count, dtype=torch.long, device=parts.device)
    votes.view(-1).index_add_(0, parts[known] * count + classes[known], torch.ones_like(parts[known]))
    return torch.where(votes.sum(1) > 0, votes.argmax(1), -1)[parts]


def supervoxel_graph(image: Tensor, supervoxels: Tensor) -> tuple[Tensor, Tensor]:
    """The input of a graph U-Net: (C, *size) and whole numbers 0 .. V - 1 (*size) -> nodes (V, 2 C), edges (2, E).

    A node is the mean and the standard deviation of each channel over its supervoxel; an edge joins two supervoxels
    that share a face of voxels.
    """
    flat = supervoxels.flatten()
    count = torch.bincount(flat).clamp_min(1)
    sums = image.new_zeros(2, len(image), len(count))
    sums.index_add_(2, flat, torch.stack((image.flatten(1), image.flatten(1).square())))
    mean, squares = sums / count
    nodes = torch.cat((mean, (squares - mean.square()).clamp_min(0).sqrt())).T
    pairs = []
    for axis in range(supervoxels.ndim):
        length = supervoxels.shape[axis] - 1
        pairs.append(torch.stack([supervoxels.narrow(axis, k, length).flatten() for k in (0, 1)]))
    return nodes, Graph.of(len(count), torch.cat(pairs, dim=1)).edges
