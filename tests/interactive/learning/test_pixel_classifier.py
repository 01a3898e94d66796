"""A classifier of voxels: features worked out by hand, what is learned, and the whole volume block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import napari_medseg as ms
from napari_medseg.arrays.boxes import Box, whole
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Progress, Started, result_of
from napari_medseg.interactive.learning import pixel_classifier
from napari_medseg.interactive.learning.features import features, halo, usual_scales_mm
from napari_medseg.interactive.learning.pixel_classifier import PixelClassifier, PixelLearner, iter_classify, shown_by

SHAPE = (12, 14, 20)
GRID = ms.Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))
LEFT = ms.Scribble(np.array([[z, 7, 3] for z in range(2, 10)]), label=2)
RIGHT = ms.Scribble(np.array([[z, 7, 16] for z in range(2, 10)]), label=5)


def halves() -> ms.Volume:
    """Noise around 0 for x < 10, around 4 from there on."""
    image = np.random.default_rng(0).normal(0, 1, SHAPE) + 4 * (np.indices(SHAPE)[2] >= 10)
    return ms.Volume(image[None].astype(np.float32), GRID, name="halves")


@pytest.fixture(scope="module")
def volume() -> ms.Volume:
    return halves()


@pytest.fixture(scope="module")
def classifier(volume: ms.Volume) -> PixelClassifier:
    return PixelLearner(volume).update([LEFT, RIGHT])[0]


def test_a_paraboloid_has_the_features_of_its_formula() -> None:
    # z and x in mm: i = 3 z + z^2 / 2 - x^2, whose second derivatives no smoothing changes.
    z, _, x = np.indices((21, 5, 31)).astype(np.float64)
    z, x = 2 * (z - 10), x - 15
    image = 3 * z + z**2 / 2 - x**2
    paraboloid = ms.Volume(image[None].astype(np.float32), ms.Grid.from_spacing((21, 5, 31), (2.0, 1.0, 1.0)))
    middle: Box = (slice(10, 11), slice(2, 3), slice(15, 16))
    intensity, smooth, gradient, *eigenvalues = features(paraboloid, middle, [1.0])[:, 0, 0, 0]
    assert intensity == 0
    assert gradient == pytest.approx(3, rel=1e-4)
    assert eigenvalues == pytest.approx([-2, 0, 1], abs=1e-3)
    # Smoothing adds half the variance of its samples times the second derivatives.
    variance = [
        (np.exp(-((k * s) ** 2) / 2) * (k * s) ** 2).sum() / np.exp(-((k * s) ** 2) / 2).sum()
        for k, s in ((np.arange(-2, 3), 2.0), (np.arange(-3, 4), 1.0))
    ]
    assert smooth == pytest.approx((variance[0] - 2 * variance[1]) / 2, abs=1e-3)


def test_a_box_has_the_features_of_that_part_of_the_whole(volume: ms.Volume) -> None:
    scales = usual_scales_mm(GRID)
    box: Box = (slice(3, 9), slice(0, 5), slice(8, 20))
    everything = features(volume, whole(SHAPE), scales)
    np.testing.assert_array_equal(features(volume, box, scales), everything[(slice(None), *box)])


def test_a_slice_has_no_surroundings_across_it() -> None:
    assert halo((1, 40, 40), (5.0, 1.0, 2.0), [1.0, 2.0]) == (0, 7, 4)
    flat = ms.Volume(
        np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6), ms.Grid.from_spacing((1, 6, 6), (1.0, 1.0, 1.0))
    )
    gradient = features(flat, (slice(0, 1), slice(2, 4), slice(2, 4)), [0.2])[2]
    np.testing.assert_allclose(gradient, np.sqrt(37))


def test_a_voxel_that_is_no_number_spoils_nothing(volume: ms.Volume) -> None:
    image = np.array(volume.data)
    image[0, 6, 7, 10] = np.nan
    assert np.isfinite(features(ms.Volume(image, GRID), whole(SHAPE), [1.0])).all()


def test_strokes_teach_both_halves(volume: ms.Volume) -> None:
    learner = PixelLearner(volume)
    classifier, labels = learner.update([LEFT, RIGHT])
    assert classifier.classes == (2, 5)
    assert (labels[:, :, :8] == 2).mean() > 0.95
    assert (labels[:, :, 12:] == 5).mean() > 0.95
    again, same = learner.update([LEFT, RIGHT])
    np.testing.assert_array_equal(again.coefficients, classifier.coefficients)
    np.testing.assert_array_equal(same, labels)


def test_probabilities_of_a_voxel_add_up_to_one(volume: ms.Volume, classifier: PixelClassifier) -> None:
    seen = features(volume, whole(SHAPE), classifier.scales_mm)
    found = classifier.probabilities(seen)
    np.testing.assert_array_equal(classifier.labels(seen), np.array(classifier.classes)[found.argmax(axis=0)])
    assert found.shape == (2, *SHAPE)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-5)


def test_negative_prompts_show_what_is_no_label_and_later_ones_win() -> None:
    box: Box = (slice(0, 12), slice(0, 14), slice(2, 20))
    not_here = ms.Point((5, 7, 3), label=2, positive=False)
    shown = shown_by([LEFT, RIGHT, not_here, ms.Point((0, 0, 0), label=9)], SHAPE, box)
    assert [shown[4, 7, 1], shown[5, 7, 1], shown[5, 7, 14], shown[0, 0, 0]] == [2, 0, 5, -1]
    assert (shown >= 0).sum() == 16


def test_a_region_learns_from_its_own_prompts(volume: ms.Volume) -> None:
    with pytest.raises(InputError, match=r"prompts of two classes at least.*shows \[2\]"):
        PixelLearner(volume, (slice(0, 12), slice(0, 14), slice(0, 10))).update([LEFT, RIGHT])


@pytest.mark.parametrize("scales", [[], [0.0], [np.nan]])
def test_scales_are_sigmas(scales: list[float], volume: ms.Volume) -> None:
    with pytest.raises(InputError, match="scales_mm are sigmas in mm"):
        PixelLearner(volume, scales_mm=scales)


def test_blocks_give_what_the_whole_gives(
    volume: ms.Volume, classifier: PixelClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result_of(iter_classify(volume, classifier))
    monkeypatch.setattr(pixel_classifier, "_BLOCK", 8)
    events = list(iter_classify(volume, classifier, out=tmp_path / "labels.zarr"))
    assert isinstance(events[0], Started)
    assert [event.done for event in events if isinstance(event, Progress)] == list(range(1, 13))
    assert isinstance(events[-1], Finished)
    stored = ms.read_segmentation(tmp_path / "labels.zarr")
    np.testing.assert_array_equal(np.asarray(stored.data[...]), expected.data)
    assert stored.labels == {2: "label 2", 5: "label 5"}
    assert stored.grid.same_as(GRID)


def test_cancelled_work_leaves_the_blocks_that_are_done(
    volume: ms.Volume, classifier: PixelClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_classifier, "_BLOCK", 10)
    events = iter_classify(volume, classifier)
    started = next(events)
    assert isinstance(started, Started)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert started.result.data[:10, :10, :10].all()
    assert not started.result.data[:, :, 10:].any()


def test_other_channels_and_other_files_are_refused(
    volume: ms.Volume, classifier: PixelClassifier, tmp_path: Path
) -> None:
    two = ms.Volume(np.zeros((2, *SHAPE), np.float32), GRID, name="two")
    with pytest.raises(InputError, match="two has 2 channels where the classifier learned from 1"):
        result_of(iter_classify(two, classifier))
    with pytest.raises(InputError, match=r"streamed into a \.zarr folder"):
        result_of(iter_classify(volume, classifier, out=tmp_path / "labels.nii.gz"))
