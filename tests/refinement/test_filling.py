"""A volume filled by a network that learns its painted slices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_medseg as ms
from click_phantoms import balls, dice
from napari_medseg.config import PropagateConfig
from napari_medseg.errors import InputError, MedsegWarning
from napari_medseg.events import Event, Finished, Notice, Progress, run_to_end
from napari_medseg.interactive.slices import fill_from_slices, slices_to_fill, take_filled
from napari_medseg.refinement.filling import _coarse_enough, filling
from napari_medseg.training.fit import iter_train

VOLUME, (BALL, OTHER) = balls((22, 26, 64), (11, 13, 12), (11, 13, 48), radius=7)
INDICES = [5, 8, 11, 14, 17]


def painted(indices: list[int] = INDICES, mask: Any = BALL) -> ms.Segmentation:
    some = np.zeros(VOLUME.grid.shape, np.uint8)
    some[indices] = mask[indices]
    return ms.Segmentation(some, VOLUME.grid, {1: "ball"}, name="slices")


class Asked:
    """A training that notes what it is given; a short one of the same network stands in for it."""

    def __init__(self) -> None:
        self.cases: list[tuple[ms.Volume, ms.Segmentation]] = []
        self.options: dict[str, Any] = {}

    def __call__(self, cases: Any, *, out: Path, **options: Any) -> Iterator[Event]:
        self.cases, self.options = cases, options
        small = {"channels": (4, 8)}
        yield from iter_train(cases, out=out, arguments=small, patch_zyx=(16, 16, 16), learning_rate=0.01, **options)


@pytest.fixture(scope="module")
def learned() -> tuple[Asked, npt.NDArray[Any], list[Event]]:
    """The empty slices at the ends are painted as well: nothing is there."""
    asked, events = Asked(), list[Event]()
    work = filling(
        VOLUME, painted(), PropagateConfig(method="learn", epochs=40, device="cpu"), {0: [2, *INDICES, 20]}, None, asked
    )
    try:
        while True:
            events.append(next(work))
    except StopIteration as end:
        return asked, np.asarray(end.value.data[...]), events


def test_painted_slices_come_back_and_the_others_are_filled(
    learned: tuple[Asked, npt.NDArray[Any], list[Event]],
) -> None:
    _, found, events = learned
    given = [2, *INDICES, 20]
    np.testing.assert_array_equal(found[given], painted().data[given])
    others = np.setdiff1d(np.arange(len(found)), given)
    assert dice(found[others] > 0, BALL[others]) > 0.8
    assert all(isinstance(event, Progress) for event in events)


def test_only_what_is_painted_is_learned_around_it(learned: tuple[Asked, npt.NDArray[Any], list[Event]]) -> None:
    asked, found, _ = learned
    ((part, known),) = asked.cases
    assert part.grid == known.grid
    assert part.grid.shape[2] < VOLUME.grid.shape[2], "a box around the ball"
    low = np.rint(VOLUME.grid.world_to_index(part.grid.origin)).astype(int)
    labels = np.asarray(known.data[...])
    annotated = np.flatnonzero((labels != asked.options["ignore_label"]).any(axis=(1, 2))) + low[0]
    assert annotated.tolist() == [2, *INDICES, 20]
    assert not found[..., OTHER.any(axis=(0, 1))].any(), "the other ball was not painted"


def test_too_few_slices_are_filled_at_once_with_a_line() -> None:
    given = painted([8, 14])
    with pytest.warns(MedsegWarning, match="learn needs 3 painted slices that hold a label, and got 2: filled at once"):
        found = ms.propagate(VOLUME, given, method="learn")
    np.testing.assert_array_equal(found.data[...], ms.propagate(VOLUME, given).data[...])
    *_, notice, finished = ms.iter_propagate(VOLUME, given, method="learn", slices={0: [5, 8, 14]})
    assert isinstance(notice, Notice), "slice 5 holds nothing"
    assert isinstance(finished, Finished)


def test_a_model_and_learning_exclude_each_other() -> None:
    with pytest.raises(InputError, match="method='learn' trains a network of its own: leave model='m' out"):
        ms.propagate(VOLUME, painted(), method="learn", model="m")


def test_closing_ends_the_training_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = filling(VOLUME, painted(), PropagateConfig(method="learn", device="cpu"), train=Asked())
    assert isinstance(next(work), Progress)
    assert list(tmp_path.iterdir())
    work.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_number_of_epochs_gives_the_same_result_each_time() -> None:
    config = PropagateConfig(method="learn", epochs=3, seed=5, device="cpu")
    one, again = (run_to_end(filling(VOLUME, painted(), config, train=Asked())) for _ in range(2))
    np.testing.assert_array_equal(one.data, again.data)


def test_what_was_painted_meanwhile_stays_and_locked_labels_too() -> None:
    session = ms.interact(VOLUME)
    for z in (8, 11, 14):
        session.add(ms.SliceMask(BALL[z], 0, z, label=2))
    session.add(ms.SliceMask(OTHER[11], 0, 11, label=1))
    session.lock(1)
    asked = slices_to_fill(session, 2)
    assert asked.slices == {0: [8, 11, 14]}
    smaller = BALL[9] & np.roll(BALL[9], 2, axis=1)
    session.add(ms.SliceMask(smaller, 0, 9, label=2))
    before = np.asarray(session.segmentation.data[...]) == 1
    everything = ms.Segmentation(np.ones(VOLUME.grid.shape, np.uint8), VOLUME.grid)
    take_filled(session, asked, everything)
    after = np.asarray(session.segmentation.data[...])
    np.testing.assert_array_equal(after == 1, before)
    np.testing.assert_array_equal(after[9] == 2, smaller)
    assert (after[10][~before[10]] == 2).all()
    session.lock(2)
    with pytest.raises(InputError, match="label 2 is locked: unlock it first"):
        take_filled(session, asked, everything)


def test_a_session_is_filled_by_shapes_alone() -> None:
    session = ms.interact(VOLUME)
    for z in (8, 14):
        session.add(ms.SliceMask(BALL[z], 0, z, label=1))
    fill_from_slices(session, 1, method="interpolation")
    expected = np.asarray(ms.propagate(VOLUME, painted([8, 14]), method="interpolation").data[...]) == 1
    np.testing.assert_array_equal(np.asarray(session.segmentation.data[...]) == 1, expected)


def test_a_large_part_is_made_coarser_between_painted_slices_only() -> None:
    grid = ms.Grid.from_spacing((200, 220, 240), (1.0, 1.0, 1.0))
    assert _coarse_enough(grid, {1}) == pytest.approx((2.3, 1.0, 2.3), abs=0.1)
    spacing = _coarse_enough(grid, {0, 1, 2})
    assert spacing is not None
    assert spacing[0] == spacing[1] == spacing[2] > 1
    assert _coarse_enough(ms.Grid.from_spacing((20, 22, 24), (1.0, 1.0, 1.0)), {0}) is None
