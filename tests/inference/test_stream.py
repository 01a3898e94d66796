"""The input slab and the stream of windows, on arrays small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.arrays.boxes import Box
from napari_medseg.geometry import Shape3
from napari_medseg.inference.blend import Piece, RollingLogits
from napari_medseg.inference.plan import axis_maps
from napari_medseg.inference.stream import Final, InputSlab, RemembersAir, WindowsDone, blended, is_one_value, values_of
from napari_medseg.inference.windows import BoxWindows, WindowGrid


class Planes:
    """A source of planes (1, n, Y, X) that notes what is read."""

    guides = 0

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self.reads: list[tuple[int, int]] = []
        self.expected: list[tuple[int, int]] = []

    def read(self, box: Box) -> torch.Tensor:
        self.reads.append((box[0].start, box[0].stop))
        return self.values[(slice(None), *box)]

    def expect(self, box: Box) -> None:
        self.expected.append((box[0].start, box[0].stop))


def numbered(*shape: int) -> torch.Tensor:
    """A volume of one channel, 1, 2, 3 ... in reading order."""
    count = torch.Size(shape).numel()
    return torch.arange(1.0, count + 1).reshape(1, *shape)


def column(depth: int) -> Planes:
    """The values 1, 2, 3 ... along z."""
    return Planes(numbered(depth, 1, 1))


def held(slab: InputSlab) -> list[float]:
    """The values of the only window of a column."""
    return slab.windows([(0, 0)]).ravel().tolist()


def test_the_slab_reads_every_plane_once() -> None:
    source = column(6)
    slab = InputSlab(source, WindowGrid((6, 1, 1), (4, 1, 1), 0.5), halo=0)
    slab.advance(0)
    assert held(slab) == [1, 2, 3, 4]
    slab.advance(2)
    assert held(slab) == [3, 4, 5, 6]
    assert source.reads == [(0, 4), (4, 6)]


def test_a_halo_repeats_the_end_planes() -> None:
    source = column(3)
    slab = InputSlab(source, WindowGrid((3, 1, 1), (1, 1, 1), 0), halo=2)
    seen = []
    for z in range(3):
        slab.advance(z)
        seen.append(held(slab))
    assert seen == [[1, 1, 1, 2, 3], [1, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    assert source.reads == [(0, 3)]


def test_rows_with_a_gap_skip_its_planes() -> None:
    source = column(9)
    slab = InputSlab(source, WindowGrid((9, 1, 1), (2, 1, 1), 0), halo=1)
    slab.advance(0)
    assert held(slab) == [1, 1, 2, 3]
    slab.advance(6)
    assert held(slab) == [6, 7, 8, 9]
    assert source.reads == [(0, 3), (5, 9)]


def test_an_image_smaller_than_a_window_lies_in_a_frame_of_zeros() -> None:
    source = Planes(numbered(1, 2, 1))
    slab = InputSlab(source, WindowGrid((1, 2, 1), (3, 2, 2), 0.5), halo=0)
    slab.advance(0)
    # An odd voxel of padding comes behind: along z 1 + 1, along x 0 + 1.
    assert slab.windows([(0, 0)])[0, 0].tolist() == [[[0, 0], [0, 0]], [[1, 0], [2, 0]], [[0, 0], [0, 0]]]


def test_a_halo_repeats_the_planes_of_the_frame() -> None:
    source = column(1)
    slab = InputSlab(source, WindowGrid((1, 1, 1), (2, 1, 1), 0), halo=1)
    slab.advance(0)
    assert held(slab) == [1, 1, 0, 0]  # the image, a plane of padding, and either of them once more


def test_windows_are_cut_at_their_corners() -> None:
    slab = InputSlab(Planes(numbered(1, 3, 4)), WindowGrid((1, 3, 4), (1, 2, 2), 0.5), halo=0)
    slab.advance(0)
    windows = slab.windows([(0, 0), (1, 2)])
    assert windows.shape == (2, 1, 1, 2, 2)
    assert windows[:, 0, 0].tolist() == [[[1, 2], [5, 6]], [[7, 8], [11, 12]]]


class Doubling:
    """A network whose two classes are the voxel and its double; notes its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(windows))
        return torch.cat([windows, 2 * windows], dim=1)


def stream(source: Planes, windows: WindowGrid | BoxWindows, network: Doubling, batch_size: int = 1) -> list[object]:
    """The counts of windows, and (index, logits of the two classes in the first voxel) of the planes, in order."""
    shape: Shape3 = windows.shape
    blend = RollingLogits(2, windows, axis_maps(shape, shape), torch.device("cpu"), averaged=True)
    events: list[object] = []
    for event in blended(source, windows, network, blend, batch_size=batch_size):
        match event:
            case WindowsDone(count):
                events.append(count)
            case Piece((z, _, _), logits):
                events.append((z.start, [round(v, 4) for v in logits[:, 0, 0, 0].tolist()]))
    return events


def test_planes_come_as_soon_as_no_window_is_left_for_them() -> None:
    events = stream(column(4), WindowGrid((4, 1, 1), (2, 1, 1), 0.5), Doubling())
    assert events == [1, (0, [1, 2]), 2, (1, [2, 4]), 3, (2, [3, 6]), (3, [4, 8])]


def test_the_planes_of_the_next_row_are_expected_while_a_row_runs() -> None:
    source = column(4)
    stream(source, WindowGrid((4, 1, 1), (2, 1, 1), 0.5), Doubling())
    assert source.reads == [(0, 2), (2, 3), (3, 4)]
    assert source.expected == [(2, 3), (3, 4)]


def test_a_batch_ends_with_its_row() -> None:
    network = Doubling()
    events = stream(Planes(numbered(2, 1, 3)), WindowGrid((2, 1, 3), (1, 1, 1), 0), network, batch_size=2)
    assert network.batches == [2, 1, 2, 1]
    assert events == [2, 3, (0, [1, 2]), 5, 6, (1, [4, 8])]


def test_where_no_box_lies_nothing_is_read_or_run() -> None:
    source, network = column(8), Doubling()
    windows = BoxWindows((8, 1, 1), (2, 1, 1), 0, ((slice(4, 6), slice(0, 1), slice(0, 1)),))
    events = stream(source, windows, network)
    zero = [0, 0]
    planes = [(i, zero) for i in range(4)] + [1, (4, [5, 10]), (5, [6, 12]), (6, zero), (7, zero)]
    assert events == planes
    assert source.reads == [(4, 6)]
    assert source.expected == []
    assert network.batches == [1]


def test_windows_in_which_the_guide_sees_nothing_count_but_do_not_run() -> None:
    source, network = Planes(torch.tensor([[1.0, 2, 3], [0, 0.05, 0.5]]).reshape(2, 3, 1, 1)), Doubling()
    source.guides = 1
    windows = WindowGrid((3, 1, 1), (1, 1, 1), 0)
    blend = RollingLogits(2, windows, axis_maps((3, 1, 1), (3, 1, 1)), torch.device("cpu"))
    found = []
    for event in blended(source, windows, lambda x: network(x[:, :1]), blend, batch_size=1):
        if not isinstance(event, Final):
            found.append(event.count if isinstance(event, WindowsDone) else event.logits.ravel().tolist())
    assert found == [1, [0, 0], 2, [0, 0], 3, [3, 6]]
    assert network.batches == [1]


class Sparse(Planes):
    """Planes of the value 5 where nothing is stored: a view of it."""

    def __init__(self, values: torch.Tensor, stored: tuple[int, int]) -> None:
        super().__init__(values)
        self.stored = stored

    def read(self, box: Box) -> torch.Tensor:
        values = super().read(box)
        apart = box[0].stop <= self.stored[0] or box[0].start >= self.stored[1]
        return torch.full((1, 1, 1, 1), 5.0).expand_as(values) if apart else values


def test_planes_that_are_not_stored_take_no_memory() -> None:
    values = torch.full((1, 12, 3, 3), 5.0)
    values[0, 6:8] = numbered(2, 3, 3)[0]
    slab = InputSlab(Sparse(values, (6, 8)), WindowGrid((12, 3, 3), (4, 2, 2), 0.5), halo=0)
    views = []
    for z in range(0, 9, 2):
        slab.advance(z)
        found = slab.windows([(0, 0), (1, 1)])
        assert torch.equal(found, torch.stack([values[:, z : z + 4, y : y + 2, y : y + 2] for y in (0, 1)]))
        views.append(is_one_value(found[0]))
    assert views == [True, True, False, False, True]


class Counted:
    """A network whose logits are the window and its negative."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([windows, -windows], dim=1)


def test_windows_of_one_value_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    air, other, mixed = torch.full((1, 1, 2, 2, 2), -3.0), torch.full((1, 1, 2, 2, 2), 5.0), numbered(1, 2, 2, 2)
    network = Counted()
    remembers = RemembersAir(network)
    for count, windows in enumerate([air, other, air, mixed, mixed], start=1):
        for _ in range(1 if windows is mixed else 2):
            logits = remembers(windows)
            assert torch.equal(logits, torch.cat([windows, -windows], dim=1))
            logits.zero_()  # as who adds them up may
        assert network.calls == count
    remembers(torch.cat([air, air]))
    assert network.calls == 6, "a batch runs as it is"
    monkeypatch.setattr("napari_medseg.inference.stream._REMEMBERED_BYTES", 7)
    for count in (7, 8):
        remembers(other)
        assert network.calls == count, "it is too large to be kept"


def test_a_window_of_one_value_per_channel() -> None:
    window = torch.stack([torch.full((2, 2, 2), value) for value in (1.0, -4.0)])
    assert values_of(window) == (1.0, -4.0)
    window[1, 1, 1, 1] = 0
    assert values_of(window) is None
    assert values_of(torch.full((1, 2, 2, 2), float("nan"))) is None
