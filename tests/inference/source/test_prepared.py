"""The steps of a model give MONAI's own images, and what goes back lies where MONAI's Invertd puts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

import zoo
from napari_medseg import read, segment
from napari_medseg.config import SegmentConfig
from napari_medseg.foreign import convert_model
from napari_medseg.foreign.monai.transforms import preprocessing_of
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.source.prepared import preparing, taken
from napari_medseg.models.file import Model
from napari_medseg.models.pipeline import Step
from zoo import invert, step

pytestmark = [
    pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning"),
    pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning"),
]
START = [step("LoadImaged", reader="NibabelReader"), step("EnsureChannelFirstd")]
LISTS: dict[str, list[dict[str, Any]]] = {
    "spacing, range, normalised": [
        step("Orientationd", axcodes="RAS", labels=[["L", "R"], ["P", "A"], ["I", "S"]]),
        step("Spacingd", pixdim=[1.2, 1.4, 1.6], mode="bilinear"),
        step("ScaleIntensityRanged", a_min=0, a_max=400, b_min=-1, b_max=1, clip=True),
        step("NormalizeIntensityd", nonzero=True, channel_wise=True),
    ],
    "percentiles, crop, spacing": [
        step("Orientationd", axcodes="LPS", labels=[["L", "R"], ["P", "A"], ["I", "S"]]),
        step("ThresholdIntensityd", threshold=60, above=True, cval=0),
        step("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min=0, b_max=1, clip=True),
        step("CropForegroundd", source_key="image", margin=5),
        step("Spacingd", pixdim=[1.0, -1, 2.1], mode="bilinear"),
        step("ScaleIntensityd", minv=-1.0, maxv=1.0),
    ],
    "as stored, spacing, crop": [
        step("NormalizeIntensityd", subtrahend=90, divisor=40),
        step("Spacingd", pixdim=[1.3, 1.3, 1.3], mode="bilinear"),
        step("CropForegroundd", source_key="image", margin=6),
        step("ScaleIntensityd"),
    ],
    "area": [
        step("Resized", spatial_size=[12, 20, 9], mode="area"),
        step("ScaleIntensityd", factor=0.5, minv=None, maxv=None),
    ],
}
AFFINE = np.array([[0, 0, 1.7, 5], [-0.9, 0, 0, 3], [0, 1.1, 0, -8], [0, 0, 0, 1]], float)
"""Stored as (A, S, R), flipped, with three spacings."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (21, 17, 14)), indexing="ij")
    values = 300 * np.exp(-3 * (z**2 + y**2 + (x - 0.2) ** 2)) + draw.normal(0, 5, z.shape)
    values[:4] = values[:, :2] = 0
    nib.Nifti1Image(values.astype(np.float32), AFFINE).to_filename(tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def compose(steps: list[dict[str, Any]], **changed: Any) -> mt.Compose:
    made = []
    for listed in steps:
        arguments = {k: v for k, v in listed.items() if k != "_target_"}
        made.append(
            getattr(mt, listed["_target_"])(**{**arguments, **{k: v for k, v in changed.items() if k in arguments}})
        )
    return mt.Compose(made)


def model_of(steps: list[dict[str, Any]], tmp_path: Path, post: list[dict[str, Any]] | None = None) -> Model:
    """A bundle with a network that answers with the image itself, and its negative."""
    bundle = zoo.Published(
        {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            "channels": [2, 4],
            "strides": [2],
        },
        steps,
        ["background", "bright"],
        postprocessing=post or zoo.SOFTMAX,
        inferer={"_target_": "SlidingWindowInferer", "roi_size": [8, 12, 8], "overlap": 0.5},
    )
    folder = zoo.write_bundle(tmp_path / "b", bundle, zoo.source_network(bundle, small=False), small=False)
    return convert_model(folder, tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", LISTS)
def test_the_prepared_image_is_monais(name: str, image: Path, tmp_path: Path) -> None:
    steps = [*START, *LISTS[name]]
    expected = compose(steps)({"image": str(image)})["image"].numpy()
    volume, spec = read(image), model_of(steps, tmp_path).spec
    plan = resolve(ImageFacts.of(volume), spec, SegmentConfig(), machine_for("cpu"))
    events = preparing(volume, plan)
    while True:
        try:
            next(events)
        except StopIteration as done:
            found = done.value.values
            break
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("post", ["probabilities", "labels"])
def test_the_labels_lie_where_monai_puts_them(name: str, post: str, image: Path, tmp_path: Path) -> None:
    steps = [*START, *LISTS[name]]
    after = zoo.SOFTMAX if post == "probabilities" else [*zoo.SOFTMAX[:1], zoo.SOFTMAX[2], invert(nearest_interp=True)]
    model = model_of(steps, tmp_path, after)
    net = Bright()
    before = compose(steps)
    data = before({"image": str(image)})
    with torch.inference_mode():
        data["pred"] = SlidingWindowInferer([8, 12, 8], overlap=0.5)(data["image"][None], net)[0]
    assert isinstance(data["pred"], MetaTensor)
    expected = compose(after, transform=before)(data)["pred"][0].numpy().round()
    found = labels_of(image, model, net)
    assert expected.any()
    both = 2 * (found * expected).sum() / (found.sum() + expected.sum())
    assert both > 0.998


class Bright(nn.Module):
    """Logits of what is brighter than the mean of its window's middle range."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([-4 * (x - 0.4), 4 * (x - 0.4)], 1)


def labels_of(image: Path, model: Model, net: nn.Module) -> Any:
    """Our labels of an image, in the order of its file, with a network in place of the model's."""
    from napari_medseg.inference import engine
    from napari_medseg.inference.predictor import Predictor

    predictor = Predictor.of(net, model.spec, torch.device("cpu"), "fp32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "load_predictor", lambda *_: predictor)
        labels = segment(read(image), model, device="cpu")
    return np.asarray(labels.data).transpose(2, 1, 0)


def test_steps_by_hand() -> None:
    x = np.array([0, 2, 4, 10], np.float32).reshape(1, 1, 1, 4)
    two = np.concatenate([x, x * 2])

    def after(step: Step, values: Any = x) -> list[float]:
        return list(taken(values, step).ravel())

    assert after(Step(kind="affine", factor=2.0, offset=1.0)) == [1, 5, 9, 21]
    assert after(Step(kind="affine", factor=1.0, offset=1.0, over="nonzero")) == [0, 3, 5, 11]
    assert after(Step(kind="clip", low=1, high=5)) == [1, 2, 4, 5]
    assert after(Step(kind="minmax", to_low=-1, to_high=1)) == pytest.approx([-1, -0.6, -0.2, 1])
    assert after(Step(kind="threshold", low=3, fill=-1)) == [-1, -1, 4, 10]
    assert after(Step(kind="minmax", to_low=0, to_high=1, together=True), two)[3] == pytest.approx(0.5)
    assert after(Step(kind="minmax", to_low=0, to_high=1, channel=1), two)[:4] == [0, 2, 4, 10]
    normalised = np.array(after(Step(kind="zscore", over="nonzero")))
    assert normalised[0] == 0
    assert normalised[1:].mean() == pytest.approx(0, abs=1e-6)
    assert normalised[1:].std() == pytest.approx(1, abs=1e-6)


def test_neutral_transforms_and_labels_are_left_out() -> None:
    listed = [*START, step("Spacingd", "label", pixdim=[1, 1, 1]), step("EnsureTyped", device="$torch.device('cuda')")]
    assert preprocessing_of(Path("b"), listed).steps == ()
