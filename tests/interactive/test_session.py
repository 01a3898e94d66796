"""A session: what prompts give, what is refused, undo, locks, and volumes of any size."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import Counted, Mask, balls, dice
from napari_medseg.errors import GridMismatchError, InputError
from napari_medseg.interactive.session import InteractiveSession
from orientations import stored_otherwise

A, B = (12, 14, 12), (12, 14, 34)


@pytest.fixture(scope="module")
def phantom() -> tuple[ms.Volume, list[Mask]]:
    return balls((24, 28, 46), A, B, radius=7)


@pytest.fixture
def session(phantom: tuple[ms.Volume, list[Mask]]) -> InteractiveSession:
    return ms.interact(phantom[0])


def voxels(session: InteractiveSession, label: int = 1) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.asarray(session.segmentation.data[...]) == label
    return found


def test_one_click_gives_the_ball(session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]) -> None:
    seg = session.add(ms.Point(A, label=1))
    assert seg.grid is session.volume.grid
    assert seg.labels == {1: "label 1"}
    assert dice(voxels(session), phantom[1][0]) > 0.9


def test_a_preview_changes_nothing_and_is_what_comes(session: InteractiveSession) -> None:
    session.add(ms.Point(A, label=1))
    before, steps = voxels(session), session.steps
    correction = ms.Point((12, 14, 17), label=1, positive=False)
    shown = session.preview([correction])
    np.testing.assert_array_equal(voxels(session), before)
    assert session.steps == steps
    session.add(correction)
    assert session.mask(1).same_as(shown)
    session.lock(1)
    with pytest.raises(InputError, match=r"label 1 is locked"):
        session.preview([correction])


PROMPTS = {
    "scribble": ms.Scribble(np.array([[12, y, 12] for y in range(10, 19)]), label=1),
    "box": ms.Box((5, 7, 5), (20, 22, 20), label=1),
    "lasso": ms.Lasso(np.array([[9.0, 7.0], [9.0, 17.0], [19.0, 17.0], [19.0, 7.0]]), axis=0, index=12, label=1),
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_every_kind_of_prompt(
    prompt: ms.Box | ms.Scribble | ms.Lasso, session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    session.add(prompt)
    assert dice(voxels(session), phantom[1][0]) > 0.85


def test_a_painted_slice_comes_back_as_it_is(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    session.add(ms.SliceMask(phantom[1][0][:, 13], axis=1, index=13, label=3))
    np.testing.assert_array_equal(voxels(session, 3)[:, 13], phantom[1][0][:, 13])
    assert dice(voxels(session, 3), phantom[1][0]) > 0.85


def test_a_box_bounds_its_label(session: InteractiveSession) -> None:
    session.add(ms.Box((5, 7, 5), (20, 22, 13), label=1))
    assert voxels(session)[:, :, 5:13].any()
    assert not voxels(session)[:, :, 13:].any()


def test_a_negative_prompt_takes_its_voxel_away(session: InteractiveSession) -> None:
    session.add(ms.Point(A, label=1))
    session.add(ms.Point((12, 14, 17), label=1, positive=False))
    assert voxels(session)[A]
    assert not voxels(session)[12, 14, 17]


def test_undo_and_redo_go_over_everything_exactly(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    start = ms.Segmentation(phantom[1][1].astype(np.uint8) * 5, phantom[0].grid, {5: "ball"})
    seen = [voxels(session).copy()]
    states = [session.steps]
    point = ms.Point(A, label=1)
    changes: list[Callable[[], ms.Segmentation]] = [
        lambda: session.add(point),
        lambda: session.start_from(start),
        lambda: session.lock(5),
        lambda: session.add(ms.Point(A, label=2)),
        lambda: session.unlock(5),
    ]
    for change in changes:
        change()
        seen.append(np.asarray(session.segmentation.data[...]))
        states.append(session.steps)
    for k in (4, 3, 2, 1, 0, 0):
        session.undo()
        assert session.steps == states[k]
        np.testing.assert_array_equal(session.segmentation.data[...], seen[k])
    for k in (1, 2, 3, 4, 5, 5):
        session.redo()
        np.testing.assert_array_equal(session.segmentation.data[...], seen[k])
    session.undo()
    session.add(ms.Point((2, 2, 2), label=7))
    session.redo()  # something new was done: there is nothing to do again
    assert session.labels[-1] == 7


def test_removing_a_prompt_is_as_if_it_had_never_been(session: InteractiveSession) -> None:
    first, second, third = ms.Point(A, label=1), ms.Point((12, 14, 17), label=1), ms.Point(B, label=2)
    for prompt in (first, second, third):
        session.add(prompt)
    session.remove(second)
    assert session.prompts == (first, third)
    fresh = ms.interact(session.volume)
    fresh.add(first)
    fresh.add(third)
    np.testing.assert_array_equal(session.segmentation.data[...], fresh.segmentation.data[...])
    session.undo()
    assert list(session.prompts) == [first, second, third]


def test_equal_prompts_are_two(session: InteractiveSession) -> None:
    first, second = ms.Point(A, label=1), ms.Point(A, label=1)
    session.add(first)
    session.add(second)
    session.remove(first)
    assert session.prompts == (second,)
    with pytest.raises(InputError, match="none of the session's prompts"):
        session.remove(first)


def test_labels_share_no_voxel_and_a_lock_holds(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    session.add(ms.Point(A, label=1))
    session.lock(1)
    before = voxels(session).copy()
    for refused in (ms.Point(B, label=1), ms.Point(A, label=2)):
        with pytest.raises(InputError, match="label 1 is locked: unlock it first"):
            session.add(refused)
    session.add(ms.SliceMask(np.ones((24, 46), dtype=bool) & ~before[:, 20], axis=1, index=20, label=2))
    np.testing.assert_array_equal(voxels(session), before)
    session.start_from(ms.Segmentation(np.full((24, 28, 46), 9, np.uint8), phantom[0].grid))
    np.testing.assert_array_equal(voxels(session), before)
    assert session.locked == {1}
    session.unlock(1)
    session.add(ms.Point((12, 14, 14), label=2))
    assert voxels(session, 2)[12, 14, 14]


def test_names_of_labels_are_kept(session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]) -> None:
    names = {3: "ball", 4: "other"}
    data = phantom[1][0] * np.uint8(3) + phantom[1][1] * np.uint8(4)
    session.start_from(ms.Segmentation(data, phantom[0].grid, names))
    session.add(ms.Point((12, 14, 13), label=3))
    assert session.segmentation.labels == names


def test_a_start_is_corrected(session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]) -> None:
    half = phantom[1][0].copy()
    half[:, :, 13:] = False
    session.start_from(ms.Segmentation(half.astype(np.uint8), phantom[0].grid))
    np.testing.assert_array_equal(voxels(session), half)
    session.add(ms.Point((12, 14, 16), label=1))
    assert dice(voxels(session), phantom[1][0]) > dice(half, phantom[1][0]) + 0.1


def test_prompts_together_are_one_change(session: InteractiveSession) -> None:
    prompts = [ms.Point(A, label=1), ms.Point((12, 14, 30), label=1, positive=False)]
    session.add_all(prompts)
    assert session.prompts == tuple(prompts)
    session.undo()
    assert session.prompts == ()
    with pytest.raises(InputError, match="have one label"):
        session.add_all([ms.Point(A, label=1), ms.Point(B, label=2)])


def test_refusals_change_nothing(session: InteractiveSession) -> None:
    other = ms.Segmentation(np.ones((2, 2, 2), np.uint8), ms.Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0)))
    with pytest.raises(InputError, match="label 1 holds nothing yet"):
        session.add(ms.Point(A, label=1, positive=False))
    with pytest.raises(InputError, match=r"outside of the volume.*24x28x46"):
        session.add(ms.Point((24, 0, 0), label=1))
    with pytest.raises(GridMismatchError, match="must lie on the same grid"):
        session.start_from(other)
    with pytest.raises(InputError, match="a label id is a whole number from 1"):
        session.lock(0)
    with pytest.raises(InputError, match=r"method is one of auto, geodesic.*'sam'"):
        ms.interact(session.volume, method="sam")  # type: ignore[arg-type]
    assert session.steps == ()
    assert session.labels == ()


def test_where_the_image_shows_nothing_the_prompt_alone_is_the_mask() -> None:
    grid = ms.Grid.from_spacing((12, 12, 12), (1.0, 1.0, 1.0))
    for value in (5.0, np.nan):
        session = ms.interact(ms.Volume(np.full((1, 12, 12, 12), value, np.float32), grid))
        session.add(ms.Point((6, 6, 6), label=1))
        assert voxels(session)[6, 6, 6]
        assert voxels(session).sum() <= 27  # the voxel and its neighbours


def test_a_click_on_what_is_no_number_stays_there(phantom: tuple[ms.Volume, list[Mask]]) -> None:
    image = np.asarray(phantom[0].data[...]).copy()
    image[..., 25:] = np.nan
    session = ms.interact(ms.Volume(image, phantom[0].grid))
    session.add(ms.Point(A, label=1))
    assert dice(voxels(session), phantom[1][0]) > 0.9
    session.add(ms.Point((12, 14, 40), label=2))
    assert voxels(session, 2).sum() == 1


def test_images_of_one_slice() -> None:
    volume, masks = balls((1, 60, 70), (0, 30, 35), radius=12)
    session = ms.interact(volume)
    session.add(ms.Point((0, 30, 35), label=1))
    assert dice(voxels(session), masks[0]) > 0.9


def test_a_volume_of_one_voxel() -> None:
    session = ms.interact(ms.Volume(np.ones((1, 1, 1, 1), np.uint8), ms.Grid.from_spacing((1, 1, 1), (1.0, 1.0, 1.0))))
    session.add(ms.Point((0, 0, 0), label=1))
    assert voxels(session).all()


def test_thick_slices() -> None:
    volume, masks = balls((9, 60, 60), (4, 30, 30), radius=14, spacing=(5.0, 1.0, 1.0))
    session = ms.interact(volume)
    session.add(ms.Point((4, 30, 30), label=1))
    assert dice(voxels(session), masks[0]) > 0.85


def test_a_border_that_only_the_second_channel_shows() -> None:
    volume, masks = balls((24, 24, 24), (12, 12, 12), radius=7)
    noise = np.random.default_rng(1).normal(0, 1, (1, 24, 24, 24)).astype(np.float32)
    session = ms.interact(ms.Volume(np.concatenate([noise, np.asarray(volume.data[...])]), volume.grid))
    session.add(ms.Point((12, 12, 12), label=1))
    assert dice(voxels(session), masks[0]) > 0.9


def test_a_huge_volume_is_read_around_the_click_only() -> None:
    read = {}
    for side in (128, 2_200):
        data = Counted((side, side, side), (side // 2,) * 3, 20)
        session = ms.interact(ms.Volume(data, ms.Grid.from_spacing((side, side, side), (1.0, 1.0, 1.0))))
        tracemalloc.start()
        session.add(ms.Point((side // 2,) * 3, label=1))
        session.add(ms.Point((side // 2 + 25,) * 3, label=1, positive=False))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 30
        read[side] = data.voxels_read
        assert 0.7 < session.mask(1).voxels / (4 / 3 * np.pi * 20**3) < 1.2
    assert read[2_200] < 20e6  # of 10.6e9


def test_parts_that_lie_too_far_apart_are_refused() -> None:
    side = 3_000
    data = Counted((side, side, side), (100, 100, 100), 20)
    session = ms.interact(ms.Volume(data, ms.Grid.from_spacing((side, side, side), (1.0, 1.0, 1.0))))
    session.add(ms.Point((100, 100, 100), label=1))
    with pytest.raises(InputError, match=r"too far from the rest of label 1.*a label of its own"):
        session.add(ms.Point((2900, 2900, 2900), label=1))


def test_a_session_is_saved_and_resumed(session: InteractiveSession, tmp_path: Path) -> None:
    session.add(ms.Point(A, label=1))
    session.lock(1)
    session.add(ms.Point(B, label=2))
    session.save(tmp_path / "work.json")
    resumed = ms.resume_interaction(tmp_path / "work.json", session.volume)
    np.testing.assert_array_equal(resumed.segmentation.data[...], session.segmentation.data[...])
    assert resumed.locked == {1}
    resumed.undo()
    assert resumed.labels == ()


def test_an_oblique_grid_gives_the_mask_of_the_straight_one() -> None:
    straight, _ = balls((16, 30, 26), (8, 15, 13), radius=8, spacing=(2.0, 1.0, 1.0))
    a, b = np.deg2rad(25), np.deg2rad(-40)
    turned = np.eye(4)
    turned[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.array(
        [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    )
    turned[:3, 3] = (40.0, -12.0, 7.0)
    oblique = ms.Volume(straight.data, ms.Grid(straight.grid.shape, turned @ straight.grid.affine))
    assert oblique.grid.is_oblique
    prompts: list[ms.Point | ms.SliceMask] = [
        ms.Point((8, 15, 13), label=1),
        ms.Point((8, 4, 4), label=1, positive=False),
        ms.SliceMask(np.indices((16, 26))[1] < 13, axis=1, index=15, label=2),
    ]
    sessions = [ms.interact(straight), ms.interact(oblique)]
    for prompt in prompts:
        first, second = (session.add(prompt) for session in sessions)
        np.testing.assert_array_equal(np.asarray(second.data[...]), np.asarray(first.data[...]))
        assert second.grid is oblique.grid
    assert np.count_nonzero(voxels(sessions[1])) > 100


def test_a_locked_label_keeps_its_name(session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]) -> None:
    left, right = phantom[1]
    session.start_from(ms.Segmentation(left.astype(np.uint8), phantom[0].grid, {1: "left"}))
    session.lock(1)
    session.start_from(ms.Segmentation(right * np.uint8(2) + left, phantom[0].grid, {1: "liver", 2: "right"}))
    assert session.segmentation.labels == {1: "left", 2: "right"}


def test_a_start_leaves_the_objects_of_other_labels(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    left, right = phantom[1]
    session.start_from(ms.Segmentation(left.astype(np.uint8) * 7, phantom[0].grid, {7: "mine"}))
    session.start_from(ms.Segmentation(right.astype(np.uint8), phantom[0].grid, {1: "right"}))
    everywhere = np.ones(left.shape, np.uint8)
    session.start_from(ms.Segmentation(everywhere, phantom[0].grid, {1: "all", 7: "liver", 8: "spleen"}))
    np.testing.assert_array_equal(voxels(session, 7), left)
    np.testing.assert_array_equal(voxels(session, 1), ~left)
    assert session.names == {7: "mine", 1: "all", 8: "spleen"}
    session.undo()
    np.testing.assert_array_equal(voxels(session, 1), right)


def test_an_object_that_stays_at_a_start_still_follows_its_prompts(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    point = ms.Point(A, label=2)
    session.add(point)
    session.start_from(ms.Segmentation(phantom[1][1].astype(np.uint8), phantom[0].grid))
    session.remove(point)
    assert session.labels == (1,)


def test_the_labels_that_are_taken_over_can_be_chosen(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]], tmp_path: Path
) -> None:
    left, right = phantom[1]
    both = ms.Segmentation(left + 2 * right.astype(np.uint8), phantom[0].grid, {1: "left", 2: "right"})
    session.start_from(stored_otherwise(both))
    np.testing.assert_array_equal(session.segmentation.data[...], both.data)
    session.start_from(ms.Segmentation(right.astype(np.uint8) * 3, phantom[0].grid, {3: "moved"}), labels=[2, 4])
    assert session.labels == (1,), "label 2 is empty there, and 3 was not asked for"
    assert session.names == {1: "left", 2: "right"}
    session.save(tmp_path / "log.json")
    again = ms.resume_interaction(tmp_path / "log.json", phantom[0])
    np.testing.assert_array_equal(again.segmentation.data[...], session.segmentation.data[...])


def test_an_object_that_was_emptied_begins_anew(
    session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]
) -> None:
    session.start_from(ms.Segmentation(phantom[1][0].astype(np.uint8) * 2, phantom[0].grid))
    for z in range(24):
        if session.mask(2):
            session.add(ms.SliceMask(np.ones((28, 46), bool), axis=0, index=z, label=2, positive=False))
    assert session.labels == ()
    session.add(ms.Point(A, label=2))
    fresh = ms.interact(phantom[0])
    fresh.add(ms.Point(A, label=2))
    np.testing.assert_array_equal(session.segmentation.data[...], fresh.segmentation.data[...])


def test_a_deleted_object_takes_its_prompts_and_name_along(session: InteractiveSession) -> None:
    session.add(ms.Point(B, label=2))
    session.add(ms.Point(A, label=1))
    session.rename(1, "spleen")
    other, before = session.mask(2), session.mask(1)
    session.delete(1)
    assert session.labels == (2,)
    assert [prompt.label for prompt in session.prompts] == [2]
    assert session.names == {}
    assert session.mask(2) is other
    session.undo()
    assert session.mask(1).same_as(before)
    assert session.names == {1: "spleen"}
    session.redo()
    session.add(ms.Point(A, label=1))
    assert session.mask(1).same_as(before), "it begins anew"


def test_a_locked_object_is_called_by_its_name(session: InteractiveSession) -> None:
    session.add(ms.Point(A, label=1))
    session.rename(1, "spleen")
    session.lock(1)
    changes: list[Callable[[], object]] = [lambda: session.delete(1), lambda: session.add(ms.Point(A, label=2))]
    for change in changes:
        with pytest.raises(InputError, match=r"label 1 \(spleen\) is locked: unlock it first, or draw for a new label"):
            change()
    assert session.labels == (1,)
