"""Training where only a part is annotated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from balls import balls, segmentation, volume
from napari_medseg import Grid, Segmentation, Volume, iter_train, load_model, registry, segment
from napari_medseg.config import LossConfig, TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Notice, Started, TrainProgress, Validated, finishing, result_of
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.training.cases import IGNORE, as_cases, class_indices, prepare
from napari_medseg.training.losses.context import Context
from napari_medseg.training.losses.guesses import guess, smooth, towards
from napari_medseg.training.losses.masked import Masked
from napari_medseg.training.sparse import held_out, in_part, places_on, shapes_between
from napari_medseg.volume import MAX_LABEL

NOTHING = ((1, "teaches"), (2, "validates"))
QUICK: dict[str, Any] = {"device": "cpu", "precision": "fp32", "arguments": {"channels": (8, 16)}}


def painted(indices: list[int]) -> Segmentation:
    labels = np.zeros_like(balls())
    labels[indices] = balls()[indices]
    return Segmentation(labels, volume().grid)


def squares(*halves: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A slice per number: a square of 2 n + 1 pixels of class 1, 0 around it; all unknown for a negative number."""
    classes = np.zeros((len(halves), 21, 21), np.int16)
    for plane, half in zip(classes, halves, strict=True):
        plane[10 - half : 11 + half, 10 - half : 11 + half] = 1
        if half < 0:
            plane[...] = IGNORE
    return classes


def seen(classes: np.ndarray[Any, np.dtype[np.int16]]) -> Volume:
    """An image of slices 2 mm apart: a bright square that is 9 pixels wide where nobody painted."""
    shown = np.where((classes < 0).all(axis=(1, 2), keepdims=True), squares(*[4] * len(classes)), classes)
    noise = np.random.default_rng(0).normal(0, 0.05, shown.shape)
    return Volume((shown + noise)[None].astype(np.float32), Grid.from_spacing(shown.shape, (2.0, 1.0, 1.0)))


def test_shapes_between_slices_follow_the_image() -> None:
    classes = squares(-1, 3, -1, 6, -1)
    shapes = shapes_between(seen(classes), classes, 2)
    assert shapes is not None
    assert not shapes[:, [1, 3]].any()
    assert np.allclose(shapes[:, [0, 2, 4]].sum(axis=0), 1)
    between = shapes[1, 2]
    assert int((between[10] > 0.5).sum()) == 9
    # Half a voxel from the border the odds are e to 1/2 and more, and they rise towards the middle.
    assert between[10, 10] > between[10, 7] > 0.5 > between[10, 3] > between[10, 0]


@pytest.mark.parametrize("classes", [squares(2, 3), squares(-1, -1)], ids=["all known", "nothing known"])
def test_without_unknown_slices_there_are_no_shapes(classes: Any) -> None:
    assert shapes_between(seen(classes), classes, 2) is None


def test_a_part_of_a_slice_has_no_shapes() -> None:
    classes = squares(2, -1, 2)
    volume = seen(classes)
    classes[0, 0, 0] = IGNORE
    assert shapes_between(volume, classes, 2) is None


def test_slices_without_a_label_have_no_shapes() -> None:
    classes = np.where(squares(2, -1, 2) > 0, 0, squares(2, -1, 2)).astype(np.int16)
    assert shapes_between(seen(classes), classes, 2) is None


def test_a_guess_weighs_shapes_and_network() -> None:
    shapes, found = torch.tensor([[[0.2], [0.8]]]), torch.log(torch.tensor([[[0.6], [0.4]]]))
    odds = 0.4 / 0.6 * (0.8001 / 0.2001) ** 0.5
    assert guess(shapes, found, 1.0)[0, 1, 0].item() == pytest.approx(odds / (1 + odds), abs=1e-5)
    assert guess(shapes, found, 0.0)[0, 1, 0].item() == pytest.approx(0.8, abs=1e-3)
    # Even logits, of which one voxel of two counts: -ln 0.5, and Dice of 0.5 and 1.
    wanted = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    loss = towards(torch.zeros(1, 2, 2), wanted, torch.tensor([[[1.0, 0.0]]]))
    assert float(loss) == pytest.approx(np.log(2) + 1 - 2 * 0.5 / 1.5, abs=1e-3)


def test_neighbours_of_a_like_intensity_should_agree() -> None:
    # Two like neighbours of opposite classes, and two unlike ones: exp(-(1 / 0.5)^2 / 2).
    given = Masked.of(torch.tensor([[[50.0, -50.0, -50.0]] * 1 + [[-50.0, 50.0, 50.0]]]), torch.zeros(1, 3).long())
    alike = Context(images=torch.tensor([[[0.0, 0.0, 1.0]]]))
    assert float(smooth(given, alike)) == pytest.approx(0.5)
    apart = Context(images=torch.tensor([[[0.0, 1.0, 1.0]]]))
    assert float(smooth(given, apart)) == pytest.approx(0.5 * np.exp(-2))


def case_of(labels: Segmentation) -> Any:
    return as_cases([(volume(), labels)])[0]


def spec_of() -> ModelSpec:
    arguments = registry.network("unet3d").arguments(
        in_channels=1, out_channels=3, channels=(4, 8), deep_supervision=False
    )
    return ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "a", 2: "b"},
        patch_zyx=(8, 16, 16),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_of_a_single_case_validate(axis: int) -> None:
    shape = (24, 24, 24)
    labels = np.zeros(shape, np.uint8)
    np.moveaxis(labels, axis, 0)[::2, 5:9, 5:9] = 1
    grid = Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    config = configured(TrainConfig, None, {"unlabelled_slices": "ignore", "val": 0.2})
    training, validation, changed = held_out(case_of(Segmentation(labels, grid)), config)
    spec = spec_of()
    of_training, of_validation = (
        np.moveaxis(class_indices(cases[0].segmentation(), spec, changed.loss), axis, 0)
        for cases in (training, validation)
    )
    trained, validated = ((part >= 0).any(axis=(1, 2)) for part in (of_training, of_validation))
    assert np.flatnonzero(validated).tolist() == [8, 14]
    assert np.flatnonzero(trained).tolist() == [k for k in range(0, 24, 2) if k not in (8, 14)]
    assert (of_validation[8] == np.moveaxis(labels, axis, 0)[8]).all()
    assert validation[0].name == "slices 8, 14 of case 0"


def test_a_single_painted_slice_is_all_that_is_known() -> None:
    """Planes that were hidden across it to validate made all beside it known, as background."""
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[3:21, 5:20, 10] = 1
    case = case_of(Segmentation(labels, Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))))
    config = configured(TrainConfig, None, {"unlabelled_slices": "ignore", "val": 0.2})
    training, validation, changed = held_out(case, config)
    known = class_indices(training[0].segmentation(), spec_of(), changed.loss) != IGNORE
    assert validation == []
    assert np.flatnonzero(known.any(axis=(0, 1))).tolist() == [10]
    assert known[:, :, 10].all()


def test_slices_of_a_case_that_is_painted_along_two_axes_validate() -> None:
    """The planes that a slice of the other axis crosses were taken for painted ones, and their rest for background."""
    block = np.zeros((24, 24, 24), np.uint8)
    block[3:21, 5:20, 5:20] = 1
    labels = np.zeros_like(block)
    axial = list(range(4, 20, 2))
    labels[axial], labels[:, :, 12] = block[axial], block[:, :, 12]
    case = case_of(Segmentation(labels, Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))))
    config = configured(TrainConfig, None, {"unlabelled_slices": "ignore", "val": 0.2})
    training, validation, changed = held_out(case, config)
    trained, validated = (
        class_indices(cases[0].segmentation(), spec_of(), changed.loss) for cases in (training, validation)
    )
    (hidden,) = np.flatnonzero((validated != IGNORE).any(axis=(1, 2)))
    assert hidden in axial
    np.testing.assert_array_equal(validated[hidden], block[hidden])
    known = np.zeros(labels.shape, dtype=bool)
    known[axial], known[:, :, 12] = True, True
    known[hidden] = False
    np.testing.assert_array_equal(trained != IGNORE, known)
    np.testing.assert_array_equal(trained[known], block[known])
    labels[axial[1::2]] = 0
    labels[:, :, 12] = block[:, :, 12]
    few = case_of(Segmentation(labels, Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0))))
    assert held_out(few, config) == ([few], [], config), "too few slices to hide any: nothing is changed"


@pytest.mark.parametrize("spacing", [(4.0, 1.0, 1.0), (5.0, 2.0, 3.0), (6.0, 1.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("paint", [5, 6, 7])
def test_a_painted_slice_is_there_at_any_spacing(paint: int, spacing: tuple[float, float, float]) -> None:
    """Slices are 2 mm apart: every second one, or more, is between the centres of coarser voxels."""
    spec, loss = replace(spec_of(), spacing_zyx_mm=spacing), LossConfig(unlabelled_slices="ignore")
    work = prepare(case_of(painted([paint])), spec, loss, np.random.default_rng(0), None)
    found = result_of(finishing(work)).classes
    known = (found >= 0).all(axis=(1, 2))
    assert np.array_equal(known, (found >= 0).any(axis=(1, 2)))
    thick = 24 / len(found)
    places = np.flatnonzero(known) * thick + thick / 2
    assert len(places) >= 1
    assert np.abs(places - (2 * paint + 1)).max() <= thick / 2
    assert set(np.unique(found[known])) == set(np.unique(balls()[paint]))


def test_annotated_voxels_are_shown_on_a_coarser_grid() -> None:
    classes = np.full((1, 2, 9), IGNORE, np.int16)
    classes[0, 0, [0, 5, 8]] = [1, 2, 0]
    classes[0, 1, 6] = 1
    # The centres of the three coarser voxels are at 1, 4 and 7; of 6 and 8, which are as near, the first is taken.
    assert classes[places_on((1, 2, 3), classes)].tolist() == [[[1, 2, 0], [IGNORE, IGNORE, 1]]]
    assert classes[places_on((1, 1, 3), classes)].tolist() == [[[1, 2, 1]]]
    assert classes[places_on((1, 2, 9), classes)].tolist() == classes.tolist()
    full = np.arange(9, dtype=np.int16).reshape(1, 1, 9)
    assert full[places_on((1, 1, 3), full)].tolist() == [[[1, 4, 7]]]
    assert full[places_on((1, 1, 18), full)][0, 0].tolist() == np.arange(9).repeat(2).tolist()


def test_few_slices_all_train() -> None:
    case, config = case_of(painted([5, 7])), configured(TrainConfig, None, {"val": 0.5})
    assert held_out(case, config) == ([case], [], config)


def test_strokes_and_boxes_leave_the_rest_unknown() -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[1:4, 2:7, 2:7], labels[0, 0, :] = 1, 3
    segmentation = Segmentation(labels, Grid.from_spacing(labels.shape, (1.0, 1.0, 1.0)), {1: "a", 3: "other"})
    made = []
    for knobs in ({"weak": "scribbles", "background_label": 3}, {"weak": "boxes", "ignore_label": 9}):
        config = configured(TrainConfig, None, knobs)
        (case,), changed = in_part([case_of(segmentation)], config)
        made.append(np.asarray(case.segmentation().data))
        assert changed.loss.ignore_label == knobs.get("ignore_label", MAX_LABEL)
    strokes, boxes = made
    assert (strokes == np.where(labels == 1, 1, np.where(labels == 3, 0, MAX_LABEL))).all()
    assert boxes[4, 4, 4] == 0
    assert boxes[2, 4, 4] == 1
    assert boxes[1, 2, 2] == 9
    assert (boxes[labels == 0] == 0).all()


@pytest.mark.parametrize("ids", [[0], [0, 0, 0, 0, 0, 4], [0, 1, 2, 9], [0, 0, 5, 70_000, 9], [*range(60)]])
def test_each_part_has_a_box_and_a_core_in_its_middle(ids: list[int]) -> None:
    labels = np.random.default_rng(0).choice(np.array(ids), (6, 5, 4)).repeat(3, 0).repeat(4, 1)
    labels = labels.repeat(3, 2).astype(np.int32)
    boxes, cores = np.zeros_like(labels), np.zeros_like(labels)
    for label in np.setdiff1d(labels, [0, 9]):
        for place in ndimage.find_objects(ndimage.label(labels == label, np.ones((3, 3, 3)))[0]):
            boxes[place] = 9
            sides = [np.linspace(-1, 1, side.stop - side.start + 2)[1:-1] for side in place]
            cores[place][sum(o**2 for o in np.meshgrid(*sides, indexing="ij")) <= 0.36] = label
    expected = np.where(labels == 9, 9, np.where(cores > 0, cores, boxes))
    segmentation = Segmentation(labels, Grid.from_spacing((18, 20, 12), (1.0, 1.0, 1.0)))
    (weak,), _ = in_part([case_of(segmentation)], configured(TrainConfig, None, {"weak": "boxes", "ignore_label": 9}))
    np.testing.assert_array_equal(np.asarray(weak.segmentation().data), expected)


def test_what_is_ignored_is_no_box_and_stays_ignored() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[0] = labels[4, 4, 4] = 9
    case = as_cases([(volume(), Segmentation(labels, Grid.from_spacing(labels.shape, (1, 1, 1))))])
    (weak,), _ = in_part(case, configured(TrainConfig, None, {"weak": "boxes", "ignore_label": 9}))
    made = np.asarray(weak.segmentation().data)
    assert (made[labels == 9] == 9).all()
    assert made[4, 4, 3] == 1
    assert (made[1] == 0).all()


def test_an_ignored_label_may_have_a_name_in_a_single_case() -> None:
    labels = np.ones((12, 8, 8), np.uint8)
    labels[:, 0] = 9
    named = Segmentation(labels, Grid.from_spacing(labels.shape, (1, 1, 1)), {1: "liver", 9: "unknown"})
    (case,) = as_cases([(volume(), named)])
    (training,), (validation,), _ = held_out(case, configured(TrainConfig, None, {"ignore_label": 9}))
    assert set(np.unique(np.asarray(training.segmentation().data))) == {1, 9}
    assert set(np.unique(np.asarray(validation.segmentation().data))) == {1, 9}


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"background_label": 3}, "needs weak=scribbles"),
        ({"class_weights": (1.0,)}, "go together"),
        ({"loss": "weighted_ce"}, "go together"),
        ({"loss": "weighted_ce", "class_weights": (0.0,)}, "positive number"),
    ],
)
def test_what_does_not_go_together_is_refused(knobs: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LossConfig(**knobs)


def test_painted_slices_train_at_once_and_what_lies_between_is_found(tmp_path: Path) -> None:
    labels = np.asarray(segmentation().data)
    events = list(
        iter_train(
            [(volume(), painted([5, 7]))],
            out=tmp_path / "m.safetensors",
            epochs=120,
            unlabelled_slices="ignore",
            learning_rate=5e-3,
            **QUICK,
        )
    )
    kinds = [type(event) for event in events if not isinstance(event, Started | Finished)]
    assert Validated not in kinds
    steps = [event for event in events if isinstance(event, TrainProgress)]
    assert set(steps[0].losses) == {"loss", "guesses"}
    assert steps[-1].loss == pytest.approx(sum(steps[-1].losses.values()))
    found = np.asarray(segment(volume(seed=7), load_model(tmp_path / "m.safetensors")).data)
    for label in (1, 2):
        a, b = found[6] == label, labels[6] == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.8
    assert (found[[1, 10, 11]] > 0).mean() < 0.1


@pytest.mark.parametrize("weak", ["scribbles", "boxes"])
def test_weak_labels_train(weak: str, tmp_path: Path) -> None:
    labels = balls().copy()
    if weak == "scribbles":
        labels = np.zeros_like(labels)
        labels[6, 5, 6:11], labels[6, 14, 6:11] = 1, 2
        labels[[0, 2, 10, 11]] = labels[:, [0, 10, 19]] = labels[:, :, [0, 1, 14, 15]] = 3
    else:
        for label, y in ((1, 5), (2, 14)):
            labels[5:8, y - 3 : y + 4, 5:12] = label
    strokes: dict[str, Any] = {"background_label": 3} if weak == "scribbles" else {}
    events = list(
        iter_train(
            [(volume(), Segmentation(labels, volume().grid))],
            out=tmp_path / "m.safetensors",
            epochs=120,
            weak=weak,
            learning_rate=5e-3,
            **strokes,
            **QUICK,
        )
    )
    model = events[-1].result  # type: ignore[attr-defined]
    assert set(model.spec.labels) == {1, 2}
    found = np.asarray(segment(volume(seed=7), model).data)
    given = np.isin(labels, (1, 2))
    assert dice(found > 0) > dice(given), "nothing was learned beyond what was drawn"
    assert dice(found > 0) > 3 * dice(np.ones_like(given)), "of what was not drawn, most is not background"


def dice(foreground: npt.NDArray[np.bool_]) -> float:
    """With the balls."""
    truth = balls() > 0
    return float(2 * (foreground & truth).sum() / (foreground.sum() + truth.sum()))


@pytest.mark.parametrize(
    ("empty", "own"), [(0, {"unlabelled_slices": "ignore"}), (9, {"ignore_label": 9}), (0, {"weak": "scribbles"})]
)
def test_a_case_that_nobody_annotated_validates_nothing(empty: int, own: dict[str, Any], tmp_path: Path) -> None:
    """Where none of its voxels counts, every label would have a Dice of 1."""
    nothing = Segmentation(np.full_like(balls(), empty), volume().grid)
    cases = [(replace(volume(), name="a"), painted([5, 7])), (volume(seed=1), nothing), (volume(seed=2), nothing)]
    options = {**QUICK, "epochs": 1, "val": 0.3, **own, "report": False}
    events = list(iter_train(cases, out=tmp_path / "m.safetensors", **options))
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told[:2] == [f"case {k}: nobody annotated a voxel of it: {does} nothing" for k, does in NOTHING]
    assert not any(isinstance(event, Validated) for event in events)
    assert dict(load_model(tmp_path / "m.safetensors").spec.training.validation) == {}
