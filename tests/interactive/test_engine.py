"""What the engine learns of an object, what a correction takes away, and what it reads and measures for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

import napari_medseg as ms
from click_phantoms import Counted, balls, dice
from napari_medseg.interactive import zoom
from napari_medseg.interactive.engine import (
    Answer,
    Evidence,
    at_best_level,
    centrality,
    learned_look,
    open_ends,
    shape_of_slices,
    spread_inside,
)
from napari_medseg.interactive.marks import marks_of
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.objects import _farthest_mm, _replaced_near
from napari_medseg.interactive.scene import Frame, Scene, read_once, sample


@pytest.mark.parametrize(("place", "central"), [((4, 4, 4), 1.0), ((1, 4, 4), 0.25), ((0, 0, 0), 0.0)])
def test_a_click_is_central_as_far_as_it_lies_deep(place: tuple[int, int, int], central: float) -> None:
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[1:8, 1:8, 1:8] = True  # its middle lies four voxels deep
    assert centrality(mask, np.array([place])) == pytest.approx(central)
    assert centrality(mask, np.array([place, (4, 4, 4)])) == 1  # the deepest one counts
    assert centrality(~np.ones_like(mask), np.array([place])) == 0


def test_a_click_in_an_image_of_one_slice_is_central_within_the_slice() -> None:
    mask = np.ones((1, 9, 9), dtype=bool)
    assert centrality(mask, np.array([(0, 4, 4)])) == 1
    assert centrality(mask, np.array([(0, 0, 4)])) == pytest.approx(0.2)


def test_the_spread_of_a_mask_is_a_scaled_median_deviation() -> None:
    volume, _ = balls((20, 24, 48), (10, 12, 12), (10, 12, 36), radius=6)
    scene = Scene.of(volume, Frame((0.0, 0.0, 0.0), 1.0, (20, 24, 48)))
    along = np.broadcast_to(np.arange(48, dtype=np.float32), (20, 24, 48))
    two = replace(scene, image=np.stack([along, np.zeros_like(along)]))
    mask = np.zeros(along.shape, dtype=bool)
    assert spread_inside(two, mask) == 0
    mask[5:9, 5:9, 5:14] = True  # 5 to 13: the middle is 9, its median deviation 2
    assert spread_inside(two, mask) == pytest.approx(1.4826 * 2 / 2)  # nothing in the other channel
    two.image[0, 5, 5, 5] = 1000
    assert spread_inside(two, mask) == pytest.approx(1.4826 * 2 / 2)


def test_a_look_is_learned_from_what_is_known_and_holds_elsewhere() -> None:
    volume, (near, far) = balls((20, 24, 48), (10, 12, 12), (10, 12, 36), radius=6)
    scene = Scene.of(volume, Frame((0.0, 0.0, 0.0), 1.0, (20, 24, 48)))
    nothing = np.zeros(near.shape, dtype=bool)
    corner = nothing.copy()
    corner[:3, :3, :3] = True
    look = learned_look(scene, near, corner, None)
    assert look is not None
    inner = ndimage.binary_erosion(far, iterations=2)
    assert look[inner].min() > 0.5  # the other ball looks like the one that is known
    assert look[~ndimage.binary_dilation(near | far, iterations=3)].mean() < -0.5
    of_the_mask = learned_look(scene, nothing, nothing, near)
    assert of_the_mask is not None
    assert of_the_mask[inner].min() > 0.5
    assert learned_look(scene, near, nothing, None) is None  # nothing is known of what is not it


def click(shape: tuple[int, int, int], at: tuple[int, int, int], *, positive: bool) -> Evidence:
    seeds = np.zeros(shape, dtype=bool)
    seeds[at] = True
    return Evidence(seeds, np.zeros(shape, np.float32), positive)


def radial_answer(shape: tuple[int, int, int]) -> Answer:
    """One half at 6 voxels from the middle, and 0.06 less with each voxel more."""
    radius = np.linalg.norm(np.indices(shape).T - np.array(shape) // 2, axis=-1).T
    probability = (0.5 + 0.06 * (6 - radius)).clip(0, 1).astype(np.float32)
    return Answer(probability > 0.5, probability)


def test_clicks_end_where_the_image_has_an_edge() -> None:
    shape = (28, 28, 28)
    volume, (ball,) = balls(shape, (14, 14, 14), radius=8)
    scene, found = Scene.of(volume, Frame((0.0, 0.0, 0.0), 1.0, shape)), radial_answer(shape)
    assert dice(found.mask, ball) < 0.65
    ended = at_best_level(scene, found, [click(shape, (14, 14, 14), positive=True)])
    assert dice(ended.mask, ball) > 0.9
    assert np.array_equal(ended.mask, ended.probability > 0.5)


def test_a_click_that_takes_away_ends_the_trust_in_those_before() -> None:
    shape = (28, 28, 28)
    blank = ms.Volume(np.zeros((1, *shape), np.float32), ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0)))
    scene, found = Scene.of(blank, Frame((0.0, 0.0, 0.0), 1.0, shape)), radial_answer(shape)
    yes, no = click(shape, (14, 14, 14), positive=True), click(shape, (1, 1, 1), positive=False)
    trusting, wary = at_best_level(scene, found, [yes]), at_best_level(scene, found, [yes, no])
    assert np.array_equal(wary.mask, found.mask)  # no edge speaks for another one
    assert not (found.mask & ~trusting.mask).any()
    assert 1.5 < trusting.mask.sum() / found.mask.sum() < 3.0  # 8 voxels to 6, cubed, is 2.4


def test_what_was_added_on_trust_goes_near_the_click_alone() -> None:
    shape = (9, 9, 60)
    trusted, sure = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    trusted[2:7, 2:7, 2:58] = True
    sure[3:6, 3:6, 3:57] = True
    whole = (slice(0, 9), slice(0, 9), slice(0, 60))
    here = marks_of(ms.Point((2, 4, 10), label=1, positive=False), shape)
    masks = SparseMask.of(whole, trusted), SparseMask.of(whole, sure)
    left = _replaced_near(*masks, [here], ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0))).within(whole)
    assert np.array_equal(left[..., 20:], trusted[..., 20:])
    assert np.array_equal(left[2, 4, 8:13], sure[2, 4, 8:13])
    other_way = _replaced_near(masks[1], masks[0], [here], ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0))).within(whole)
    assert np.array_equal(other_way, sure), "a click that takes away adds nothing"


def test_a_leak_goes_whole_at_one_click() -> None:
    volume, (ball,) = balls((24, 28, 70), (12, 14, 12), radius=7)
    leaked = ball.copy()
    leaked[11:14, 13:16, 12:66] = True  # a bar that no edge of the image bounds
    session = ms.interact(volume)
    session.start_from(ms.Segmentation(leaked.astype(np.uint8), volume.grid))
    session.add(ms.Point((12, 14, 45), label=1, positive=False))
    found = np.asarray(session.segmentation.data[...]) == 1
    assert not found[:, :, 25:].any()
    assert dice(found, ball) > 0.95


def spot_in_a_ball(radius: float) -> tuple[ms.Volume, npt.NDArray[np.bool_]]:
    """A ball of 84,000 voxels with a spot in it that is a little brighter: a click on the spot finds the ball."""
    z, y, x = np.ogrid[:72, :80, :80]
    spot = (z - 36) ** 2 + (y - 28) ** 2 + (x - 40) ** 2 < radius**2
    ball = (z - 36) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 < 28**2
    image = ndimage.gaussian_filter(100.0 * ball + 8.0 * spot, 1.2)
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing(image.shape, (2.0, 2.0, 2.0))), spot


@pytest.mark.parametrize("radius", [2.5, 4.0])
def test_a_click_deep_in_a_leak_has_the_object_looked_for_more_closely(radius: float) -> None:
    volume, spot = spot_in_a_ball(radius)
    session = ms.interact(volume)
    session.add(ms.Point((36, 28, 40), label=1))
    assert np.count_nonzero(session.segmentation.data[...]) > 300 * spot.sum()
    session.add(ms.Point((36, 44, 40), label=1, positive=False))
    assert dice(np.asarray(session.segmentation.data[...]) == 1, spot) > 0.6
    session.undo()
    assert np.count_nonzero(session.segmentation.data[...]) > 300 * spot.sum()


@pytest.mark.parametrize(("radius", "off"), [(16, 12), (20, 15), (24, 12)])
def test_an_organ_around_a_click_on_a_lesion_in_it_stays(radius: int, off: int) -> None:
    """The lesion lies deeper in the organ than the click on the organ; its border is one of the image all the same."""
    z, y, x = np.ogrid[:72, :72, :72]
    away = (z - 36) ** 2 + (y - 36) ** 2 + (x - 36) ** 2
    organ, lesion = away < radius**2, away < 3**2
    image = ndimage.gaussian_filter(100.0 * organ + 60.0 * lesion, 0.7)
    image += np.random.default_rng(0).normal(0, 6, image.shape)
    session = ms.interact(ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing(image.shape, (1.0, 1.0, 1.0))))
    session.add(ms.Point((36, 36 - off, 36), label=1))
    before = np.asarray(session.segmentation.data[...]) == 1
    session.add(ms.Point((36, 36, 36), label=1, positive=False))
    after = np.asarray(session.segmentation.data[...]) == 1
    assert dice(after, organ & ~lesion) > 0.9
    assert not (after & ~before).any(), "a click that takes away adds nothing"


def test_a_click_near_the_border_corrects_there_and_nowhere_else() -> None:
    volume, _ = spot_in_a_ball(2.5)
    session = ms.interact(volume)
    session.add(ms.Point((36, 40, 40), label=1))
    before = np.asarray(session.segmentation.data[...]) == 1
    session.add(ms.Point((36, 64, 40), label=1, positive=False))
    after = np.asarray(session.segmentation.data[...]) == 1
    assert 0 < np.count_nonzero(before & ~after) < 0.1 * np.count_nonzero(before)
    assert np.array_equal(before[:, :30], after[:, :30])


@pytest.mark.parametrize("seed", [0, 2])
def test_a_click_beside_a_small_object_adds_no_more_than_edges_bound(seed: int) -> None:
    z, y, x = np.ogrid[:40, :40, :40]
    core = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 <= 9
    rim = ((z - 20) ** 2 + (y - 20) ** 2 + (x - 24) ** 2 <= 4) & ~core
    image = ndimage.gaussian_filter(100 + 60.0 * core + 8.0 * rim, 0.6)
    image += np.random.default_rng(seed).normal(0, 8, image.shape)
    session = ms.interact(ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing(image.shape, (2.0, 2.0, 2.0))))
    session.add(ms.Point((20, 20, 20), label=1))
    session.add(ms.Point((20, 20, 25), label=1))
    assert dice(np.asarray(session.segmentation.data[...]) == 1, core | rim) > 0.72


def test_a_shape_goes_on_to_become_thinner_and_ends() -> None:
    y, x = np.ogrid[-20:21, -20:21]
    wide, narrow = y**2 + x**2 <= 12**2, y**2 + x**2 <= 6**2
    alone = shape_of_slices(0, {20: wide}, (40, 41, 41))
    assert alone[[0, 39], 20, 20].min() > 0  # nothing says where it ends
    assert open_ends(0, alone) == {(0, 0), (0, -1)}
    both = shape_of_slices(0, {20: wide, 26: narrow}, (40, 41, 41))
    assert both[28, 20, 20] > 0
    assert both[33:].max() < 0  # 6 voxels thinner in 6 slices: it has ended after 6 more
    assert open_ends(0, both) == {(0, 0)}
    np.testing.assert_array_equal(both[:20], alone[:20])
    ended = shape_of_slices(0, {20: wide, 26: np.zeros_like(wide)}, (40, 41, 41))
    assert open_ends(0, ended) == {(0, 0)}


def test_a_painted_slice_of_a_tube_finds_it_beyond_the_first_frame() -> None:
    shape = (90, 24, 24)
    tube = np.zeros(shape, dtype=bool)
    tube[:, 9:15, 9:15] = True
    image = np.random.default_rng(0).normal(0, 1, shape) + 6 * tube
    volume = ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing(shape, (1.0, 1.0, 1.0)))
    session = ms.interact(volume)
    session.add(ms.SliceMask(tube[45], axis=0, index=45, label=1))
    assert dice(np.asarray(session.segmentation.data[...]) == 1, tube) > 0.6  # 0.2 where the frame's ends bound it


@pytest.mark.parametrize("seed", range(8))
def test_a_distance_measured_around_a_prompt_is_that_of_the_whole_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 50, 3))
    here, agreed = (rng.random(shape) < share for share in (2 / np.prod(shape), 4 / np.prod(shape)))
    here.flat[0] = agreed.flat[-1] = True
    z, y, x = rng.uniform(0.3, 3, 3).tolist()
    expected = ndimage.distance_transform_edt(~agreed, (z, y, x))[here].max()
    assert _farthest_mm(here, agreed, (z, y, x)) == expected


def test_the_first_frames_read_the_same_voxels_once() -> None:
    data = Counted((400, 400, 400), (200, 200, 200), 20)
    volume = ms.Volume(data, ms.Grid.from_spacing((400, 400, 400), (1.0, 1.0, 1.0)))
    frames = zoom.first_frames(volume.grid, (200.0, 200.0, 200.0))
    near = read_once(volume, frames)
    read = data.voxels_read
    held = [sample(near.data, near.grid.spacing, frame) for frame in frames]
    assert data.voxels_read == read
    for (values, inside), frame in zip(held, frames, strict=True):
        expected, within = sample(volume.data, volume.grid.spacing, frame)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(inside, within)
    beyond = Frame((0.0, 0.0, 0.0), 1.0, (8, 8, 8))
    elsewhere, expected = (sample(v.data, v.grid.spacing, beyond)[0] for v in (near, volume))
    np.testing.assert_array_equal(elsewhere, expected)
    in_memory = balls((8, 8, 8), (4, 4, 4), radius=2)[0]
    assert read_once(in_memory, [beyond]) is in_memory
