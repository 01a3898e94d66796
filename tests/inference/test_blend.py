"""The accumulators, on arrays small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import RollingLogits, classes_of
from napari_medseg.inference.plan import axis_maps
from napari_medseg.inference.windows import WindowGrid

CPU = torch.device("cpu")


def column(*values: float) -> torch.Tensor:
    """Logits (1, z, 1, 1) of one class along z."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)


def accumulator(
    depth: int, window: int, out: int | None = None, *, classes: int = 1, averaged: bool = False
) -> RollingLogits:
    """An accumulator over a column of voxels (depth, 1, 1), whose output has `out` planes."""
    shape: Shape3 = (depth, 1, 1)
    maps = axis_maps(shape, (out or depth, 1, 1))
    return RollingLogits(classes, WindowGrid(shape, (window, 1, 1), 0.5), maps, CPU, averaged=averaged)


def finished(blend: RollingLogits, following: int) -> list[tuple[int, float]]:
    """(index, logit) of the planes that are final, of one class."""
    return [(piece.box[0].start, float(piece.logits[0, 0, 0, 0])) for piece in blend.finish(following)]


def test_overlapping_windows_are_weighed_and_summed() -> None:
    blend = accumulator(4, window=2)
    weight = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    blend.add((0, 0, 0), column(10, 20), weight)
    assert finished(blend, 1) == [(0, 10)]
    blend.add((1, 0, 0), column(5, 7), weight)
    assert finished(blend, 2) == [(1, 3 * 20 + 1 * 5)]
    blend.add((2, 0, 0), column(1, 2), weight)
    assert finished(blend, 4) == [(2, 3 * 7 + 1 * 1), (3, 3 * 2)]


def test_means_where_they_are_asked_for() -> None:
    blend = accumulator(3, window=2, averaged=True)
    weight = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    blend.add((0, 0, 0), column(10, 20), weight)
    assert finished(blend, 1) == [(0, 10)]
    blend.add((1, 0, 0), column(4, 8), weight)
    assert finished(blend, 3) == [(1, (3 * 20 + 1 * 4) / 4), (2, 8)]


def test_planes_between_the_models_are_interpolated_once_both_are_final() -> None:
    # Two planes on four: the samples lie at -0.25, 0.25, 0.75 and 1.25 of the model's planes 0 and 1.
    blend = accumulator(2, window=1, out=4)
    one = torch.ones(1, 1, 1)
    blend.add((0, 0, 0), column(0), one)
    first = finished(blend, 1)
    blend.add((1, 0, 0), column(8), one)
    assert [*first, *finished(blend, 2)] == [(0, 0), (1, 2), (2, 6), (3, 8)]
    assert len(first) < 2, "the second plane needs both"


def test_the_ring_forgets_what_was_handed_out() -> None:
    blend = accumulator(6, window=2)
    one = torch.ones(2, 1, 1)
    for z in (0, 2, 4):  # each pair of planes takes the place of the pair before
        blend.add((z, 0, 0), column(z + 1, z + 2), one)
        assert finished(blend, z + 2) == [(z, z + 1), (z + 1, z + 2)]


def test_a_window_may_wrap_round_the_ring() -> None:
    blend = accumulator(5, window=3)
    one = torch.ones(3, 1, 1)
    blend.add((0, 0, 0), column(1, 2, 3), one)
    assert finished(blend, 2) == [(0, 1), (1, 2)]
    blend.add((2, 0, 0), column(10, 20, 30), one)  # its planes lie at 2, 0 and 1 of the ring
    assert finished(blend, 5) == [(2, 13), (3, 20), (4, 30)]


def test_without_a_window_logits_are_zero() -> None:
    blend = accumulator(4, window=2, averaged=True)
    assert finished(blend, 2) == [(0, 0), (1, 0)]
    blend.add((2, 0, 0), column(5, 6), torch.full((2, 1, 1), 0.5))
    assert finished(blend, 4) == [(2, 5), (3, 6)]


@pytest.mark.parametrize("out", [(40, 96, 6), (31, 120, 9)], ids=["same grid", "resampled"])
def test_strips_are_the_rows_of_whole_planes_and_hold_less(out: Shape3) -> None:
    windows = WindowGrid((40, 96, 6), (16, 32, 6), 0.5)
    maps = axis_maps(windows.shape, out)
    found, held = [], []
    for strips in (False, True):
        blend, random = RollingLogits(2, windows, maps, CPU, strips=strips), torch.Generator().manual_seed(0)
        logits, most = torch.full((2, *out), torch.nan), 0
        for z, following, corners in windows.rows():
            for (y, x), after in zip(corners, [*corners[1:], None], strict=True):
                list(blend.take((z, y, x), torch.randn((2, *windows.window), generator=random)))
                most = max(most, sum(block.nbytes for block in blend._sums._blocks.values()))
                for piece in blend.finish(following, None if after is None else after[0]):
                    assert logits[(slice(None), *piece.box)].isnan().all(), "each voxel is handed out once"
                    logits[(slice(None), *piece.box)] = piece.logits
        assert not blend._sums._blocks, "all is free at the end"
        found.append(logits)
        held.append(most)
    assert torch.equal(*found)
    assert held[1] <= 0.85 * held[0]


def test_padding_is_cut_off() -> None:
    # One window of 4 over 2 voxels an axis: a voxel of padding on every side.
    windows = WindowGrid((2, 2, 2), (4, 4, 4), 0.5)
    blend = RollingLogits(1, windows, axis_maps((2, 2, 2), (2, 2, 2)), CPU)
    values = torch.arange(64.0).reshape(1, 4, 4, 4)
    blend.add((0, 0, 0), values.clone(), torch.ones(4, 4, 4))
    pieces = 0
    for index, piece in enumerate(blend.finish(4)):
        assert piece.box == (slice(index, index + 1), slice(0, 2), slice(0, 2))
        assert torch.equal(piece.logits[0, 0], values[0, 1 + index, 1:3, 1:3])
        pieces += 1
    assert pieces == 2


def test_the_first_of_equal_logits_wins() -> None:
    logits = torch.tensor([[[1.0, 0.0, 5.0]], [[1.0, 2.0, 5.0]], [[0.0, 2.0, 6.0]]])
    assert classes_of(logits).tolist() == [[0, 1, 2]]
