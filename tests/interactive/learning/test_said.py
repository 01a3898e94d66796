"""What a person said in a session becomes labels to train on; guesses become "not annotated"."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

import napari_medseg as ms
from click_phantoms import Mask, balls
from napari_medseg.config import LossConfig
from napari_medseg.errors import InputError
from napari_medseg.interactive.learning.said import said
from napari_medseg.interactive.session import InteractiveSession
from napari_medseg.training.cases import IGNORE, class_indices

A, B = (8, 10, 10), (8, 10, 26)


@pytest.fixture(scope="module")
def phantom() -> tuple[ms.Volume, list[Mask]]:
    return balls((16, 20, 36), A, B, radius=5)


@pytest.fixture
def session(phantom: tuple[ms.Volume, list[Mask]]) -> InteractiveSession:
    """The left ball is accepted, the right one painted in a slice and marked by a stroke."""
    volume, (_, right) = phantom
    session = ms.interact(volume)
    session.add(ms.Point(A, label=1))
    session.lock(1)
    session.rename(1, "left")
    session.add(ms.SliceMask(right[8], axis=0, index=8, label=2))
    session.add(ms.Scribble(np.array([[10, 10, x] for x in (25, 26)]), label=2))
    session.add(ms.Point((11, 10, 33), label=2, positive=False))
    return session


def test_only_what_was_said_is_annotated(session: InteractiveSession, phantom: tuple[ms.Volume, list[Mask]]) -> None:
    found = said(session)
    data, right = np.asarray(found.data[...]), phantom[1][1]
    accepted = np.asarray(session.segmentation.data[...]) == 1
    assert found.labels == {1: "left", 2: "label 2"}
    np.testing.assert_array_equal(data == 1, accepted)
    np.testing.assert_array_equal(data[8] == 2, right[8])
    assert set(np.unique(data[8]).tolist()) == {0, 1, 2}, "the painted slice is known as a whole"
    assert data[10, 10, 25] == data[10, 10, 26] == 2
    assert data[11, 10, 33] == 0, "a click that says: not here"
    guess = np.asarray(session.segmentation.data[...]) == 2
    beside = (distance_transform_edt(~accepted) <= 5) & (distance_transform_edt(~guess) > 5)
    others = np.delete(data, [8, 10, 11], axis=0)
    np.testing.assert_array_equal(others == 255, np.delete(~accepted & ~beside, [8, 10, 11], axis=0))
    session.lock(2)
    np.testing.assert_array_equal(np.asarray(said(session).data[...]), np.asarray(session.segmentation.data[...]))


def test_beside_an_accepted_label_is_background(phantom: tuple[ms.Volume, list[Mask]]) -> None:
    """A click on another label says nowhere that it is not: nothing at all was background."""
    session = ms.interact(phantom[0])
    session.add(ms.Point(A, label=1))
    session.lock(1)
    session.add(ms.Point(B, label=2))
    labels, data = np.asarray(session.segmentation.data[...]), np.asarray(said(session).data[...])
    assert np.argwhere(data == 2).tolist() == [list(B)]
    np.testing.assert_array_equal(data == 1, labels == 1)
    left, right = (distance_transform_edt(labels != label) for label in (1, 2))
    np.testing.assert_array_equal(data == 0, (labels != 1) & (left <= 5) & (right > 5))
    assert (data == 0).sum() > 1000


def test_a_label_that_was_erased_is_nowhere(phantom: tuple[ms.Volume, list[Mask]]) -> None:
    session = ms.interact(phantom[0])
    session.add(ms.Point(A, label=1))
    session.lock(1)
    session.add(ms.SliceMask(phantom[1][1][8], axis=0, index=8, label=2))
    everything = np.ones(session.volume.grid.shape[1:], dtype=bool)
    while mask := session.mask(2):
        session.add(ms.SliceMask(everything, axis=0, index=mask.box[0].start, label=2, positive=False))
    assert session.labels == (1,)
    np.testing.assert_array_equal(np.asarray(said(session).data[...]), np.asarray(session.segmentation.data[...]))


def test_a_label_alone_teaches_nothing(phantom: tuple[ms.Volume, list[Mask]]) -> None:
    session = ms.interact(phantom[0])
    session.add(ms.Point(A, label=1))
    with pytest.raises(InputError, match="only label 1 was said"):
        said(session)
    session.add(ms.Point((8, 10, 18), label=1, positive=False))
    assert set(np.unique(np.asarray(said(session).data[...])).tolist()) == {0, 1, 255}


def test_a_box_says_where_the_label_is_not(phantom: tuple[ms.Volume, list[Mask]]) -> None:
    session = ms.interact(phantom[0])
    session.add(ms.Box((2, 4, 4), (15, 17, 17), label=1))
    with pytest.raises(InputError, match="accept objects"):
        said(session)
    session.add(ms.Point(A, label=1))
    data = np.asarray(said(session).data[...])
    assert data[A] == 1
    assert (data == 1).sum() == 1
    assert not data[:, :, 20:].any()
    assert (data[3:14, 5:16, 5:16] == 255).sum() == 11**3 - 1


def test_the_id_of_what_is_unknown_is_free(session: InteractiveSession) -> None:
    with pytest.raises(InputError, match="label 2 is in use"):
        said(session, ignore_label=2)
    assert np.asarray(said(session, ignore_label=70000).data[...]).max() == 70000


def test_a_training_counts_nothing_else(session: InteractiveSession) -> None:
    spec: Any = SimpleNamespace(label_ids=[0, 1, 2])
    found = said(session)
    data = np.asarray(found.data[...])
    classes = class_indices(found, spec, LossConfig(ignore_label=255))
    np.testing.assert_array_equal(classes == IGNORE, data == 255)
    np.testing.assert_array_equal(classes[data != 255], data[data != 255])
