"""Networks that were trained, not random ones: our labels are those of MONAI's own pipeline, list by list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from scipy import ndimage
from torch import nn

import zoo
from napari_medseg import read, segment
from napari_medseg.foreign import convert_model
from zoo import Table, step

pytestmark = [
    pytest.mark.filterwarnings("ignore::napari_medseg.errors.MedsegWarning"),
    pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning"),
]
_RAS = [["L", "R"], ["P", "A"], ["I", "S"]]
LISTS: Mapping[str, list[Table]] = {
    "oriented, spaced, normalised": [
        step("Orientationd", axcodes="RAS", labels=_RAS),
        step("Spacingd", pixdim=[1.1, 1.1, 1.4], mode="bilinear"),
        step("NormalizeIntensityd", nonzero=True, channel_wise=True),
    ],
    "percentiles, cropped, scaled": [
        step("Orientationd", axcodes="LPS", labels=_RAS),
        step("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min=0, b_max=1, clip=True),
        step("CropForegroundd", source_key="image", margin=4),
        step("Spacingd", pixdim=[1.2, 1.0, 1.0], mode="bilinear"),
        step("ScaleIntensityd", minv=-1.0, maxv=1.0),
    ],
    "scaled, then spaced and normalised": [
        step("ScaleIntensityd"),
        step("Orientationd", axcodes="RAS", labels=_RAS),
        step("Spacingd", pixdim=[1.0, 1.0, 1.0], mode="bilinear"),
        step("NormalizeIntensityd", subtrahend=0.3, divisor=0.2),
    ],
}
NETWORK: Table = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [8, 16, 32],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "instance",
}
START = [step("LoadImaged", reader="NibabelReader"), step("EnsureChannelFirstd")]
WINDOW = (32, 32, 32)
STEPS = 200
"""Of a training: the network then finds most of the hippocampus."""
SPACINGS = ((1.0, 1.0, 1.0), (1.0, 0.8, 1.3), (2.0, 1.0, 1.0), (0.9, 0.9, 1.8), (1.2, 1.5, 1.0))
TURNS = ("RAS", "LPS", "SAR", "IPR", "ALS")


def composed(steps: list[Table]) -> mt.Compose:
    """MONAI's transforms; of the labels, where there are some, the nearest."""
    made = []
    for listed in steps:
        arguments = {key: value for key, value in listed.items() if key != "_target_"}
        made.append(getattr(mt, listed["_target_"])(**arguments))
    return mt.Compose(made)


def with_labels(steps: list[Table]) -> list[Table]:
    """The steps, which bring labels to the grid of the image too."""
    spatial = {"LoadImaged", "EnsureChannelFirstd", "Orientationd", "CropForegroundd"}
    found = []
    for listed in steps:
        if listed["_target_"] == "Spacingd":
            listed = {**listed, "keys": ["image", "label"], "mode": ["bilinear", "nearest"]}
        elif listed["_target_"] in spatial:
            listed = {**listed, "keys": ["image", "label"]}
        found.append(listed)
    return found


def trained(steps: list[Table], cases: list[tuple[Path, Path]], seed: int) -> nn.Module:
    """A network that learned from crops of the cases, as MONAI prepares them."""
    prepare = composed(with_labels(steps))
    prepared = [prepare({"image": str(image), "label": str(label)}) for image, label in cases]
    pairs = [mt.SpatialPadd(["image", "label"], WINDOW)(pair) for pair in prepared]
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = zoo.source_network(zoo.Published(NETWORK, steps, ["background", "anterior", "posterior"]), small=False)
    descent = torch.optim.AdamW(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(descent, 6e-3, STEPS)
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    net.train()
    for _ in range(STEPS):
        batch = []
        for pair in draw.choice(len(pairs), 2):
            corner = [
                int(draw.integers(0, n - w + 1)) for n, w in zip(pairs[pair]["image"].shape[1:], WINDOW, strict=True)
            ]
            box = (slice(None), *(slice(c, c + w) for c, w in zip(corner, WINDOW, strict=True)))
            batch.append([pairs[pair][key].as_tensor()[box] for key in ("image", "label")])
        images, labels = (torch.stack(group) for group in zip(*batch, strict=True))
        descent.zero_grad()
        loss(net(images), labels).backward()
        descent.step()
        schedule.step()
    return net.eval()


def unequal(images: list[Path], folder: Path) -> list[Path]:
    """The images at several spacings, their axes in several orders and directions."""
    made = []
    for number, path in enumerate(images):
        image: Any = nib.load(path)
        old, new = np.array(image.header.get_zooms()[:3]), np.array(SPACINGS[number % len(SPACINGS)])
        values = ndimage.zoom(np.asarray(image.dataobj, np.float32), old / new, order=1, grid_mode=True, mode="nearest")
        spaced = nib.Nifti1Image(values, image.affine @ np.diag([*(new / old), 1]))
        wanted = nib.orientations.axcodes2ornt(TURNS[number // 2 % len(TURNS)])
        turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(spaced.affine), wanted)
        made.append(folder / path.name)
        spaced.as_reoriented(turn).to_filename(made[-1])
    return made


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def volume_of(path: Path, labels: Any = None) -> float:
    """What is labelled, in mm3. labels: on the grid of the file; by default those in it."""
    image: Any = nib.load(path)
    labels = image.dataobj if labels is None else labels
    return float(np.count_nonzero(labels) * np.prod(image.header.get_zooms()))


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
def test_trained_networks_label_as_in_monais_pipeline(
    name: str, medseg_data: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Ten images of unequal spacing and orientation, which the network has not seen."""
    folder = medseg_data / "hippocampus"
    images = sorted((folder / "images").glob("*.nii.gz"))
    steps = [*START, *LISTS[name]]
    net = trained(steps, [(path, folder / "labels" / path.name) for path in images[:16]], seed=0)
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": list(WINDOW), "overlap": 0.5, "mode": "gaussian"}
    bundle = zoo.Published(NETWORK, steps, ["background", "anterior", "posterior"], inferer=inferer, modality="MR")
    model = convert_model(zoo.write_bundle(tmp_path / "b", bundle, net, small=False), tmp_path / "m.safetensors")
    before, after = composed(steps), bundle.postprocessing
    scores, right = [], []
    for path in unequal(images[16:26], tmp_path):
        data = before({"image": str(path)})
        with torch.inference_mode():
            data["pred"] = SlidingWindowInferer(WINDOW, overlap=0.5, mode="gaussian")(data["image"][None], net)[0]
        back = [{**listed, "transform": before} if "transform" in listed else listed for listed in after]
        expected = composed(back)(data)["pred"][0].numpy().round().astype(int)
        found = np.asarray(segment(read(path), model, device="cpu").data[...]).transpose(2, 1, 0)
        scores += [dice(found == label, expected == label) for label in (1, 2)]
        right.append(volume_of(path, found) / volume_of(folder / "labels" / path.name))
    record_property("Dice", f"{np.mean(scores):.5f}, lowest {min(scores):.5f}; volume {np.mean(right):.2f} of the true")
    assert 0.5 < np.mean(right) < 2, "the network has learned something"
    assert np.mean(scores) >= 0.999
