from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balls import LABELS, balls, segmentation, volume
from napari_medseg import ModelSpec, Segmentation, Volume
from napari_medseg.cases import Case
from napari_medseg.config import LossConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Notice, finishing, result_of
from napari_medseg.geometry import AxisOrder
from napari_medseg.models.file import load_model
from napari_medseg.training.cases import IGNORE, as_cases, class_indices, new_array, objects_of, prepare


@pytest.fixture(scope="module")
def spec(ball_model: Path) -> ModelSpec:
    return replace(load_model(ball_model).spec, spacing_zyx_mm=(2.0, 1.0, 1.0), orientation="SPL")


def prepared(spec: ModelSpec, case: Case) -> tuple[np.ndarray, np.ndarray]:
    result = result_of(finishing(prepare(case, spec, LossConfig(), np.random.default_rng(0), None)))
    return result.image, result.classes


def test_pairs_of_nouns_are_cases() -> None:
    cases = as_cases([(volume(), segmentation()), (replace(volume(), name="named"), segmentation())])
    assert [c.name for c in cases] == ["case 0", "named"]
    with pytest.raises(InputError, match="at least one case"):
        as_cases([])


def test_cases_of_one_name_are_told_apart() -> None:
    """What is known of a case is kept under its name: intensities, errors of a model, scratch files."""
    alike = [(replace(volume(seed=seed), name="a"), segmentation()) for seed in range(3)]
    cases = as_cases([*alike, (replace(volume(), name="a (2)"), segmentation()), *[Case(name="")] * 2])
    assert [case.name for case in cases] == ["a", "a (3)", "a (4)", "a (2)", "", "(2)"]
    assert cases[1].volume().name == "a (3)"


def test_scratch_files_of_names_that_look_alike_are_two(tmp_path: Path) -> None:
    arrays = [new_array(tmp_path, name, (2,), np.int16) for name in ("a b.image", "a_b.image", "A_b.image")]
    for value, array in enumerate(arrays):
        array[:] = value
    assert [array.tolist() for array in arrays] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(("ignored", "ids"), [(None, [0, 1, 1]), (2, [0, 1, 2]), (1, [0, 1, 2])])
def test_a_detector_learns_one_label(ignored: int | None, ids: list[int]) -> None:
    (case,) = as_cases([(volume(), segmentation())])
    objects = objects_of(case, LossConfig(ignore_label=ignored))
    image, labels = pickle.loads(pickle.dumps(objects)).load()
    np.testing.assert_array_equal(labels.data, np.array(ids)[balls()])
    assert dict(labels.labels) == {2 if ignored == 1 else 1: "object"}
    assert image.name == "case 0"


def test_a_case_is_normalised_and_its_ids_become_classes(spec: ModelSpec) -> None:
    far = replace(spec, labels={5: "five", 2_000_000_000: "far"})
    ids = np.array([0, 5, 2_000_000_000])[balls()]
    image, classes = prepared(far, as_cases([(volume(), Segmentation(ids, volume().grid))])[0])
    np.testing.assert_array_equal(classes, balls())
    assert image.mean() == pytest.approx(0, abs=1e-4)
    assert image.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("orientation", ["RAI", "LSP"])
def test_a_case_is_turned_to_the_models_orientation(spec: ModelSpec, orientation: str) -> None:
    order = AxisOrder.between("SPL", orientation)
    grid = volume().grid.reordered(order)
    turned = (Volume(order.apply(np.asarray(volume().data)), grid), Segmentation(order.apply(balls()), grid, LABELS))
    image, classes = prepared(spec, as_cases([turned])[0])
    plain, _ = prepared(spec, as_cases([(volume(), segmentation())])[0])
    np.testing.assert_array_equal(classes, balls())
    np.testing.assert_array_equal(image, plain)


def test_a_case_is_resampled_with_its_labels(spec: ModelSpec) -> None:
    finer = replace(spec, spacing_zyx_mm=(1.0, 1.0, 1.0))
    image, classes = prepared(finer, as_cases([(volume(), segmentation())])[0])
    assert image.shape == (1, 24, 20, 16)
    np.testing.assert_array_equal(classes, balls().repeat(2, axis=0))


def test_voxels_that_are_no_numbers_are_told_with_the_case(spec: ModelSpec) -> None:
    data = np.array(volume().data, np.float32)
    data[0, 2, 3, 4] = np.inf
    case = Case(name="odd", images=(replace(volume(), data=data, name=""),), labels=segmentation())
    events = list(finishing(prepare(case, spec, LossConfig(), np.random.default_rng(0), None)))
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told == ["odd has voxels that are no numbers (NaN or infinite): they count as 0"]
    assert np.isfinite(result_of(events).image).all()


def test_what_nobody_annotated_is_ignored(spec: ModelSpec) -> None:
    labels = segmentation()
    empty = np.asarray(~balls().any(axis=(1, 2)))
    assert 0 < empty.sum() < len(empty)
    classes = class_indices(labels, spec, LossConfig(unlabelled_slices="ignore"))
    assert (classes[empty] == IGNORE).all()
    np.testing.assert_array_equal(classes[~empty], balls()[~empty])
    without_two = replace(spec, labels={1: "left ball"}, arguments={**spec.arguments, "out_channels": 2})
    classes = class_indices(labels, without_two, LossConfig(ignore_label=2))
    np.testing.assert_array_equal(classes == IGNORE, balls() == 2)


def test_large_cases_are_mapped_from_scratch_files(spec: ModelSpec, tmp_path: Path) -> None:
    case = as_cases([(replace(volume(), name="a/b"), segmentation())])[0]
    mapped = result_of(finishing(prepare(case, spec, LossConfig(), np.random.default_rng(0), tmp_path)))
    assert isinstance(mapped.image, np.memmap)
    image, classes = prepared(spec, case)
    np.testing.assert_array_equal(mapped.image, image)
    np.testing.assert_array_equal(mapped.classes, classes)
