"""A first stage that guides a second one, and 2D networks on volumes, through the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_medseg import Grid, Volume, iter_segment, load_model, registry, segment, write
from napari_medseg.architectures.modes import in_mode
from napari_medseg.arrays.boxes import whole
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.events import Finished, Progress, Started, finishing, result_of
from napari_medseg.inference.cascade import FirstStage, boxes_around
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import require_fit
from napari_medseg.inference.graphs.network import OpenVinoNetwork
from napari_medseg.inference.plan import ImageFacts, InferencePlan, axis_maps, resolve
from napari_medseg.inference.planes import BoxReader, ChannelStatistics, ModelBoxes, measuring
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.models.file import FIRST, Model, write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, Stage
from napari_medseg.transforms.spatial import resample

SHAPE = (12, 20, 24)
LABELS = {1: "one", 4: "four"}


def volume(shape: tuple[int, int, int] = SHAPE) -> Volume:
    """A bright block on noise."""
    data = np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)
    data[3:6, 4:8, 16:20] += 200
    return Volume(data[None], Grid.from_spacing(shape, (1.0, 1.0, 1.0)), name="block")


def model_spec(inputs: int = 1, **changes: Any) -> ModelSpec:
    dims = 3 if changes.get("mode", "3d") == "3d" else 2
    fields: dict[str, Any] = {
        "network": "unet3d",
        "arguments": registry.network("unet3d").arguments(
            in_channels=inputs, out_channels=3, channels=(4, 8), deep_supervision=False, spatial_dims=dims
        ),
        "channels": (Channel(name="image", modality="other"),),
        "labels": LABELS,
        "patch_zyx": SHAPE,
        "spacing_zyx_mm": (1.0, 1.0, 1.0),
        "normalisation": (Normalisation(kind="zscore"),),
        "deep_supervision": False,
    }
    return ModelSpec(**(fields | changes))


def network_of(spec: ModelSpec, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return registry.network(spec.network).build_from(spec.arguments).eval()


def normalised(image: Volume) -> Tensor:
    values = np.asarray(image.data)
    return torch.from_numpy((values - values.mean()) / values.std())


def written(path: Path, spec: ModelSpec) -> Model:
    """The spec with random weights, of its first stage too."""
    state = dict(network_of(spec, 1).state_dict())
    if spec.first is not None:
        state |= {FIRST + k: v for k, v in network_of(spec.first.model, 2).state_dict().items()}
    return write_model(path, spec, state)


def plan_of(image: Volume, spec: ModelSpec, **wishes: Any) -> InferencePlan:
    return resolve(ImageFacts.of(image), spec, SegmentConfig(**wishes), Machine())


def statistics_of(reader: BoxReader, plan: InferencePlan) -> ChannelStatistics:
    found: ChannelStatistics = result_of(finishing(measuring(reader, plan)))
    return found


def labels_of(image: Volume, model: Model) -> np.ndarray[Any, Any]:
    return np.asarray(segment(image, model).data[...])


def ids(classes: Tensor) -> np.ndarray[Any, Any]:
    return np.take(np.array([0, *LABELS]), classes.numpy())


@pytest.mark.parametrize(
    ("mode", "patch", "inputs"),
    [("2d", (1, 20, 24), 1), ("2.5d", (3, 20, 24), 3), ("2.5d", (5, 20, 24), 5), ("triplanar", SHAPE, 1)],
    ids=["2d", "three slices", "five slices", "triplanar"],
)
def test_modes_stream_as_they_run_on_the_whole(
    mode: str, patch: tuple[int, int, int], inputs: int, tmp_path: Path
) -> None:
    spec = model_spec(inputs, mode=mode, patch_zyx=patch)
    model = written(tmp_path / "m.safetensors", spec)
    halo = patch[0] // 2 if mode == "2.5d" else 0
    values = normalised(volume())
    repeated = torch.cat([values[:, :1]] * halo + [values] + [values[:, -1:]] * halo, dim=1)
    with torch.inference_mode():
        expected = in_mode(model.load_network(), mode, patch[0])(repeated[None])[0].argmax(0)
    assert len(expected.unique()) > 1
    assert np.array_equal(labels_of(volume(), model), ids(expected))


def channel_cascade(path: Path, patch: tuple[int, int, int] = SHAPE) -> Model:
    first = model_spec(spacing_zyx_mm=(2.0, 2.0, 2.0), patch_zyx=(6, 10, 12))
    spec = model_spec(3, first=Stage(model=first, guide="channel"), patch_zyx=patch)
    return written(path, spec)


def test_probabilities_of_the_first_stage_are_channels_of_the_second(tmp_path: Path) -> None:
    model = channel_cascade(tmp_path / "m.safetensors")
    assert model.spec.first is not None
    first = plan_of(volume(), model.spec).first
    assert first is not None
    reader = BoxReader(volume(), first.order)
    coarse = ModelBoxes(reader, first, statistics_of(reader, first))
    with torch.inference_mode():
        logits = model.load_first()(coarse.read(whole((6, 10, 12)))[None])[0]
        guide = resample(logits, axis_maps((6, 10, 12), SHAPE)).softmax(0)[1:]
        expected = model.load_network()(torch.cat([normalised(volume()), guide])[None])[0].argmax(0)
    assert len(expected.unique()) > 1
    assert np.array_equal(labels_of(volume(), model), ids(expected))


def test_small_windows_see_the_same_guide_as_one_large(tmp_path: Path) -> None:
    model = channel_cascade(tmp_path / "m.safetensors", patch=(4, 20, 24))
    events = list(iter_segment(volume(), model, overlap=0.5))
    assert isinstance(events[0], Started)
    assert [e.done for e in events if isinstance(e, Progress)] == [1, 2, 3, 4, 5]


class Counted(nn.Module):
    """The first stage, counting its windows."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.windows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.windows += len(x)
        logits: Tensor = self.net(x)
        return logits


def test_the_first_stage_runs_no_further_than_asked() -> None:
    tall = volume((96, 20, 24))
    spec = model_spec(patch_zyx=(8, 20, 24))
    counted = Counted(network_of(spec, 1))
    plan = plan_of(tall, spec)
    statistics = statistics_of(BoxReader(tall, plan.order), plan)
    stage = Stage(model=spec, guide="channel")
    first = FirstStage(stage, tall, plan, statistics, Predictor(counted, torch.device("cpu"), "fp32"))
    planes = first.probabilities(tall.grid.shape)
    run = []
    for _ in range(3):
        taken = [next(planes) for _ in range(16)]
        assert all(p.shape == (2, 20, 24) for p in taken)
        run.append(counted.windows)
    assert run == [4, 8, 12]  # windows of 8 planes in steps of 4


def test_the_first_stage_sees_one_window_at_a_time_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logits would differ in the last bit with the region that a batch belongs to."""
    image, spec = volume(), model_spec(patch_zyx=(8, 8, 8))
    plan = plan_of(image, spec, batch_size=4)
    statistics = statistics_of(BoxReader(image, plan.order), plan)
    batches: list[int] = []
    predictor = Predictor(network_of(spec, 1), torch.device("cpu"), "fp32")

    def counting(self: Predictor, windows: Tensor) -> Tensor:
        batches.append(len(windows))
        return torch.zeros(len(windows), 3, 8, 8, 8)

    monkeypatch.setattr(Predictor, "__call__", counting)
    first = FirstStage(Stage(model=spec, guide="boxes"), image, plan, statistics, predictor)
    for _ in first.run(image.grid.shape):
        pass
    assert set(batches) == {1}
    assert replace(plan, device="cuda").at_once == 4


def nowhere(spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """Weights of a network that sees background only."""
    for name, tensor in network_of(spec, 1).state_dict().items():
        yield name, torch.zeros_like(tensor)
        if name == "heads.0.bias":
            yield name, torch.tensor([50.0, 0.0, 0.0])


@pytest.mark.parametrize("guide", ["channel", "boxes"])
def test_where_the_first_stage_sees_nothing_the_second_does_not_look(guide: Any, tmp_path: Path) -> None:
    first = model_spec()
    spec = model_spec(3 if guide == "channel" else 1, first=Stage(model=first, guide=guide))
    state = {k: torch.full_like(v, torch.nan) for k, v in network_of(spec, 1).state_dict().items()}
    model = write_model(tmp_path / "m.safetensors", spec, state | {FIRST + k: v for k, v in nowhere(first)})
    events = list(iter_segment(volume(), model))
    assert isinstance(events[0], Started)
    assert "at most 1 windows" in events[0].message
    assert isinstance(events[-1], Finished)
    assert not np.asarray(events[-1].result.data).any()


def test_boxes_are_around_each_part_with_the_margin() -> None:
    found = np.zeros((6, 10, 12), dtype=bool)
    found[1:3, 2:4, 8:10] = True
    found[5, 9, 0] = True
    boxes = boxes_around(found, volume().grid, margin_mm=1.5)
    assert boxes == (
        (slice(0, 8), slice(2, 10), slice(14, 22)),
        (slice(8, 12), slice(16, 20), slice(0, 4)),
    )


@pytest.mark.parametrize(("validated", "precision"), [(False, "fp32"), (True, "bf16")], ids=["worse", "as good"])
def test_the_first_stage_runs_in_bf16_only_where_it_was_as_good(
    validated: bool, precision: str, tmp_path: Path
) -> None:
    stage = Stage(model=model_spec(bf16_ok=validated), guide="boxes")
    model = written(tmp_path / "m.safetensors", model_spec(first=stage))
    predictor = load_predictor(model, plan_of(volume(), model.spec, precision="bf16"))
    assert predictor.first is not None
    assert (predictor.precision, predictor.first.precision) == ("bf16", precision)


def test_a_network_from_something_else_than_an_image_does_not_segment() -> None:
    arguments = registry.network("deepigeos_rnet").arguments(out_channels=3)
    spec = model_spec(network="deepigeos_rnet", arguments=arguments)
    with pytest.raises(InputError, match="model m cannot segment: deepigeos_rnet is no network from image to labels"):
        require_fit(volume(), spec, "m")


def test_one_box_around_everything_is_every_window(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain.safetensors", model_spec(patch_zyx=(6, 20, 24)))
    stage = Stage(model=model_spec(), guide="boxes", margin_mm=1000)
    spec = model_spec(first=stage, patch_zyx=(6, 20, 24))
    everywhere = {k: -v for k, v in nowhere(stage.model)}
    state = {**plain.load_network().state_dict(), **{FIRST + k: v for k, v in everywhere.items()}}
    model = write_model(tmp_path / "boxes.safetensors", spec, state)
    assert np.array_equal(labels_of(volume(), model), labels_of(volume(), plain))


def test_both_stages_are_in_one_file(tmp_path: Path) -> None:
    model = channel_cascade(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.spec == model.spec
    for loaded, seed, spec in ((again.load_network(), 1, again.spec), (again.load_first(), 2, stage_of(again).model)):
        expected = network_of(spec, seed).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())


def stage_of(model: Model) -> Stage:
    assert model.spec.first is not None
    return model.spec.first


def test_a_file_without_its_first_stage_is_refused(tmp_path: Path) -> None:
    spec = channel_cascade(tmp_path / "m.safetensors").spec
    with pytest.raises(ModelFileError, match=r"tensor first:.*expected .* found none"):
        write_model(tmp_path / "half.safetensors", spec, network_of(spec, 1).state_dict())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"guide": "map"}, "guide is one of channel, boxes"),
        ({"margin_mm": -1}, "margin_mm must be a number from 0"),
        ({"model": "unet3d"}, "the first stage needs a ModelSpec"),
    ],
    ids=["guide", "margin", "model"],
)
def test_refuses_a_stage(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Stage(**{"model": model_spec(), "guide": "boxes", **changes})


def test_refuses_stages_that_do_not_fit() -> None:
    first = model_spec()
    with pytest.raises(InputError, match="3 channels in mode 3d need in_channels 3; got 1"):
        model_spec(first=Stage(model=first, guide="channel"))
    with pytest.raises(InputError, match="the first stage needs the same channels and orientation"):
        model_spec(first=Stage(model=replace(first, orientation="SPL"), guide="boxes"))
    with pytest.raises(InputError, match="without a stage before it"):
        Stage(model=model_spec(first=Stage(model=first, guide="boxes")), guide="boxes")


def test_a_cascade_segments_a_zarr_volume(tmp_path: Path) -> None:
    write(tmp_path / "image.zarr", volume())
    model = channel_cascade(tmp_path / "m.safetensors", patch=(8, 16, 16))
    from napari_medseg import read

    streamed = segment(read(tmp_path / "image.zarr"), model, out=tmp_path / "labels.zarr")
    assert np.array_equal(np.asarray(streamed.data[...]), labels_of(volume(), model))


@pytest.mark.slow
def test_openvino_runs_both_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_CACHE", str(tmp_path))
    model = channel_cascade(tmp_path / "m.safetensors")
    plan = plan_of(volume(), model.spec)
    found = load_predictor(model, replace(plan, backend="openvino"))
    assert found.first is not None
    assert isinstance(found.network, OpenVinoNetwork)
    assert isinstance(found.first.network, OpenVinoNetwork)
    assert len([*tmp_path.glob("graphs/*.onnx")]) == 2
    by_openvino = segment(volume(), model, backend="openvino")
    assert np.array_equal(np.asarray(by_openvino.data[...]), labels_of(volume(), model))
