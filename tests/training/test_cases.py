from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from balls import LABELS, balls, segmentation, volume
from napari_medseg import ModelSpec, Segmentation, Volume, write
from napari_medseg.config import TrainConfig
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.events import finishing, result_of
from napari_medseg.geometry import AxisOrder
from napari_medseg.models.file import load_model
from napari_medseg.training.cases import IGNORE, Case, as_cases, cases_from_folders, class_indices, prepare


@pytest.fixture(scope="module")
def spec(ball_model: Path) -> ModelSpec:
    return replace(load_model(ball_model).spec, spacing_zyx_mm=(2.0, 1.0, 1.0), orientation="SPL")


def prepared(spec: ModelSpec, case: Case, **knobs: object) -> tuple[np.ndarray, np.ndarray]:
    config = TrainConfig(**knobs)  # type: ignore[arg-type]
    result = result_of(finishing(prepare(case, spec, config, np.random.default_rng(0), None)))
    return result.image, result.classes


def test_files_pair_by_name_whatever_their_format(ball_images: Path, ball_labels: Path) -> None:
    cases = cases_from_folders([ball_images], ball_labels)
    assert [c.name for c in cases] == ["case0", "case1", "case2"]
    image, labels = cases[1].load()
    assert image.name == "case1"
    np.testing.assert_array_equal(np.asarray(image.data), np.asarray(volume(seed=1).data))
    np.testing.assert_array_equal(np.asarray(labels.data), balls())


def test_those_without_a_partner_are_named_in_one_warning(ball_images: Path, ball_labels: Path) -> None:
    (ball_images / "case0.nii.gz").unlink()
    (ball_labels / "case2.nii").unlink()
    with pytest.warns(MedsegWarning, match="2 files without a partner are left out: case0, case2") as caught:
        assert [c.name for c in cases_from_folders([ball_images], ball_labels)] == ["case1"]
    assert len(caught) == 1


def test_no_pair_is_refused(ball_images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file name in .*images has a partner in .*empty"):
        cases_from_folders([ball_images], tmp_path / "empty")
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        cases_from_folders([ball_images], tmp_path / "nowhere")


def test_several_folders_are_channels_in_order(ball_images: Path, ball_labels: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    for number in range(3):
        write(second / f"case{number}.mha", volume(seed=10 + number))
    image, _ = cases_from_folders([ball_images, second], ball_labels)[0].load()
    expected = np.concatenate([np.asarray(volume(seed=s).data) for s in (0, 10)])
    np.testing.assert_array_equal(np.asarray(image.data), expected)


def test_pairs_of_nouns_are_cases() -> None:
    cases = as_cases([(volume(), segmentation()), (replace(volume(), name="named"), segmentation())])
    assert [c.name for c in cases] == ["case 0", "named"]
    with pytest.raises(InputError, match="at least one case"):
        as_cases([])


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


def test_what_nobody_annotated_is_ignored(spec: ModelSpec) -> None:
    labels = segmentation()
    empty = np.asarray(~balls().any(axis=(1, 2)))
    assert 0 < empty.sum() < len(empty)
    classes = class_indices(labels, spec, TrainConfig(unlabelled_slices="ignore"))
    assert (classes[empty] == IGNORE).all()
    np.testing.assert_array_equal(classes[~empty], balls()[~empty])
    without_two = replace(spec, labels={1: "left ball"}, arguments={**spec.arguments, "out_channels": 2})
    classes = class_indices(labels, without_two, TrainConfig(ignore_label=2))
    np.testing.assert_array_equal(classes == IGNORE, balls() == 2)


def test_large_cases_are_mapped_from_scratch_files(spec: ModelSpec, tmp_path: Path) -> None:
    case = as_cases([(replace(volume(), name="a/b"), segmentation())])[0]
    mapped = result_of(finishing(prepare(case, spec, TrainConfig(), np.random.default_rng(0), tmp_path)))
    assert isinstance(mapped.image, np.memmap)
    image, classes = prepared(spec, case)
    np.testing.assert_array_equal(mapped.image, image)
    np.testing.assert_array_equal(mapped.classes, classes)
