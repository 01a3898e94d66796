"""DiNTS, a network whose paths were searched, on MONAI's cells: any size in, logits out.

N: batch. C: channels. *size: (Z, Y, X) or (Y, X).
    x       (N, in_channels, *size)
    logits  (N, out_channels, *size)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks import nets
from monai.networks.nets.dints import Cell
from torch import Tensor, nn

from napari_medseg.architectures.monai.unets import Wrapped
from napari_medseg.architectures.unets.nnunet import Sizes, require_length

_WIDTH = 32
"""Features of the finest level, times `channel_mul`; each further level has twice as many."""


class DiNTS(Wrapped):
    """Differentiable network topology search (He et al., CVPR 2021): what the search found is among the arguments.

    paths: of each block, for each of the 3 x depths - 2 connections, whether it is there. operations: which operation
    it has. nodes: of the input and of each block, whether a depth is used.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        blocks: int,
        depths: int,
        channel_mul: float,
        downsample: bool,
        paths: Sizes,
        operations: Sizes,
        nodes: Sizes,
    ) -> None:
        per_block = 3 * depths - 2
        require_length("paths", paths, blocks * per_block)
        require_length("operations", operations, blocks * per_block)
        require_length("nodes", nodes, (blocks + 1) * depths)
        kinds = len(Cell.OPS3D if spatial_dims == 3 else Cell.OPS2D)
        if max(operations) >= kinds:
            raise ValueError(f"operations go from 0 to {kinds - 1}; got {max(operations)}")
        rows = [nodes[k : k + depths] for k in range(0, len(nodes), depths)]
        if not any(rows[-1]):
            raise ValueError("nodes leave nothing of the last block")
        space = _Space(spatial_dims, blocks, depths, channel_mul, downsample, paths, operations)
        net = nets.DiNTS(
            space, in_channels, out_channels, spatial_dims=spatial_dims, use_downsample=downsample, node_a=rows
        )
        super().__init__(net, 2 ** (depths + downsample))


class _Space(nn.Module):
    """The searched part: blocks of cells that keep, halve or double the resolution.

    MONAI's own makes the same modules, and prints.
    """

    def __init__(
        self,
        spatial_dims: int,
        blocks: int,
        depths: int,
        channel_mul: float,
        downsample: bool,
        paths: Sequence[int],
        operations: Sequence[int],
    ) -> None:
        super().__init__()
        self.filter_nums = [int(_WIDTH * 2**k * channel_mul) for k in range(depths + 1)]
        self.num_blocks, self.num_depths = blocks, depths
        # (from, into, steps up): into each depth from the finer, the same and the coarser one.
        self._ways = [
            (into + step, into, step) for into in range(depths) for step in (-1, 0, 1) if 0 <= into + step < depths
        ]
        kinds = len(Cell.OPS3D if spatial_dims == 3 else Cell.OPS2D)
        self._paths: list[list[int]] = []
        self.cell_tree = nn.ModuleDict()
        for block in range(blocks):
            codes = slice(block * len(self._ways), (block + 1) * len(self._ways))
            self._paths.append([way for way, there in enumerate(paths[codes]) if there])
            for way in self._paths[-1]:
                source, into, rate = self._ways[way]
                one_hot = [int(kind == operations[codes][way]) for kind in range(kinds)]
                widths = (self.filter_nums[depth + downsample] for depth in (source, into))
                self.cell_tree[str((block, way))] = Cell(*widths, rate, one_hot, spatial_dims)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        """One map per depth in and out; a depth that nothing reaches holds 0."""
        inputs = x
        for block, ways in enumerate(self._paths):
            outputs: list[Tensor] = [torch.zeros((), dtype=x[0].dtype, device=x[0].device)] * self.num_depths
            for way in ways:
                source, into, _ = self._ways[way]
                cell = self.cell_tree[str((block, way))]
                outputs[into] = outputs[into] + cell(inputs[source], weight=None)
            inputs = outputs
        return inputs
