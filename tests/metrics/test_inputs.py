"""What is no Segmentation, no Volume and no id is refused in one line, by every function that measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_medseg import Grid, Segmentation, Volume, evaluate
from napari_medseg.errors import InputError
from napari_medseg.metrics import Comparison, combine
from napari_medseg.metrics.agreement.calibration import calibrate
from napari_medseg.metrics.agreement.raters import agreement_of, majority_vote
from napari_medseg.metrics.agreement.staple import staple
from napari_medseg.metrics.descriptive.intensity import intensity_statistics
from napari_medseg.metrics.descriptive.series import volume_series
from napari_medseg.metrics.descriptive.shape import shape_statistics
from napari_medseg.metrics.pairwise.error_map import error_map
from napari_medseg.metrics.pairwise.instances import match_instances
from napari_medseg.metrics.pairwise.places import worst_place
from napari_medseg.metrics.pairwise.surface_mesh import surface_distance_mesh
from napari_medseg.metrics.study.study import CaseImages

ARRAY: Any = np.ones((2, 3, 4), np.uint8)
GRID = Grid.from_spacing((2, 3, 4), (1.0, 1.0, 1.0))
LABELS: Any = Segmentation(ARRAY, GRID)
IMAGE: Any = Volume(ARRAY[None], GRID)

PAIRED = (evaluate, Comparison, CaseImages, match_instances, error_map, worst_place, surface_distance_mesh)
ALONE: dict[str, tuple[Callable[[], object], str]] = {
    "shape": (lambda: shape_statistics(ARRAY), "the segmentation must be a Segmentation"),
    "shape of an image": (lambda: shape_statistics(IMAGE), "the segmentation must be a Segmentation, .*; got Volume"),
    "intensity in an array": (lambda: intensity_statistics(ARRAY, IMAGE), "the segmentation must be a Segmentation"),
    "intensity of an array": (lambda: intensity_statistics(LABELS, ARRAY), "the image must be a Volume"),
    "array as probabilities": (
        lambda: calibrate(probabilities=ARRAY, reference=LABELS),
        r"the probabilities must be a Volume, .*; got ndarray: make one with Volume\(array_czyx, Grid",
    ),
    "calibration by an array": (
        lambda: calibrate(probabilities=IMAGE, reference=ARRAY),
        "the reference must be a Segmentation",
    ),
    "agreement": (lambda: agreement_of({"Ann": LABELS, "Ben": ARRAY}), "reader 'Ben' must be a Segmentation"),
    "agreement of the nameless": (
        lambda: agreement_of([LABELS, LABELS]),  # type: ignore[arg-type]
        r"each reader needs a name: give \{name: Segmentation\}; got list",
    ),
    "case with an array to compare": (
        lambda: CaseImages(prediction=LABELS, reference=LABELS, compared=ARRAY),
        "the compared prediction must be a Segmentation",
    ),
    "case with an array as its image": (
        lambda: CaseImages(prediction=LABELS, reference=LABELS, image=ARRAY),
        "the image must be a Volume",
    ),
    "vote": (lambda: majority_vote([LABELS, ARRAY]), "reader 2 must be a Segmentation"),
    "vote of the named": (lambda: majority_vote({"Ann": LABELS}), "reader 1 must be a Segmentation, .*; got str"),  # type: ignore[arg-type]
    "staple": (lambda: staple({"Ann": ARRAY, "Ben": LABELS}), "reader 'Ann' must be a Segmentation"),
    "staple of the nameless": (lambda: staple([LABELS, LABELS]), "each reader needs a name"),  # type: ignore[arg-type]
    "series": (lambda: volume_series({"May": ARRAY}), "time point 'May' must be a Segmentation"),
    "series of the nameless": (lambda: volume_series([LABELS]), "each time point needs a name"),  # type: ignore[arg-type]
}
OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "one id": (lambda: shape_statistics(LABELS, labels=1), r"needs label ids, such as \(1, 2\); got 1"),  # type: ignore[arg-type]
    "names for ids": (
        lambda: calibrate(probabilities=IMAGE, reference=LABELS, labels=["a", "b"]),  # type: ignore[list-item]
        r"needs label ids, such as \(1, 2\); got \['a', 'b'\]",
    ),
    "preset": (
        lambda: worst_place(prediction=LABELS, reference=LABELS, preset="brats"),  # type: ignore[arg-type]
        "preset is survey, lits or chaos; got 'brats'",
    ),
    "tolerance": (
        lambda: evaluate(prediction=LABELS, reference=LABELS, nsd_tolerance_mm="a"),
        "nsd_tolerance_mm must be a number; got 'a'",
    ),
    "nameless scores": (
        lambda: combine([evaluate(prediction=LABELS, reference=LABELS)]),  # type: ignore[list-item]
        r"need a name for each case: give \(name, Scores\); got Scores",
    ),
}


@pytest.mark.parametrize("wrong", [ARRAY, IMAGE], ids=["array", "image"])
@pytest.mark.parametrize("measure", PAIRED, ids=lambda f: f.__name__)
def test_prediction_and_reference_are_segmentations(measure: Callable[..., object], wrong: Any) -> None:
    kind = type(wrong).__name__
    for role, pair in (("prediction", (wrong, LABELS)), ("reference", (LABELS, wrong))):
        with pytest.raises(InputError, match=f"the {role} must be a Segmentation, which .*; got {kind}: make one with"):
            measure(prediction=pair[0], reference=pair[1])


@pytest.mark.parametrize(("measure", "message"), [*ALONE.values(), *OTHERS.values()], ids=[*ALONE, *OTHERS])
def test_what_is_measured_is_asked_for_by_name(measure: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure()


def test_ids_may_be_numpy_s() -> None:
    (row,) = shape_statistics(LABELS, labels=np.array([1, 9]))  # type: ignore[arg-type]
    assert row.label == 1
