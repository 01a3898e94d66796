"""Frames: where they lie, how they follow an object, and how little of a volume they read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from click_phantoms import Counted
from napari_medseg.geometry import Shape3, Triple
from napari_medseg.interactive import zoom
from napari_medseg.interactive.scene import Frame, Scene, sample
from napari_medseg.volume import Grid, Volume

ONE = (1.0, 1.0, 1.0)


def test_first_frames_by_hand() -> None:
    grid = Grid.from_spacing((512, 512, 512), ONE)
    steps = [frame.step_mm for frame in zoom.first_frames(grid, (256.0, 256.0, 256.0))]
    assert zoom.own_step_mm(grid) == 3.0  # 512 / 160 is more than three voxels
    assert steps == pytest.approx([1.5, 2.4, 3.75])  # and 6 and 9.6 are more than four
    frame = zoom.first_frames(grid, (256.0, 256.0, 256.0))[0]
    assert (frame.shape, frame.low_mm) == ((64, 64, 64), (208.0, 208.0, 208.0))


def test_a_frame_ends_just_outside_of_the_volume() -> None:
    grid = Grid.from_spacing((20, 90, 110), ONE)
    frame = zoom.clipped(Frame((-22.0, 10.0, -1.0), 1.0, (64, 64, 64)), grid)
    assert (frame.low_mm, frame.shape) == ((-3.0, 10.0, -1.0), (26, 64, 64))


@pytest.mark.parametrize(
    ("low", "high"),
    [((90.0, 90.0, 90.0), (110.0, 110.0, 110.0)), ((10.0, 90.0, 90.0), (190.0, 100.0, 100.0))],
    ids=["cube", "tube"],
)
def test_a_frame_holds_what_it_is_fitted_to(low: Triple, high: Triple) -> None:
    grid = Grid.from_spacing((200, 200, 200), ONE)
    frame = zoom.fitted(grid, low, high)
    assert math.prod(frame.shape) <= 1.05 * 64**3
    for axis in range(3):
        assert frame.low_mm[axis] <= low[axis]
        assert frame.low_mm[axis] + frame.shape[axis] * frame.step_mm >= high[axis]
    assert zoom.follow(frame, grid, low, high) is frame


def test_a_tube_is_seen_more_closely_than_in_a_cube() -> None:
    grid = Grid.from_spacing((200, 200, 200), ONE)
    frame = zoom.fitted(grid, (10.0, 90.0, 90.0), (190.0, 100.0, 100.0))
    assert frame.shape[0] > frame.shape[1] == frame.shape[2]
    assert frame.step_mm < 180 / (0.6 * 64)


def test_a_frame_grows_where_the_mask_runs_out_of_it() -> None:
    grid = Grid.from_spacing((300, 300, 300), ONE)
    frame = Frame((100.0, 100.0, 100.0), 1.0, (40, 40, 40))
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[10:30, 10:30, 10:30] = True
    assert zoom.grown(frame, grid, mask) is None
    mask[10:40, 15:25, 15:25] = True
    larger = zoom.grown(frame, grid, mask)
    assert larger == Frame((100.0, 100.0, 100.0), 1.0, (60, 40, 40))
    assert zoom.grown(Frame((260.0, 100.0, 100.0), 1.0, (40, 40, 40)), grid, mask) is None  # the volume ends there


def test_a_frame_that_has_grown_enough_sees_more_coarsely_and_then_no_more() -> None:
    grid = Grid.from_spacing((5000, 5000, 5000), ONE)
    frame, mask = Frame((2000.0,) * 3, 7.0, (80, 80, 80)), np.ones((80, 80, 80), dtype=bool)
    larger = zoom.grown(frame, grid, mask)
    assert larger is not None
    assert larger.step_mm == pytest.approx(8.0)
    assert zoom.grown(larger, grid, mask) is None


@pytest.mark.parametrize("side", [2_000, 200_000])
@pytest.mark.parametrize("step", [0.5, 2.0, 4.0, 8.0])
def test_a_frame_reads_a_bounded_part_of_any_volume(side: int, step: float) -> None:
    data = Counted((side, side, side), (side // 2,) * 3, 30)
    frame = Frame.around((side / 2,) * 3, step, (64, 64, 64))
    values, inside = sample(data, ONE, frame)
    assert values.shape == (1, 64, 64, 64)
    assert inside.all()
    assert data.voxels_read <= (3 * 64 + 24) ** 3


def test_anisotropic_voxels_become_cubes() -> None:
    image = np.arange(4 * 8 * 8, dtype=np.float32).reshape(1, 4, 8, 8)
    values, inside = sample(image, (2.0, 1.0, 1.0), Frame((0.0, 0.0, 0.0), 1.0, (8, 8, 8)))
    np.testing.assert_array_equal(values[0], image[0].repeat(2, axis=0))
    assert inside.all()


def test_what_is_no_number_lies_outside() -> None:
    image = np.random.default_rng(0).normal(0, 1, (1, 9, 9, 9)).astype(np.float64)
    image[0, :, :, 6:] = np.nan
    image[0, 0, 0, 0] = 1e300  # more than float32 holds
    volume = Volume(image, Grid.from_spacing((9, 9, 9), ONE))
    scene = Scene.of(volume, Frame((0.0, 0.0, 0.0), 1.0, (9, 9, 9)))
    assert np.isfinite(scene.image).all()
    assert not scene.inside[:, :, 6:].any()
    assert not scene.inside[0, 0, 0]
    assert scene.inside.sum() == 9 * 9 * 6 - 1


def test_a_constant_scene_shows_nothing() -> None:
    volume = Volume(np.full((1, 9, 9, 9), 7, np.int16), Grid.from_spacing((9, 9, 9), ONE))
    assert Scene.of(volume, Frame((0.0, 0.0, 0.0), 1.0, (9, 9, 9))).is_flat


@pytest.mark.parametrize(("shape", "expected"), [((1, 40, 50), (1, 256, 256)), ((40, 1, 50), (256, 1, 256))])
def test_images_of_one_slice_have_flat_frames(shape: Shape3, expected: Shape3) -> None:
    assert zoom.frame_shape(Grid.from_spacing(shape, ONE)) == expected


def test_closer_frames_are_finer_and_show_what_the_object_holds() -> None:
    grid = Grid.from_spacing((200, 200, 200), ONE)  # its own step is 1.25 mm
    wide = Frame.around((100.0, 100.0, 100.0), 0.7, (64, 64, 64))
    found = zoom.closer_frames(wide, grid, (90.0, 90.0, 90.0), (91.0, 91.0, 91.0))
    assert [round(frame.step_mm, 4) for frame in found] == [0.3125, 0.4375, 0.625]  # 1 mm would be coarser
    far = zoom.closer_frames(wide, grid, (90.0, 90.0, 90.0), (91.0, 91.0, 110.0))
    assert [round(frame.step_mm, 4) for frame in far] == [0.625], "20 mm lie well inside of 40 only"
    assert zoom.closer_frames(wide, grid, (50.0, 50.0, 50.0), (150.0, 150.0, 150.0)) == []
