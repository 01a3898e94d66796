from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from balls import LABELS, SHAPE, balls, segmentation, volume
from napari_medseg import Grid, ModelSpec, Segmentation, Volume
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import GridMismatchError, InputError, NotSupportedError
from napari_medseg.geometry import AxisOrder
from napari_medseg.models.pipeline import Sliding
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import TrainingRecord
from napari_medseg.training.cases import as_cases
from napari_medseg.training.planning.doubts import label_doubts
from napari_medseg.training.planning.facts import facts_of, labels_of, require_same_channels
from napari_medseg.training.planning.fine_tuning import plan_from
from napari_medseg.training.planning.rules import patch_for, plan, pools_for
from napari_medseg.training.planning.topology import rounded

SQUARE = Grid.from_spacing((SHAPE[0], SHAPE[2], SHAPE[1]), (2.0, 1.0, 1.0))


def mirrored(pairs: list[tuple[Volume, Segmentation]]) -> tuple[int, ...]:
    """The axes along which patches are mirrored where no label is sided."""
    return planned(pairs, mirror="auto").recipe.mirror_axes


def planned(pairs: list[tuple[Volume, Segmentation]], device: str = "cpu", **knobs: object) -> ModelSpec:
    config = configured(TrainConfig, None, knobs)
    facts = [facts_of(c, config.loss, np.random.default_rng(0)) for c in as_cases(pairs)]
    return plan(facts, "unet3d", config, device)


def pair(spacing: tuple[float, float, float] = (2.0, 1.0, 1.0), offset: float = 0.0) -> tuple[Volume, Segmentation]:
    grid = Grid.from_spacing(SHAPE, spacing)
    data = np.asarray(volume().data, dtype=np.float32) + offset
    return Volume(data, grid), Segmentation(balls(), grid, LABELS)


@pytest.mark.parametrize(
    ("shape", "pools"),
    [((36, 50, 35), 3), ((128, 128, 128), 5), ((16, 512, 512), 2), ((1, 256, 256), 5), ((5, 5, 5), 1), ((1, 1, 1), 1)],
    ids=str,
)
def test_depth_follows_the_thinnest_axis(shape: tuple[int, int, int], pools: int) -> None:
    assert pools_for(shape) == pools


def test_the_patch_is_the_median_shape_where_it_fits() -> None:
    assert patch_for((36, 50, 37), (1, 1, 1), 3, 110_000) == (32, 48, 40)


@pytest.mark.parametrize(("size", "nearest"), [(1, 8), (8, 8), (12, 8), (13, 16), (20, 16), (21, 24)], ids=str)
def test_a_side_is_rounded_to_the_nearest_multiple_and_the_lower_of_two(size: int, nearest: int) -> None:
    assert rounded(size, 8) == nearest


def test_a_large_patch_is_cut_along_its_longest_side_in_mm() -> None:
    patch = patch_for((100, 300, 300), (3.0, 1.0, 1.0), 4, 110_000)
    assert np.prod(patch) <= 110_000
    assert all(n % 16 == 0 for n in patch)
    lengths = np.array(patch) * (3.0, 1.0, 1.0)
    assert lengths.max() / lengths.min() < 2


def test_a_single_slice_makes_a_2d_model() -> None:
    grid = Grid.from_spacing((1, 20, 16), (1.0, 1.0, 1.0))
    flat = Volume(np.asarray(volume().data)[:, 6:7], grid), Segmentation(balls()[6:7], grid, LABELS)
    spec = planned([flat])
    assert spec.mode == "2d"
    assert spec.arguments["spatial_dims"] == 2
    assert spec.patch_zyx == (1, 20, 16)


def test_spacing_is_the_median_and_orientation_the_most_frequent() -> None:
    turned = AxisOrder.between("SPL", "LSP")
    image, labels = pair((3.0, 1.5, 1.2))
    grid = image.grid.reordered(turned)
    other = Volume(turned.apply(np.asarray(image.data)), grid), Segmentation(turned.apply(balls()), grid, LABELS)
    spec = planned([pair((2.0, 1.0, 1.0)), pair((2.5, 1.1, 1.1)), other])
    assert spec.orientation == "SPL"
    assert spec.spacing_zyx_mm == pytest.approx((2.5, 1.1, 1.1))
    assert labels.grid.shape == SHAPE


def test_ct_is_clipped_to_its_labelled_voxels_and_mr_standardised_per_image() -> None:
    assert planned([pair()]).normalisation[0].kind == "zscore"
    image, labels = pair(offset=0.0)
    data = np.asarray(image.data).copy()
    data[0, 0, 0, 0] = -1000
    ct = planned([(Volume(data, image.grid), labels)])
    assert ct.channels[0].modality == "CT"
    inside = data[0][balls() > 0]
    rule = ct.normalisation[0]
    assert rule.kind == "clip_zscore"
    assert rule.low == pytest.approx(np.percentile(inside, 0.5), abs=1e-3)
    assert rule.mean == pytest.approx(inside.mean(), rel=1e-5)


@pytest.mark.parametrize("ct_first", [True, False])
def test_pet_beside_ct_is_not_clipped_as_ct(ct_first: bool) -> None:
    pet = np.asarray(volume().data, dtype=np.float32)
    ct = pet.copy()
    ct[0, 0, 0, 0] = -1000
    both = np.concatenate([ct, pet] if ct_first else [pet, ct])
    image, labels = pair()
    spec = planned([(Volume(both, image.grid, ("a", "b")), labels)])
    found = [(c.name, c.modality, n.kind) for c, n in zip(spec.channels, spec.normalisation, strict=True)]
    kinds = [("CT", "clip_zscore"), ("other", "zscore")]
    assert found == [(name, *kind) for name, kind in zip("ab", kinds if ct_first else kinds[::-1], strict=True)]


def test_labels_are_the_union_with_their_gaps() -> None:
    image, _ = pair()
    first = Segmentation(np.where(balls() == 1, 3, 0), image.grid, {3: "three"})
    second = Segmentation(np.where(balls() == 2, 900, 0), image.grid)
    spec = planned([(image, first), (image, second)])
    assert dict(spec.labels) == {3: "three", 900: "label 900"}
    assert spec.arguments["out_channels"] == 3


def test_an_ignored_label_is_no_class() -> None:
    assert dict(planned([pair()], ignore_label=2).labels) == {1: "left ball"}


def test_no_label_at_all_is_refused() -> None:
    image, _ = pair()
    with pytest.raises(InputError, match="no case holds a label above 0"):
        planned([(image, Segmentation(np.zeros(SHAPE, np.uint8), image.grid))])


def test_fine_tuning_keeps_the_models_preprocessing_and_takes_new_labels() -> None:
    first = planned([pair()])
    config = TrainConfig()
    known = [facts_of(as_cases([(volume(), segmentation())])[0], config.loss, np.random.default_rng(0))]
    assert dict(plan_from(first, known, config).labels) == LABELS
    image, _ = pair()
    new = Segmentation(np.where(balls() == 2, 9, 0), image.grid, {9: "nine"})
    spec = plan_from(first, [facts_of(as_cases([(image, new)])[0], config.loss, np.random.default_rng(0))], config)
    assert dict(spec.labels) == {9: "nine"}
    assert spec.arguments["out_channels"] == 2
    kept = ("network", "channels", "patch_zyx", "spacing_zyx_mm", "orientation", "normalisation")
    assert all(getattr(spec, k) == getattr(first, k) for k in kept)
    wide = replace(volume(channels=2), name="two")
    facts = [facts_of(as_cases([(wide, segmentation())])[0], config.loss, np.random.default_rng(0))]
    wider = plan_from(first, facts, config)
    assert wider.arguments["in_channels"] == 2
    assert [channel.name for channel in wider.channels] == ["channel 0", "channel 1"]
    assert wider.normalisation[0] == first.normalisation[0]
    stored = plan_from(replace(first, orientation="xyz", training=TrainingRecord()), known, config).training.seen
    assert stored is not None
    assert stored.spacing_zyx_mm[0] == known[0].grid.spacing[::-1]
    with pytest.raises(NotSupportedError, match="as another program does"):
        plan_from(replace(first, sliding=Sliding(padding="replicate")), known, config)


@pytest.mark.parametrize(
    ("knobs", "axes"),
    [
        ({"mirror": "auto"}, (0, 2)),  # each ball lies on one side of y
        ({"mirror": "auto", "mode": "2d"}, (2,)),
        ({"mirror": "auto", "mode": "2.5d"}, (2,)),
        ({"mirror": "all"}, (0, 1, 2)),
        ({}, ()),
        ({"augment": False}, ()),
    ],
    ids=str,
)
def test_patches_are_mirrored_where_no_label_is_sided(knobs: dict[str, Any], axes: tuple[int, ...]) -> None:
    assert planned([named("one", "other")] * 2, **knobs).recipe.mirror_axes == axes


def named(*names: str) -> tuple[Volume, Segmentation]:
    image, labels = pair()
    return image, replace(labels, labels=dict(enumerate(names, start=1)))


@pytest.mark.parametrize(
    ("name", "axes"),
    [("left kidney", (0,)), ("Kidney_R", (0,)), ("l", (0,)), ("lesion", (0, 2)), ("brightness", (0, 2))],
)
def test_a_name_may_say_that_a_label_is_sided(name: str, axes: tuple[int, ...]) -> None:
    """The last axis of the images goes from right to left."""
    assert mirrored([named("one", name)] * 2) == axes


def test_labels_that_share_no_image_may_be_the_sides_of_one_another() -> None:
    """Images of one knee each, left or right: each lies in the middle of its own."""
    image, labels = named("one", "other")
    middle = np.roll((np.asarray(labels.data) == 1).astype(np.uint8), 5, axis=1)
    lefts, rights = (replace(labels, data=middle * np.uint8(label)) for label in (1, 2))
    assert mirrored([(image, lefts)] * 3) == (0, 1, 2)
    assert mirrored([(image, lefts), (image, rights)]) == ()
    nothing = replace(labels, data=np.zeros_like(middle))
    assert mirrored([(image, lefts), (image, lefts), (image, nothing)]) == (0, 1, 2)
    assert mirrored([(image, lefts), (image, nothing)]) == ()  # one case may be cut around the label


def test_every_voxel_counts_where_a_label_is_sided() -> None:
    """Two nerves of two voxels beside a brain of very many, which lies on both sides."""
    shape = (30, 40, 40)
    grid = Grid.from_spacing(shape, (1.0, 1.0, 1.0))
    data = np.ones(shape, np.uint8)
    data[14:16, 20, 3], data[14:16, 20, 36] = 2, 3
    data[15, 19] = 0  # of an odd rest, the middle counts half
    image = Volume(np.zeros((1, *shape), np.float32), grid)
    (case,) = as_cases([(image, Segmentation(data, grid, {1: "brain", 2: "nerve", 3: "other nerve"}))])
    facts = facts_of(case, TrainConfig().loss, np.random.default_rng(0))
    assert {label: facts.halves[label] for label in (2, 3)} == {2: (0.5, 0.0, 1.0), 3: (0.5, 0.0, 0.0)}
    assert facts.halves[1] == pytest.approx([(data[:15] == 1).sum() / (data == 1).sum(), 0.5, 0.5], abs=1e-3)
    assert mirrored([(image, case.segmentation())] * 2) == (0,)


def test_a_label_is_sided_by_where_it_lies_in_the_patient() -> None:
    """The ball on the left of one image is on the left of another one, which is stored the other way round."""
    volume, segmentation = pair()
    left = Segmentation((np.asarray(segmentation.data) == 1).transpose(0, 2, 1).astype(np.uint8), SQUARE, {1: "one"})
    image = Volume(np.asarray(volume.data).transpose(0, 1, 3, 2), SQUARE)
    order = AxisOrder.between("SPL", "SPR")
    turned = SQUARE.reordered(order)
    other = Volume(order.apply(image.data), turned), Segmentation(order.apply(left.data), turned, {1: "one"})  # type: ignore[arg-type]
    assert mirrored([(image, left), other]) == (0, 1)
    stored = replace(other[0], grid=SQUARE), replace(other[1], grid=SQUARE)
    assert mirrored([(image, left), stored]) == (0, 1, 2)  # one on the left, one on the right


def test_fine_tuning_mirrors_as_the_model_did_where_the_new_labels_allow_it() -> None:
    first, (case,) = planned([pair()]), as_cases([named("one", "other")])
    facts = [facts_of(case, TrainConfig().loss, np.random.default_rng(0))] * 2
    makers = replace(first, recipe=Recipe(mirror_axes=(0, 1, 2), mirrored=True, resampling="nnunet"))
    auto = configured(TrainConfig, None, {"mirror": "auto"})
    assert plan_from(makers, facts, auto).recipe == replace(makers.recipe, mirror_axes=(0, 2))
    assert plan_from(makers, facts, TrainConfig()).recipe == Recipe(resampling="nnunet")
    for before, axes in (((), (0, 2)), ((2,), (2,)), ((1,), ())):
        model = replace(first, recipe=Recipe(mirror_axes=before))
        assert plan_from(model, facts, auto).recipe.mirror_axes == axes


def test_a_model_of_slices_keeps_its_mode_and_its_slices() -> None:
    first = planned([pair()], mode="2.5d", slices=5)
    facts = [facts_of(as_cases([pair()])[0], TrainConfig().loss, np.random.default_rng(0))]
    assert plan_from(first, facts, configured(TrainConfig, None, {"patch_zyx": (16, 8, 8)})).patch_zyx == (5, 8, 8)
    assert plan_from(first, facts, TrainConfig(mode="2.5d")).patch_zyx == first.patch_zyx
    with pytest.raises(InputError, match=r"mode 3d does not go with the model to start from, which is of mode 2.5d"):
        plan_from(first, facts, TrainConfig(mode="3d"))


def test_labels_on_another_grid_are_refused() -> None:
    other = Segmentation(balls(), Grid.from_spacing(SHAPE, (2.0, 1.0, 1.1)), LABELS)
    with pytest.raises(
        GridMismatchError, match="the image of 'case 0' and the labels of 'case 0' must lie on the same"
    ):
        planned([(volume(), other)])


def test_another_number_of_channels_is_refused() -> None:
    config = TrainConfig()
    cases = as_cases([pair(), (replace(volume(channels=2), name="wide"), segmentation())])
    facts = [facts_of(c, config.loss, np.random.default_rng(0)) for c in cases]
    with pytest.raises(InputError, match="case wide has 2 channels, case case 0 has 1"):
        require_same_channels(facts)


def test_labels_of_a_model_that_no_case_holds_are_told() -> None:
    facts = [facts_of(as_cases([pair()])[0], TrainConfig().loss, np.random.default_rng(0))]
    (told,) = label_doubts(facts, [], {**LABELS, 7: "spleen"})
    assert told == "no case holds 7 (spleen): what cases show of them is learned as background"
    assert label_doubts(facts, [], LABELS) == []


def test_labels_whose_names_mean_the_same_stay_apart_and_are_told() -> None:
    names = {1: "Left-Ball", 2: "left_ball"}
    case = (volume(), replace(segmentation(), labels=names))
    facts = [facts_of(as_cases([case])[0], TrainConfig().loss, np.random.default_rng(0))]
    assert labels_of(facts) == names
    (told,) = label_doubts(facts, [], names)
    assert told.startswith("labels 1 (Left-Ball), 2 (left_ball) have names that mean the same: they are learned as 2 ")


def test_labels_that_no_case_validates_are_told() -> None:
    first = (replace(pair()[0], name="b"), Segmentation((balls() == 1).astype(np.uint8), volume().grid))
    facts = [facts_of(c, TrainConfig().loss, np.random.default_rng(0)) for c in as_cases([pair(), first])]
    assert label_doubts(facts, facts, LABELS) == []
    (told,) = label_doubts(facts[:1], facts[1:], LABELS)
    assert told.startswith("no case that validates holds 2 (right ball): each counts 1 for it unless it is found there")


def test_ids_below_0_are_refused() -> None:
    image, labels = pair()
    below = replace(labels, data=np.where(balls() == 2, -1, balls()).astype(np.int8))
    with pytest.raises(InputError, match="label ids are whole numbers from 0; got -1: give what is not"):
        planned([(image, below)])
