"""Maps of a small network that has learned a marked region: they lie on it, and change with the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv3d

import marked
import napari_medseg as ms
from known_refiners import segmenter, spec_of, write_brighter
from napari_medseg.architectures.blocks.base import crop, pad_to_multiple, resize
from napari_medseg.config import ExplainConfig
from napari_medseg.errors import InputError, MedsegError, NotSupportedError, UnknownNameError
from napari_medseg.events import Filled, Finished, Notice, Progress, Started
from napari_medseg.explanation.attribution import Question, grad_cam, gradient, guided, integrated
from napari_medseg.explanation.check import Check
from napari_medseg.explanation.methods import METHODS
from napari_medseg.explanation.randomised import NETWORKS
from napari_medseg.explanation.shares import Shares
from napari_medseg.explanation.shown import limits_of
from napari_medseg.explanation.targets import Target, label_of
from napari_medseg.explanation.views import fitted
from napari_medseg.geometry import AS_IT_IS, AxisMap
from napari_medseg.inference.windows import BoxWindows, WindowGrid, Windows
from napari_medseg.models.file import Channel, ModelSpec, Normalisation, write_model
from napari_medseg.models.several import Member, ModelSet
from napari_medseg.registry import network
from orientations import stored_otherwise


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ms.Model:
    return marked.trained(tmp_path_factory.mktemp("models"), "attention_unet")


@pytest.fixture(scope="module")
def volume() -> ms.Volume:
    return marked.phantom()[0]


def values(heat: ms.Volume) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(heat.data[0])


@pytest.mark.parametrize("method", [m for m, about in METHODS.items() if about.takes == "image" and m != "shape"])
def test_a_map_lies_on_the_region_and_changes_with_the_weights(model: ms.Model, method: str) -> None:
    volume, _, region = marked.phantom()
    heat = ms.explain(volume, model, label="ball", method=method, check=True, steps=8)
    assert heat.grid == volume.grid
    assert heat.data.dtype == np.float32
    assert (values(heat) < 0).any() == METHODS[method].signed
    assert marked.share_inside(values(heat), region) >= 3
    made = Check.of(heat)
    assert made is not None
    assert made.passed, made.sentence
    assert len(set(made.each)) == NETWORKS, "each network of random weights has another map"
    assert made.correlation == pytest.approx(np.abs(made.each).mean())
    low, high = limits_of(heat)
    assert high > 0
    assert low == (-high if METHODS[method].signed else 0)


def test_a_component_and_a_voxel_are_explained_alone(model: ms.Model, volume: ms.Volume) -> None:
    _, labels, region = marked.phantom()
    at = tuple(int(v) for v in np.argwhere(np.asarray(labels.data) == 1)[0])
    whole = values(ms.explain(volume, model, label=1, method="gradient", labels=labels, component=1))
    assert marked.share_inside(whole, region) >= 3
    by_voxel = values(ms.explain(volume, model, label=1, method="gradient", labels=labels, component=at))
    np.testing.assert_array_equal(by_voxel, whole)
    otherwise = stored_otherwise(labels)
    stored = values(ms.explain(volume, model, label=1, method="gradient", labels=otherwise, component=at))
    np.testing.assert_array_equal(stored, whole)
    alone = values(ms.explain(volume, model, label=1, method="gradient", voxel=at))
    assert set(np.flatnonzero(alone.any((1, 2)))) == {at[0]}  # the network sees one slice at a time
    with pytest.raises(InputError, match="to 1; got 2"):
        ms.explain(volume, model, labels=labels, component=2)
    with pytest.raises(InputError, match="is not at voxel"):
        ms.explain(volume, model, labels=labels, component=(0, 0, 0))


def test_components_are_those_of_the_label_where_the_model_numbers_objects(tmp_path: Path) -> None:
    data = np.zeros((4, 12, 16), np.float32)
    data[1:3, 1:8, 1:8], data[1:3, 9:11, 12:15] = 1, 1
    volume = ms.Volume(data[None], ms.Grid.from_spacing(data.shape, (1.0, 1.0, 1.0)), ("image",))
    depths = replace(segmenter(spec_of()), labels={1: "spot, depth 2 of 3"})
    heat = values(
        ms.explain(volume, write_brighter(tmp_path / "depths.safetensors", depths), method="gradient", component=2)
    )
    assert heat[:, 9:11, 12:15].max() == heat.max() > 0
    assert not heat[:, 1:6, 1:6].any()


def test_a_store_holds_what_memory_holds_and_events_say_so(model: ms.Model, volume: ms.Volume, tmp_path: Path) -> None:
    events = list(ms.iter_explain(volume, model, label="BALL", method="grad-cam", out=tmp_path / "heat.zarr"))
    assert isinstance(events[0], Started)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, progress[-1].total + 1))
    assert sum(e.box[0].stop - e.box[0].start for e in events if isinstance(e, Filled)) == volume.grid.shape[0]
    last = events[-1]
    assert isinstance(last, Finished)
    stored = ms.read(tmp_path / "heat.zarr")
    assert stored.provenance["method"] == "grad-cam"
    np.testing.assert_array_equal(values(stored), values(ms.explain(volume, model, label="1", method="grad-cam")))


def test_a_cancelled_run_ends_at_the_next_window(model: ms.Model, volume: ms.Volume, tmp_path: Path) -> None:
    events = ms.iter_explain(volume, model, method="grad-cam", out=tmp_path / "heat.zarr")
    assert isinstance(next(events), Started)
    assert isinstance(next(events), Progress)
    events.close()  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="not finished"):
        ms.read(tmp_path / "heat.zarr")


def test_voxels_that_are_no_numbers_leave_the_map_finite(model: ms.Model, volume: ms.Volume) -> None:
    data = np.array(volume.data)
    data[0, :, 3, 3] = np.nan
    heat = values(ms.explain(replace(volume, data=data), model, method="gradient"))
    assert np.isfinite(heat).all()
    assert heat.any()


def test_a_label_that_the_model_does_not_see_gives_an_empty_map_and_a_notice(
    model: ms.Model, volume: ms.Volume
) -> None:
    events = list(ms.iter_explain(volume, model, label="nothing", method="grad-cam", check=True))
    assert [e.message for e in events if isinstance(e, Notice)] == [
        "the map is empty: the model labels no voxel of this image as nothing"
    ]
    assert isinstance(events[-1], Finished)
    assert not values(events[-1].result).any()
    made = Check.of(events[-1].result)
    assert made is not None
    assert "nothing can be compared" in made.sentence


def test_of_a_set_the_model_that_gives_the_label_is_explained(model: ms.Model, volume: ms.Volume) -> None:
    models = ModelSet.of([Member(model, {3: 1}), Member(model, {1: 7})])
    heat = ms.explain(volume, models, label=7, method="grad-cam")
    np.testing.assert_array_equal(values(heat), values(ms.explain(volume, model, label=1, method="grad-cam")))
    averaged = ms.explain(volume, [model, model], label=1, method="gradient")
    np.testing.assert_allclose(
        values(averaged), values(ms.explain(volume, model, method="gradient")), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"label": "bal"}, UnknownNameError, "did you mean ball"),
        ({"label": 2}, UnknownNameError, "its labels are 1 ball, 3 nothing"),
        ({"method": "gradcam"}, UnknownNameError, "did you mean grad-cam"),
        ({"method": "shape"}, NotSupportedError, "attention_unet.safetensors: the network has no shape stream"),
        ({"method": "memory-read"}, NotSupportedError, "explains memory networks, and this is attention_unet"),
        ({"method": "cam", "voxel": (0, 0, 0)}, InputError, "cam shows the evidence for a label at every voxel"),
        ({"component": 1, "voxel": (0, 0, 0)}, InputError, "one of the two"),
        ({"voxel": (0, 99, 0)}, InputError, "0 to 15, 0 to 31, 0 to 31; got"),
        ({"voxel": (0.5, 1, 1)}, InputError, "three whole numbers"),
        ({"out": "heat.nii.gz"}, InputError, "end it in .zarr"),
        ({"steps": 0}, InputError, "steps"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    model: ms.Model, volume: ms.Volume, asked: dict[str, Any], kind: type[MedsegError], message: str
) -> None:
    with pytest.raises(kind, match=message) as refused:
        ms.explain(volume, model, **asked)
    assert "\n" not in str(refused.value)


def test_a_network_that_takes_marks_is_refused(tmp_path: Path, volume: ms.Volume) -> None:
    spec = network("mem3d")
    small: dict[str, Any] = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8, "aspp": False}
    arguments = spec.arguments(in_channels=1, out_channels=2, **small)
    described = ModelSpec(
        network="mem3d",
        arguments=arguments,
        channels=(Channel(name="image", modality="other"),),
        labels={1: "object"},
        patch_zyx=(1, 32, 32),
        normalisation=(Normalisation(kind="none"),),
        mode="2d",
        deep_supervision=False,
    )
    memory = write_model(tmp_path / "memory.safetensors", described, spec.build_from(arguments).state_dict())
    with pytest.raises(NotSupportedError, match="cannot be explained by grad-cam: use memory-read"):
        ms.explain(volume, memory)
    with pytest.raises(InputError, match="needs labels of some slices"):
        ms.explain(volume, memory, method="memory-read")


def test_a_map_follows_the_axes_and_the_spacing_of_the_image(tmp_path: Path) -> None:
    """A model at a spacing and in an axis order of its own: the map of a turned image is the turned map."""
    torch.manual_seed(0)
    spec = network("unet3d")
    arguments = spec.arguments(in_channels=1, out_channels=2, channels=(4, 8), deep_supervision=False)
    described = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="image", modality="other"),),
        labels={1: "one"},
        patch_zyx=(8, 8, 8),
        spacing_zyx_mm=(1.5, 1.5, 1.5),
        orientation="SPL",
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    model = write_model(tmp_path / "model.safetensors", described, spec.build_from(arguments).state_dict())
    image = np.random.default_rng(0).normal(size=(1, 12, 14, 16)).astype(np.float32)
    upright = ms.Volume(image, ms.Grid.from_spacing((12, 14, 16), (1.0, 1.0, 1.0)))
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = ms.Grid(upright.grid.shape, turn @ upright.grid.affine)
    order = type(AS_IT_IS)((2, 0, 1), (True, False, True))
    turned = ms.Volume(order.apply(image), oblique.reordered(order))
    there = tuple(int(i) for i in np.argwhere(order.apply(_at((5, 6, 7), image.shape[1:])))[0])
    for here, turned_place in ((None, None), ((5, 6, 7), there)):
        found = values(ms.explain(upright, model, method="gradient", voxel=here))
        again = values(ms.explain(turned, model, method="gradient", voxel=turned_place))
        expected = np.asarray(order.apply(found), np.float32)
        np.testing.assert_allclose(again, expected, rtol=1e-3, atol=1e-5 * float(found.max()))
        assert found.any()


def _at(place: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(shape, dtype=bool)
    mask[place] = True
    return mask


@pytest.mark.parametrize(
    "windows",
    [
        WindowGrid((9, 20, 17), (8, 8, 8), 0.25),
        WindowGrid((5, 20, 8), (8, 8, 8), 0.5, "nnunet"),
        BoxWindows((12, 20, 20), (8, 8, 8), 0.25, ((slice(0, 9), slice(3, 9), slice(2, 18)),)),
    ],
    ids=["grid", "padded", "boxes"],
)
def test_the_shares_of_the_windows_at_a_voxel_sum_up_to_one(windows: Windows) -> None:
    shares, total = Shares(windows), torch.zeros(windows.padded)
    for z, _, corners in windows.rows():
        for y, x in corners:
            total[z : z + 8, y : y + 8, x : x + 8] += shares.at((z, y, x))
    inside = tuple(slice(b, b + n) for b, n in zip(windows.pad_before, windows.shape, strict=True))
    seen = total[inside][total[inside] > 0]
    torch.testing.assert_close(seen, torch.ones_like(seen))
    total[inside] = 0
    assert not total.any()


def test_a_target_counts_as_many_voxels_as_it_has_on_any_grid() -> None:
    maps = (AxisMap.between(6, 9), AxisMap.between(8, 8), AxisMap.between(16, 5))
    box = (slice(2, 5), slice(1, 3), slice(0, 5))
    found = Target(box, np.ones((3, 2, 5), dtype=bool)).on_model(maps)
    assert float(found.weights.sum()) == pytest.approx(30)


def test_a_level_is_brought_to_the_size_that_the_network_pads_to() -> None:
    ramp = torch.arange(8.0)[None, None]
    # 6 columns are padded to 16, of which the level has a half each: not to 8, as 6 columns alone would tell.
    found = fitted(ramp, (1, 1, 6), (1, 1, 16))[0, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25]))
    assert fitted(ramp, (1, 1, 6), (1, 1, 8)).tolist() == [[[0, 1, 2, 3, 4, 5]]]


class Halved(nn.Module):
    """Padded to a multiple of 16; what is bright at half the size is the label."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = pad_to_multiple(x, 16)
        half = torch.relu(conv3d(whole, torch.ones(1, 1, 2, 2, 2) / 8, stride=2))
        logit = crop(resize(half, whole.shape[2:]), x.shape[2:])
        return torch.cat((torch.zeros_like(logit), logit), dim=1)


def test_a_map_of_a_small_window_lies_where_the_features_do() -> None:
    window = torch.zeros(1, 1, 6, 6, 6)
    window[0, 0, 4:, 4:, 4:] = 1
    asked = Question(1, torch.ones(6, 6, 6), False, 1, ExplainConfig())
    heat = grad_cam(Halved(), window, asked)
    assert heat[5, 5, 5] == heat.max() > 0
    assert not heat[:3, :3, :3].any()


class Rectified(nn.Module):
    """A function that rectifies, in no module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(torch.relu(self.first(x)).square())
        return found


def test_integrated_gradients_sum_up_to_the_difference_and_guided_ones_differ() -> None:
    torch.manual_seed(0)
    made, window = Rectified(), torch.randn(1, 1, 6, 6, 6)
    asked = Question(1, torch.ones(6, 6, 6), False, 1, ExplainConfig(steps=200))
    grey = window.mean().expand_as(window)
    with torch.no_grad():
        difference = float(asked.score(made(window)) - asked.score(made(grey)))
    assert float(integrated(made, window, asked).sum()) == pytest.approx(difference, rel=0.01)
    assert not torch.allclose(guided(made, window, asked), gradient(made, window, asked))


def test_a_label_is_named_in_any_spelling() -> None:
    labels = {1: "left-kidney", 2: "left kidney", 3: "Right_Kidney"}
    assert [label_of(name, labels, "it") for name in ("left kidney", "right-kidney", "3")] == [2, 3, 3]
    with pytest.raises(UnknownNameError, match="it has several labels 'Left_Kidney': give the id"):
        label_of("Left_Kidney", labels, "it")
