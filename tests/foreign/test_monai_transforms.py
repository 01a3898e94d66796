"""Lists of MONAI's transforms: the values are those of MONAI, and what would change them in silence is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
from monai.data import MetaTensor

from napari_medseg.errors import MedsegError
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
    "a second merge": ([MERGED, {**MERGED, "keys": ["image"]}], "merged a second time"),
}


@pytest.mark.parametrize(("steps", "told"), REFUSED.values(), ids=REFUSED)
def test_what_would_change_values_is_refused(steps: list[Table], told: str) -> None:
    with pytest.raises(MedsegError, match=told):
        prepared(*steps)
