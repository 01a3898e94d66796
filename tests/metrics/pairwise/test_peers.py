"""Random pairs: equal to MONAI and to medpy wherever they define a metric as we do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_medseg import Grid, Segmentation, evaluate
from napari_medseg.metrics.pairwise.scores import Row
from napari_medseg.metrics.pairwise.surface import Mask

SPACING = (2.5, 0.8, 1.1)


def random_pair(seed: int) -> tuple[Mask, Mask]:
    """Blobs, and the same ones with another noise: prediction, reference."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((18, 26, 30)), 3)
    other = field + ndimage.gaussian_filter(rng.standard_normal(field.shape), 2) * 0.3
    level = np.quantile(field, rng.uniform(0.5, 0.9))
    return other > level, field > level


@pytest.fixture(params=range(6), ids=lambda seed: f"seed {seed}")
def pair(request: pytest.FixtureRequest) -> tuple[Mask, Mask]:
    return random_pair(request.param)


@pytest.fixture
def row(pair: tuple[Mask, Mask]) -> Row:
    b, a = (Segmentation(m.astype(np.uint8), Grid.from_spacing(m.shape, SPACING)) for m in pair)
    return evaluate(prediction=b, reference=a, nsd_tolerance_mm=1.2).rows[0]


@pytest.mark.filterwarnings(
    "ignore:.*always_return_as_numpy:FutureWarning"
)  # MONAI 1.6 deprecates what it calls itself
def test_equals_monai(pair: tuple[Mask, Mask], row: Row) -> None:
    import torch
    from monai import metrics

    y_pred, y = (torch.from_numpy(np.stack([~m, m])[None]) for m in pair)
    assert row.dice == pytest.approx(metrics.compute_dice(y_pred, y, include_background=False).item(), abs=1e-4)
    assert row.iou == pytest.approx(metrics.compute_iou(y_pred, y, include_background=False).item(), abs=1e-4)
    asd = metrics.compute_average_surface_distance(y_pred, y, symmetric=True, spacing=SPACING)
    assert row.asd_mm == pytest.approx(asd.item(), abs=1e-4)
    msd = metrics.compute_hausdorff_distance(y_pred, y, spacing=SPACING)
    assert row.msd_mm == pytest.approx(msd.item(), abs=1e-4)
    hd95 = metrics.compute_hausdorff_distance(y_pred, y, percentile=95, spacing=SPACING)
    assert row.hd95_mm == pytest.approx(hd95.item(), abs=1e-4)
    nsd = metrics.compute_surface_dice(y_pred, y, class_thresholds=[1.2], spacing=SPACING)
    assert row.nsd == pytest.approx(nsd.item(), abs=1e-4)


def test_equals_medpy(pair: tuple[Mask, Mask], row: Row) -> None:
    from medpy.metric import binary

    prediction, reference = pair
    assert row.dice == pytest.approx(binary.dc(prediction, reference), abs=1e-4)
    assert row.iou == pytest.approx(binary.jc(prediction, reference), abs=1e-4)
    assert row.rvd == pytest.approx(binary.ravd(prediction, reference), abs=1e-4)
    assert row.asd_mm == pytest.approx(binary.assd(prediction, reference, SPACING), abs=1e-4)
    assert row.msd_mm == pytest.approx(binary.hd(prediction, reference, SPACING), abs=1e-4)
    assert row.hd95_pooled_mm == pytest.approx(binary.hd95(prediction, reference, SPACING), abs=1e-4)
    assert row.sensitivity == pytest.approx(binary.sensitivity(prediction, reference), abs=1e-4)
    assert row.specificity == pytest.approx(binary.specificity(prediction, reference), abs=1e-4)
    assert row.precision == pytest.approx(binary.precision(prediction, reference), abs=1e-4)
    directed = [binary.asd(*masks, SPACING) for masks in ((prediction, reference), (reference, prediction))]
    assert row.masd_mm == pytest.approx(sum(directed) / 2, abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_the_two_definitions_of_hd95_may_lie_far_apart() -> None:
    """Two false voxels far off are more than 5 % of a small surface, and less than 5 % of both together."""
    import torch
    from medpy.metric import binary
    from monai import metrics

    reference, prediction = np.zeros((2, 4, 20, 80), bool)
    reference[2, :, :20] = True
    prediction[2, range(20), range(20)] = True
    prediction[2, 5:7, 75] = True
    b, a = (Segmentation(m.astype(np.uint8), Grid.from_spacing(m.shape, SPACING)) for m in (prediction, reference))
    row = evaluate(prediction=b, reference=a).rows[0]
    y_pred, y = (torch.from_numpy(np.stack([~m, m])[None]) for m in (prediction, reference))
    of_monai = metrics.compute_hausdorff_distance(y_pred, y, percentile=95, spacing=SPACING).item()
    of_medpy = binary.hd95(prediction, reference, SPACING)
    assert (row.hd95_mm, row.hd95_pooled_mm) == pytest.approx((of_monai, of_medpy), abs=1e-4)
    assert row.hd95_mm > 5 * row.hd95_pooled_mm


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["z", "y", "x"])
def test_one_slice_equals_monai_and_medpy_in_two_dimensions(pair: tuple[Mask, Mask], axis: int) -> None:
    import torch
    from medpy.metric import binary
    from monai import metrics

    images = [m.take(m.shape[axis] // 2, axis) for m in pair]
    spacing = tuple(np.delete(SPACING, axis).tolist())
    b, a = (np.expand_dims(image, axis).astype(np.uint8) for image in images)
    grid = Grid.from_spacing(a.shape, SPACING)
    row = evaluate(prediction=Segmentation(b, grid), reference=Segmentation(a, grid), nsd_tolerance_mm=1.2).rows[0]
    y_pred, y = (torch.from_numpy(np.stack([~image, image])[None]) for image in images)
    asd = metrics.compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing).item()
    hd95 = metrics.compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing).item()
    nsd = metrics.compute_surface_dice(y_pred, y, class_thresholds=[1.2], spacing=spacing).item()
    assert (row.asd_mm, row.hd95_mm, row.nsd) == pytest.approx((asd, hd95, nsd), abs=1e-4)
    assert row.asd_mm == pytest.approx(binary.assd(*images, spacing), abs=1e-4)
    assert row.hd95_pooled_mm == pytest.approx(binary.hd95(*images, spacing), abs=1e-4)
    lits = evaluate(prediction=Segmentation(b, grid), reference=Segmentation(a, grid), preset="lits").rows[0]
    assert lits.asd_mm == pytest.approx(binary.assd(*images, spacing, connectivity=2), abs=1e-4)


def test_lits_equals_medpy_with_its_neighbourhood(pair: tuple[Mask, Mask]) -> None:
    from medpy.metric import binary

    b, a = (Segmentation(m.astype(np.uint8), Grid.from_spacing(m.shape, SPACING)) for m in pair)
    row = evaluate(prediction=b, reference=a, preset="lits").rows[0]
    assert row.asd_mm == pytest.approx(binary.assd(pair[0], pair[1], SPACING, connectivity=2), abs=1e-4)
    assert row.rvd == pytest.approx(binary.ravd(pair[1], pair[0]), abs=1e-4)
