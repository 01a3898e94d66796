from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import torch
import zarr
from monai.inferers import sliding_window_inference

from napari_medseg import Grid, Segmentation, Volume, iter_segment, read_segmentation, registry, segment
from napari_medseg.config import Precision, SegmentConfig
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.events import Finished, Notice, Progress, Started
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import estimate
from napari_medseg.inference.plan import InferencePlan, axis_maps, precision_for
from napari_medseg.models.file import Model, write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.registry import PresetName
from napari_medseg.transforms.spatial import resample

WINDOW = (16, 24, 24)
CLASSES = 5
IDS = {1: "one", 2: "two", 7: "seven", 300: "three hundred"}


def write_random_model(path: Path, **changes: Any) -> Model:
    """A unet3d of random weights with 5 classes."""
    torch.manual_seed(1)
    network = registry.network("unet3d")
    own = {"in_channels": 1, "channels": (4, 8, 8), "deep_supervision": False, **changes.pop("arguments", {})}
    fields: dict[str, Any] = {
        "network": "unet3d",
        "arguments": network.arguments(out_channels=CLASSES, **own),
        "channels": (Channel(name="image", modality="other"),),
        "labels": IDS,
        "patch_zyx": WINDOW,
        "normalisation": (Normalisation(kind="zscore"),),
        "deep_supervision": False,
    }
    spec = ModelSpec(**(fields | changes))
    module = network.build_from(spec.arguments)
    return write_model(path, spec, module.state_dict())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_random_model(tmp_path_factory.mktemp("models") / "random.safetensors")


def image(shape: tuple[int, int, int] = (37, 41, 50), seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-2, 2, n) for n in shape], indexing="ij")
    data = 100 * np.sin(3 * z + y) * np.cos(2 * x) + rng.normal(0, 20, shape) + 40
    return Volume(data[None].astype(np.int16), Grid.from_spacing(shape, (2.0, 1.0, 1.0)), name="image")


def monai_logits(volume: Volume, model: Model, overlap: float, batch_size: int = 1) -> torch.Tensor:
    """The peer: MONAI's sliding window over the whole normalised image; (K, Z, Y, X), divided by the weights."""
    data = np.asarray(volume.data, dtype=np.float32)
    values = (data - np.float32(data.mean(dtype=np.float64))) / np.float32(data.std(dtype=np.float64))
    return monai_logits_of(torch.from_numpy(values), model, overlap, batch_size)


def monai_logits_of(values: torch.Tensor, model: Model, overlap: float, batch_size: int) -> torch.Tensor:
    with torch.no_grad():
        result = sliding_window_inference(
            values[None], model.spec.patch_zyx, batch_size, model.load_network(), overlap=overlap, mode="gaussian"
        )
    logits: torch.Tensor = result[0]
    return logits


def assert_same_labels(result: Segmentation, logits: torch.Tensor, spec: ModelSpec) -> None:
    """Equal to the argmax of the logits, but for voxels whose two largest are within 1e-5."""
    expected = np.array(spec.label_ids)[logits.argmax(0).numpy()]
    differs = np.asarray(result.data) != expected
    first, second = logits.topk(2, dim=0).values.numpy()
    assert (first - second)[differs].max(initial=0) <= 1e-5
    assert len(np.unique(expected)) >= 3, "the network must tell several classes apart, or the test shows nothing"


@pytest.mark.parametrize(
    ("shape", "overlap", "batch_size"),
    [
        ((37, 41, 50), 0.5, 1),
        ((37, 41, 50), 0.25, 1),
        ((40, 24, 70), 0.5, 3),
        ((16, 24, 24), 0.5, 1),
        ((9, 30, 11), 0.5, 1),
        ((16, 60, 24), 0.8, 2),
    ],
    ids=["odd", "overlap 0.25", "batches", "one window", "smaller than a window", "one row"],
)
def test_equals_monai(model: Model, shape: tuple[int, int, int], overlap: float, batch_size: int) -> None:
    volume = image(shape)
    result = segment(volume, model, overlap=overlap, batch_size=batch_size, device="cpu")
    assert_same_labels(result, monai_logits(volume, model, overlap, batch_size), model.spec)
    assert result.grid.same_as(volume.grid)
    assert dict(result.labels) == IDS


@pytest.mark.parametrize("kind", ["dask", "zarr", "float64"])
def test_the_same_from_any_array(model: Model, tmp_path: Path, kind: str) -> None:
    volume = image()
    stored: npt.NDArray[Any] = np.asarray(volume.data)
    arrays: dict[str, Callable[[], Any]] = {
        "dask": lambda: da.from_array(stored, chunks=(1, 10, 20, 13)),
        "zarr": lambda: zarr.create_array(tmp_path / "a.zarr", data=stored, chunks=(1, 10, 20, 13)),
        "float64": lambda: stored.astype(np.float64),
    }
    data = arrays[kind]()
    again = segment(Volume(data, volume.grid), model)
    np.testing.assert_array_equal(again.data, segment(volume, model).data)


def test_a_chunk_is_decoded_once_a_pass(model: Model) -> None:
    volume = image((64, 30, 30))
    reads: list[tuple[slice, ...]] = []

    class Counting:
        shape, dtype, chunks = volume.data.shape, volume.data.dtype, (1, 16, 30, 30)

        def __getitem__(self, key: tuple[slice, ...]) -> Any:
            reads.append(key)
            return volume.data[key]

    segment(Volume(Counting(), volume.grid), model)
    planes = [(key[1].start, key[1].stop) for key in reads]
    once = [(0, 16), (16, 32), (32, 48), (48, 64)]
    # one pass for the statistics of the z-score, one for the windows
    assert planes == [*once, *once]


def resampling_model(tmp_path: Path) -> Model:
    return write_random_model(tmp_path / "resampling.safetensors", spacing_zyx_mm=(1.5, 1.4, 0.9))


def test_resampling_equals_the_whole_array(tmp_path: Path) -> None:
    model, volume = resampling_model(tmp_path), image()
    data = np.asarray(volume.data, dtype=np.float32)
    values = (data - np.float32(data.mean(dtype=np.float64))) / np.float32(data.std(dtype=np.float64))
    assert model.spec.spacing_zyx_mm is not None
    shape = volume.grid.with_spacing(model.spec.spacing_zyx_mm).shape
    assert shape == (49, 29, 56)
    logits = monai_logits_of(resample(torch.from_numpy(values), axis_maps(volume.grid.shape, shape)), model, 0.5, 1)
    back = resample(logits, axis_maps(shape, volume.grid.shape))
    assert_same_labels(segment(volume, model), back, model.spec)


@pytest.mark.parametrize("orientation", ["SPL", "RAI", "LSP", "ILA", "AIR"])
def test_the_model_sees_its_own_orientation(tmp_path: Path, orientation: str) -> None:
    model = write_random_model(tmp_path / "m.safetensors", orientation="SPL")
    volume = image()
    order = AxisOrder.between("SPL", orientation)
    turned = Volume(order.apply(np.asarray(volume.data)), volume.grid.reordered(order))
    assert turned.grid.orientation == orientation
    result = segment(turned, model)
    assert result.grid.same_as(turned.grid)
    np.testing.assert_array_equal(result.data, order.apply(np.asarray(segment(volume, model).data)))


@pytest.mark.parametrize("orientation", ["SPL", "IAR", "LSP"])
def test_a_store_equals_the_array(tmp_path: Path, orientation: str) -> None:
    model = write_random_model(tmp_path / "m.safetensors", orientation="SPL", spacing_zyx_mm=(1.5, 1.4, 0.9))
    order = AxisOrder.between("SPL", orientation)
    plain = image((70, 41, 30))
    volume = Volume(order.apply(np.asarray(plain.data)), plain.grid.reordered(order))
    out = tmp_path / "out.zarr"
    stored = segment(volume, model, out=out)
    np.testing.assert_array_equal(np.asarray(stored.data), segment(volume, model).data)
    again = read_segmentation(out)
    np.testing.assert_array_equal(np.asarray(again.data), np.asarray(stored.data))
    assert again.grid.same_as(volume.grid)
    assert dict(again.labels) == IDS


def test_events_and_that_they_can_be_pickled(model: Model) -> None:
    events = list(iter_segment(image(), model))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.done for e in progress if e.message == "windows"] == list(range(1, progress[-1].total + 1))
    assert [(e.done, e.total) for e in progress if e.message == "statistics"] == [(1, 2), (2, 2)]  # 37 planes by 32
    plan = pickle.loads(pickle.dumps(events[0])).plan
    assert isinstance(plan, InferencePlan)
    assert len(plan.windows) == progress[-1].total
    assert plan.describe() == events[0].message == estimate(image(), model, SegmentConfig())
    for event in events:
        assert type(pickle.loads(pickle.dumps(event))) is type(event)
    again = pickle.loads(pickle.dumps(events[-1])).result
    np.testing.assert_array_equal(again.data, events[-1].result.data)


def test_cancel_runs_no_further_window_and_marks_the_store(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    volume = image((100, 24, 24))
    whole = np.asarray(segment(volume, model).data)
    running = iter_segment(volume, model, out=out)
    for event in running:
        if isinstance(event, Progress) and (event.message, event.done) == ("windows", 11):
            break
    running.close()  # type: ignore[attr-defined]
    with pytest.warns(MedsegWarning, match="was not finished"):
        partial = np.asarray(read_segmentation(out).data)
    # Rows of windows begin every 8 planes; of the eleven, the first eight rows' planes fill one row of chunks.
    np.testing.assert_array_equal(partial[:64], whole[:64])
    assert not partial[64:].any()


def test_memory_of_the_accumulator_does_not_grow_with_the_planes(model: Model) -> None:
    def plan(planes: int) -> str:
        started = next(iter(iter_segment(image((planes, 30, 30)), model)))
        assert isinstance(started, Started)
        return started.message.rpartition("about")[2]

    assert plan(40) == plan(400)


def test_two_channels_in_order(tmp_path: Path) -> None:
    channels = (Channel(name="T1", modality="MR"), Channel(name="T2", modality="MR"))
    model = write_random_model(
        tmp_path / "two.safetensors",
        arguments={"in_channels": 2},
        channels=channels,
        normalisation=(
            Normalisation(kind="clip_zscore", low=-50, high=100, mean=10, std=30),
            Normalisation(kind="none"),
        ),
    )
    a, b = np.asarray(image(seed=0).data), np.asarray(image(seed=1).data) / 100
    volume = Volume(np.concatenate([a, b]).astype(np.float32), image().grid)
    values = torch.from_numpy(np.concatenate([(a.clip(-50, 100) - 10) / 30, b]).astype(np.float32))
    assert_same_labels(segment(volume, model), monai_logits_of(values, model, 0.5, 1), model.spec)


def test_a_2d_model_takes_plane_by_plane(tmp_path: Path) -> None:
    model = write_random_model(
        tmp_path / "flat.safetensors", arguments={"spatial_dims": 2}, patch_zyx=(1, 24, 24), mode="2d"
    )
    volume = image((5, 30, 40))
    network = model.load_network()
    data = np.asarray(volume.data, dtype=np.float32)
    values = torch.from_numpy((data - data.mean(dtype=np.float64)) / data.std(dtype=np.float64)).float()
    with torch.no_grad():
        planes = [
            sliding_window_inference(values[:, [z]].transpose(0, 1), (24, 24), 1, network, 0.5, mode="gaussian")[0]
            for z in range(5)
        ]
    assert_same_labels(segment(volume, model), torch.stack(planes, dim=1), model.spec)


@pytest.mark.parametrize("preset", ["balanced", "fast"])
@pytest.mark.parametrize("mode", ["2d", "2.5d"])
def test_no_plane_is_left_out(tmp_path: Path, preset: PresetName, mode: Literal["2d", "2.5d"]) -> None:
    planes = 3 if mode == "2.5d" else 1
    model = write_random_model(
        tmp_path / "flat.safetensors",
        arguments={"spatial_dims": 2, "in_channels": planes},
        patch_zyx=(planes, 32, 32),
        mode=mode,
    )
    volume = image((20, 32, 32))  # one window a plane: the presets mean the same
    exact = np.asarray(segment(volume, model, preset="exact").data)
    assert all((plane > 0).any() for plane in exact)
    assert np.array_equal(np.asarray(segment(volume, model, preset=preset).data), exact)


def test_voxels_that_are_not_finite_count_as_zero(model: Model) -> None:
    data = np.asarray(image().data, dtype=np.float32)
    assert not [text for text in said_of(Volume(data, image().grid), model) if "no numbers" in text]
    data[0, 3, 3, 3] = np.nan
    volume = Volume(data, image().grid, name="scan")
    assert len(np.unique(np.asarray(segment(volume, model).data))) >= 3
    assert [text for text in said_of(volume, model) if "no numbers" in text] == [
        "scan has voxels that are no numbers (NaN or infinite): they count as 0"
    ]


def said_of(volume: Volume, model: Model) -> list[str]:
    return [event.message for event in iter_segment(volume, model) if isinstance(event, Notice)]


def test_an_image_of_nan_is_refused(model: Model) -> None:
    data = np.full((1, 20, 20, 20), np.nan, dtype=np.float32)
    with pytest.raises(InputError, match="no finite voxel"):
        segment(Volume(data, Grid.from_spacing((20, 20, 20), (1, 1, 1)), name="empty"), model)


def test_a_wrong_channel_count_names_both(model: Model, tmp_path: Path) -> None:
    data = np.zeros((3, 20, 20, 20), dtype=np.int16)
    volume = Volume(data, Grid.from_spacing((20, 20, 20), (1, 1, 1)), name="rgb")
    with pytest.raises(InputError, match=r"rgb has 3 channels but model .*random.safetensors needs 1 \(image\)"):
        segment(volume, model, out=tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"device": "cuda:77"}, "is not there"),
        ({"overlap": 1.0}, "overlap must be"),
        ({"precision": "fp16"}, "precision is auto, fp32 or bf16"),
        ({"out": "labels.nii.gz"}, "streamed into a .zarr folder"),
    ],
    ids=lambda v: str(v),
)
def test_a_wrong_request_is_refused_in_one_line(model: Model, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        segment(image(), model, **options)
    assert "\n" not in str(error.value)


def test_a_damaged_chunk_is_named(model: Model, tmp_path: Path) -> None:
    volume = image()
    store = zarr.create_array(tmp_path / "a.zarr", data=np.asarray(volume.data), chunks=(1, 16, 64, 64))
    (tmp_path / "a.zarr" / "c" / "0" / "1" / "0" / "0").write_bytes(b"not a chunk")
    with pytest.raises(FileError, match=r"image: voxels \[16:32, 0:41, 0:50\] cannot be read"):
        segment(Volume(store, volume.grid, name="image"), model)


@pytest.mark.parametrize(
    ("asked", "as_good", "fast", "used"),
    [
        ("auto", True, True, "bf16"),
        ("auto", True, False, "fp32"),
        ("auto", False, True, "fp32"),
        ("fp32", True, True, "fp32"),
        ("bf16", False, False, "bf16"),
    ],
)
def test_automatic_precision_needs_the_models_word_and_the_hardware(
    model: Model, asked: Precision, as_good: bool, fast: bool, used: str
) -> None:
    spec = replace(model.spec, bf16_ok=as_good)
    assert precision_for(asked, spec, Machine("cpu", fast_bf16=fast)) == used
