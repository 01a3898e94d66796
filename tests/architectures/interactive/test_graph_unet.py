from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_medseg.architectures.interactive.graph_unet import Graph, GraphConvolution, TopKPool, supervoxel_graph
from napari_medseg.registry import network
from network_suite import noise
from tensors_suite import TensorsSuite

PATH = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
"""0 - 1 - 2 - 3 - 4"""


class TestGraphUNet(TensorsSuite):
    network = "graph_unet"
    small: ClassVar[Mapping[str, object]] = {"channels": 8, "kept_percent": (80, 50)}

    def inputs(self, in_channels: int, dims: int, seed: int) -> tuple[Tensor, ...]:
        edges = torch.randint(30, (2, 60), generator=torch.Generator().manual_seed(seed))
        return noise(30, in_channels, (), seed), edges


def pairs(graph: Graph) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in graph.edges.T.tolist()}


def test_a_graph_has_each_pair_in_both_directions_and_once() -> None:
    graph = Graph.of(4, torch.tensor([[0, 1, 2, 2, 0], [1, 0, 2, 3, 1]]))
    assert graph.edges.shape == (2, 4)
    assert pairs(graph) == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_neighbours_within_two_steps() -> None:
    assert {p for p in pairs(Graph.of(5, PATH).pooled(torch.arange(5))) if p[0] < p[1]} == {
        (0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)
    }  # fmt: skip


@given(edges=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1), kept=st.sets(st.integers(0, 6)))
def test_pooling_equals_the_square_of_the_adjacency(edges: list[tuple[int, int]], kept: set[int]) -> None:
    graph, order = Graph.of(7, torch.tensor(edges).T), torch.tensor(sorted(kept), dtype=torch.long)
    adjacency = torch.zeros(7, 7)
    adjacency[tuple(graph.edges)] = 1
    joined = (adjacency @ adjacency + adjacency)[order][:, order].fill_diagonal_(0) if kept else torch.zeros(0, 0)
    assert pairs(graph.pooled(order)) == {tuple(pair) for pair in joined.nonzero().tolist()}


def test_kept_nodes_are_renumbered() -> None:
    graph = Graph.of(5, PATH).pooled(torch.tensor([0, 2, 3]))
    assert graph.nodes == 3
    assert pairs(graph) == {(0, 1), (1, 0), (1, 2), (2, 1)}


def test_a_convolution_worked_out_by_hand() -> None:
    convolution = GraphConvolution(1, 1)
    nn.init.ones_(convolution.layer.weight)
    x = torch.tensor([[6.0], [0.0], [12.0]])
    found = convolution(x, Graph.of(3, PATH[:, :2]))
    # degrees with the own weight of 2: 3, 4, 3
    across = 12**-0.5
    expected = [2 * 6 / 3, (6 + 12) * across, 2 * 12 / 3]
    torch.testing.assert_close(found, torch.tensor(expected)[:, None])


def test_pooling_keeps_the_highest_scores_and_multiplies_by_them() -> None:
    pool = TopKPool(2, 0.5)
    with torch.no_grad():
        pool.direction.copy_(torch.tensor([[0.0], [3.0]]))
    x = torch.tensor([[1.0, -1], [1, 2], [1, 0], [1, 1]])
    pooled, kept = pool(x)
    assert kept.tolist() == [1, 3]
    torch.testing.assert_close(pooled, x[[1, 3]] * torch.tensor([[2.0], [1.0]]).sigmoid())
    pooled.sum().backward()
    assert pool.direction.grad is not None
    assert pool.direction.grad.abs().min() > 0


@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_any_number_of_nodes_with_or_without_edges(nodes: int) -> None:
    built = network("graph_unet").build(channels=4, out_channels=3)
    assert built(noise(nodes, 1, ()), torch.empty(2, 0, dtype=torch.long)).shape == (nodes, 3)


def test_nodes_in_another_order_get_the_same_logits() -> None:
    built = network("graph_unet").build(channels=4).eval()
    x, order = noise(5, 1, ()), torch.tensor([3, 1, 4, 0, 2])
    renumbered = order.argsort()[PATH]
    with torch.inference_mode():
        torch.testing.assert_close(built(x[order], renumbered), built(x, PATH)[order])


@pytest.mark.parametrize("dims", [2, 3])
def test_supervoxels_become_nodes_and_their_faces_edges(dims: int) -> None:
    supervoxels = torch.tensor([[0, 0, 1], [2, 2, 1]])
    image = torch.tensor([[[1.0, 3, 7], [4, 4, 9]]])
    if dims == 3:
        supervoxels, image = supervoxels.expand(2, 2, 3), image[:, None].expand(1, 2, 2, 3)
    nodes, edges = supervoxel_graph(image, supervoxels)
    assert nodes.tolist() == [[2, 1], [8, 1], [4, 0]]
    assert pairs(Graph(3, edges)) == {(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)}
