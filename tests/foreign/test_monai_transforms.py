"""Lists of MONAI's transforms: the values are those of MONAI, and what would change them in silence is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
from monai.data import MetaTensor

from napari_medseg.errors import MedsegError
from napari_medseg.foreign.monai.outputs import sliding_of
from napari_medseg.foreign.monai.transforms import Preprocessing, preprocessing_of
from napari_medseg.inference.source.prepared import taken
from zoo import Table, step

BOTH = ["ct", "pet"]
MERGED: Table = {"_target_": "ConcatItemsd", "keys": BOTH, "name": "image"}


def prepared(*steps: Table) -> Preprocessing:
    return preprocessing_of(Path("b"), list(steps))


def scans() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {"ct": draw.normal(0, 300, (1, 5, 6, 7)), "pet": draw.gamma(1, 4, (1, 5, 6, 7)).round()}


IMAGES: dict[str, list[Table]] = {
    "each its own range": [
        step("ScaleIntensityRanged", "ct", a_min=-100, a_max=250, b_min=0, b_max=1, clip=True),
        step("ScaleIntensityRanged", "pet", a_min=0, a_max=15, b_min=0, b_max=1, clip=True),
    ],
    "the second normalised": [step("NormalizeIntensityd", "pet", nonzero=True)],
    "both normalised": [step("NormalizeIntensityd", BOTH)],
    "both scaled, in another order": [step("ScaleIntensityd", BOTH[::-1])],
    "percentiles of each": [step("ScaleIntensityRangePercentilesd", BOTH, lower=1, upper=95, b_min=0, b_max=1)],
    "shifted": [step("NormalizeIntensityd", "pet", subtrahend=[3], divisor=[2], channel_wise=True)],
    "half a range": [step("ScaleIntensityd", "ct", minv=None, maxv=3.0)],
    "a threshold": [step("ThresholdIntensityd", "ct", threshold=10, cval=10)],
}


@pytest.mark.parametrize("steps", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("after", [[], [step("NormalizeIntensityd")]], ids=["merged", "then normalised together"])
def test_several_images_are_prepared_as_in_monai(steps: list[Table], after: list[Table]) -> None:
    listed = [*steps, MERGED, *after]
    data: Any = {key: MetaTensor(values.astype(np.float32)) for key, values in scans().items()}
    for one in listed:
        data = getattr(mt, one["_target_"])(**{k: v for k, v in one.items() if k != "_target_"})(data)
    values = np.concatenate(list(scans().values())).astype(np.float32)
    found = prepared(*listed)
    for one_step in found.steps:
        values = taken(values, one_step)
    np.testing.assert_allclose(values, data["image"].numpy(), rtol=1e-4, atol=1e-5)
    assert found.merged == ("ct", "pet")
    assert found.notes == ("the images ct, pet are the channels, in that order; they must lie on one grid",)


def test_a_value_for_each_key_is_that_of_the_image() -> None:
    label_first = step("Spacingd", ["label", "image"], pixdim=[1, 1, 2], mode=["nearest", "bilinear"])
    assert prepared(step("ScaleIntensityd"), label_first).spacing_mm == (1, 1, 2)


def test_the_image_is_the_key_of_that_name() -> None:
    both = step("Spacingd", ["seg", "image"], pixdim=[1, 1, 2], mode=["nearest", "bilinear"])
    assert prepared(both, step("ScaleIntensityd", "image")).keys == ("image",)


def test_what_is_about_labels_alone_is_left_out() -> None:
    assert prepared(step("AsDiscreted", "label", to_onehot="@nowhere"), step("ScaleIntensityd")).keys == ("image",)


REFUSED: dict[str, tuple[list[Table], str]] = {
    "another key": (
        [step("ScaleIntensityd"), step("ScaleIntensityd", "dose")],
        "of ScaleIntensityd cannot be taken: its keys are 'dose', and those of the images 'image'",
    ),
    "an image after the merge": (
        [MERGED, step("ScaleIntensityd", "ct")],
        "its keys are 'ct', and those of the images 'image'",
    ),
    "one image resampled": (
        [step("Spacingd", "ct", pixdim=[1, 1, 1]), MERGED],
        "of Spacingd cannot be taken: its keys are 'ct', and those of the images 'ct, pet'",
    ),
    "a mode for each": (
        [step("Spacingd", BOTH, pixdim=[1, 1, 1], mode=["bilinear", "nearest"]), MERGED],
        "of Spacingd cannot be taken: mode must be the same for all images",
    ),
    "a crop around one image": (
        [step("CropForegroundd", BOTH, source_key="ct"), MERGED],
        "of CropForegroundd cannot be taken: source_key must be the image, here 'ct, pet'; got 'ct'",
    ),
    "a crop around the label": (
        [step("CropForegroundd", ["image", "label"], source_key="label")],
        "source_key must be the image, here 'image'; got 'label'",
    ),
    "a margin for each axis": (
        [step("CropForegroundd", source_key="image", margin=[4, 0, 2])],
        r"margin must be the same along all axes; got '\[4, 0, 2\]'",
    ),
    "a margin of other values": (
        [step("CropForegroundd", source_key="image", margin=4, mode="edge")],
        "a margin beyond the image holds 0; got the mode 'edge'",
    ),
    "a second merge": ([MERGED, {**MERGED, "keys": ["image"]}], "merged a second time"),
}

OTHERS: list[Table] = [
    step("Orientationd", axcodes="RAS", as_closest_canonical=True),
    step("Orientationd", axcodes="RAS", labels=[["R", "L"], ["A", "P"], ["I", "S"]]),
    step("Spacingd", pixdim=[1, 1, 1], scale_extent=True),
    step("Spacingd", pixdim=[1, 1, 1], max_pixdim=[1.5, 1.5, 1.5]),
    step("Spacingd", pixdim=[1, 1, 1], min_pixdim=[0.8, 0.8, 0.8]),
    step("Spacingd", pixdim=[1, 1, 1], diagonal=True),
    step("Spacingd", pixdim=[1, 1, 1], padding_mode="zeros"),
    step("Spacingd", pixdim=[1, 1, 1], recompute_affine=True),
    step("Resized", spatial_size=[8, 8, 8], align_corners=True),
    step("Resized", spatial_size=[8, 8, 8], anti_aliasing=True),
    step("Resized", spatial_size=[8, 8, 8], size_mode="longest"),
    step("CropForegroundd", source_key="image", k_divisible=16),
    step("CropForegroundd", source_key="image", channel_indices=[0]),
    step("CropForegroundd", source_key="image", constant_values=3),
    step("NormalizeIntensityd", new="x"),
    {**MERGED, "dim": 1},
]


@pytest.mark.parametrize("listed", OTHERS, ids=lambda listed: f"{listed['_target_']} {list(listed)[-1]}")
def test_an_argument_that_is_not_known_is_refused_by_its_name(listed: Table) -> None:
    told = f"b: the arguments of {listed['_target_']} cannot be taken: {list(listed)[-1]} .* changes what is not"
    with pytest.raises(MedsegError, match=told):
        prepared(listed)


def test_monais_defaults_are_taken_and_what_is_switched_off_is_not() -> None:
    plain = step("Spacingd", ["image", "label"], pixdim=[1, 1, 1], mode="bilinear")
    said = {
        **plain,
        "diagonal": False,
        "scale_extent": [False],
        "min_pixdim": None,
        "padding_mode": ["border", "zeros"],
    }
    said |= {"lazy": True, "max_pixdim": [None, None, None]}  # one alone resamples: lazy or not is the same
    off = step("ScaleIntensityd", _disabled_=True)
    assert prepared({**said, "align_corners": True, "_desc_": "to 1 mm"}, off) == prepared(plain)


@pytest.mark.parametrize("pixdim", [[1.0, 0.5], [0.7], [0.7, 0.8, 1.0]])
def test_spacings_that_are_left_out_are_the_last(pixdim: list[float]) -> None:
    expected = mt.Spacing(pixdim)(MetaTensor(np.zeros((1, 5, 6, 7)))).pixdim.tolist()
    assert prepared(step("Spacingd", pixdim=pixdim)).spacing_mm == pytest.approx(expected)


INFERERS: dict[str, Table] = {
    "sigma_scale": {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8], "mode": "gaussian", "sigma_scale": 0.5},
    "with_coord": {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 8], "with_coord": True},
}


@pytest.mark.parametrize("name", INFERERS)
def test_an_inferers_argument_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(MedsegError, match=f"of SlidingWindowInferer cannot be taken: {name} '.*' changes what is not"):
        sliding_of(Path("b"), INFERERS[name])
    sliding_of(Path("b"), {**INFERERS[name], "mode": "constant", "with_coord": False})


@pytest.mark.parametrize(("steps", "told"), REFUSED.values(), ids=REFUSED)
def test_what_would_change_values_is_refused(steps: list[Table], told: str) -> None:
    with pytest.raises(MedsegError, match=told):
        prepared(*steps)
