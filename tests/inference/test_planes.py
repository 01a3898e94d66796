"""Boxes as a network wants them, and the pass that measures an image: what is read, and how often."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, WrapperStore

from napari_medseg import Grid, Volume, iter_segment, read_segmentation, registry
from napari_medseg.arrays.boxes import Box
from napari_medseg.config import SegmentConfig
from napari_medseg.errors import FileError, InputError, MedsegWarning
from napari_medseg.events import Event, Progress, Started, finishing, result_of
from napari_medseg.geometry import AS_IT_IS, AxisOrder
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.planes import BoxReader, ChannelStatistics, ModelBoxes, Normaliser, measuring
from napari_medseg.models.file import FIRST, Model, write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, Stage
from napari_medseg.transforms.intensity import Statistics

CHANNELS = ("T1", "T2", "FLAIR", "T1c")
SHAPE = (40, 16, 16)
ZSCORE = Normalisation(kind="zscore")
NONE = Normalisation(kind="none")
CLIP = Normalisation(kind="clip_zscore", low=0, high=10, mean=4, std=2)


class CountedStore(WrapperStore[MemoryStore]):
    """A store that counts how often each chunk is read."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.chunks: Counter[str] = Counter()

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        if key.startswith("c/"):
            self.chunks[key] += 1
        return await super().get(key, *args, **kwargs)


def voxels() -> np.ndarray[Any, np.dtype[np.int16]]:
    values = np.random.default_rng(0).normal(100, 30, (len(CHANNELS), *SHAPE))
    return (values * np.arange(1, 5)[:, None, None, None]).astype(np.int16)


def stored() -> tuple[Volume, CountedStore]:
    """Four channels in chunks of one channel and eight planes: 20 chunks."""
    store = CountedStore(MemoryStore())
    array = zarr.create_array(store, data=voxels(), chunks=(1, 8, 16, 16))
    store.chunks.clear()
    return Volume(array, Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0)), CHANNELS, name="head"), store


def model_spec(*rules: Normalisation, guides: int = 0, **changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "network": "unet3d",
        "arguments": registry.network("unet3d").arguments(
            in_channels=len(CHANNELS) + guides, out_channels=2, channels=(4, 8), deep_supervision=False
        ),
        "channels": tuple(Channel(name=name, modality="MR") for name in CHANNELS),
        "labels": {1: "tumour"},
        "patch_zyx": (8, 16, 16),
        "normalisation": rules,
        "deep_supervision": False,
    }
    return ModelSpec(**(fields | changes))


def cascade(guide: Any, second: Normalisation = ZSCORE, first: Normalisation = ZSCORE) -> ModelSpec:
    stage = Stage(model=model_spec(*[first] * 4), guide=guide)
    return model_spec(*[second] * 4, guides=stage.channels, first=stage)


def plan_of(volume: Volume, spec: ModelSpec) -> InferencePlan:
    return resolve(ImageFacts.of(volume), spec, SegmentConfig(), Machine())


def measured(volume: Volume, spec: ModelSpec) -> tuple[list[Event], ChannelStatistics]:
    plan = plan_of(volume, spec)
    *progress, last = finishing(measuring(BoxReader(volume, plan.order), plan))
    return progress, result_of([last])


def written(path: Path, spec: ModelSpec) -> Model:
    """A model of random weights, with those of its first stage."""
    torch.manual_seed(0)
    state = dict(registry.network("unet3d").build_from(spec.arguments).state_dict())
    if spec.first is not None:
        first = registry.network("unet3d").build_from(spec.first.model.arguments)
        state |= {FIRST + name: tensor for name, tensor in first.state_dict().items()}
    return write_model(path, spec, state)


def test_one_pass_measures_all_channels() -> None:
    volume, store = stored()
    progress, found = measured(volume, model_spec(*[ZSCORE] * 4))
    assert progress == [Progress(done, 5, "statistics") for done in (1, 2, 3, 4, 5)]
    for statistics, channel in zip(found, voxels(), strict=True):
        assert statistics is not None
        assert statistics.mean == pytest.approx(channel.mean())
        assert statistics.std == pytest.approx(channel.std())
    assert len(store.chunks) == 20
    assert set(store.chunks.values()) == {1}


def test_only_channels_whose_rule_asks_for_it_are_measured() -> None:
    volume, _ = stored()
    _, found = measured(volume, model_spec(NONE, ZSCORE, CLIP, NONE))
    assert [statistics is not None for statistics in found] == [False, True, False, False]


def test_an_image_that_no_rule_measures_is_not_read() -> None:
    volume, store = stored()
    assert measured(volume, model_spec(NONE, CLIP, CLIP, NONE)) == ([], (None,) * 4)
    assert not store.chunks


@pytest.mark.parametrize(("second", "first"), [(ZSCORE, ZSCORE), (CLIP, ZSCORE), (ZSCORE, NONE)])
def test_both_stages_of_a_cascade_share_the_pass(second: Normalisation, first: Normalisation) -> None:
    volume, store = stored()
    _, found = measured(volume, cascade("channel", second, first))
    assert None not in found
    assert set(store.chunks.values()) == {1}


@pytest.mark.parametrize("guide", [None, "channel", "boxes"])
def test_a_run_decodes_the_image_once_for_its_statistics(guide: str | None, tmp_path: Path) -> None:
    volume, store = stored()
    spec = model_spec(*[ZSCORE] * 4) if guide is None else cascade(guide)
    before_windows: Counter[str] | None = None
    for event in iter_segment(volume, written(tmp_path / "m.safetensors", spec)):
        if isinstance(event, Started):
            assert not store.chunks, "nothing is read before the plan is told"
        elif isinstance(event, Progress) and event.message == "statistics":
            before_windows = Counter(store.chunks)
    assert before_windows is not None
    assert len(before_windows) == 20
    assert set(before_windows.values()) == {1}
    # Then each stage has a pass of its own.
    assert max(store.chunks.values()) <= (2 if guide is None else 3)


def test_closing_while_statistics_are_measured_reads_no_further(tmp_path: Path) -> None:
    volume, store = stored()
    model = written(tmp_path / "m.safetensors", model_spec(*[ZSCORE] * 4))
    out = tmp_path / "out.zarr"
    running = iter_segment(volume, model, out=out)
    for event in running:
        if event == Progress(2, 5, "statistics"):
            break
    running.close()  # type: ignore[attr-defined]
    assert len(store.chunks) == 8  # two rows of four chunks
    with pytest.warns(MedsegWarning, match="was not finished"):
        partial = read_segmentation(out)
    assert not np.asarray(partial.data[...]).any()


def test_a_channel_without_a_finite_voxel_is_named() -> None:
    data = voxels().astype(np.float32)
    data[2] = np.nan
    volume = Volume(data, Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0)), CHANNELS, name="head")
    with pytest.raises(InputError, match="head, FLAIR has no finite voxel"):
        measured(volume, model_spec(*[ZSCORE] * 4))


def test_an_image_of_one_row_of_chunks_is_measured_in_one_step() -> None:
    volume = Volume(voxels()[:, :8], Grid.from_spacing((8, 16, 16), (1.0, 1.0, 1.0)), CHANNELS)
    assert measured(volume, model_spec(*[ZSCORE] * 4))[0] == []


def planes(start: int, stop: int) -> Box:
    return slice(start, stop), slice(0, 16), slice(0, 16)


@pytest.mark.parametrize("keep_bytes", [0, 1 << 20], ids=["least", "all"])
def test_a_reader_keeps_the_chunks_of_its_last_box(keep_bytes: int) -> None:
    volume, store = stored()
    reader = BoxReader(volume, AS_IT_IS, keep_bytes=keep_bytes)
    for start in range(0, 40, 2):
        np.testing.assert_array_equal(reader.read(planes(start, start + 2)), voxels()[:, start : start + 2])
    assert set(store.chunks.values()) == {1}
    np.testing.assert_array_equal(
        reader.read(planes(6, 18)), voxels()[:, 6:18]
    )  # over three rows, from the start again
    assert store.chunks["c/0/0/0/0"] == (1 if keep_bytes else 2)


def test_what_is_expected_is_decoded_once_and_its_fault_is_told_when_it_is_read() -> None:
    volume, store = stored()
    reader = BoxReader(volume, AS_IT_IS)
    reader.expect(planes(8, 24))
    np.testing.assert_array_equal(reader.read(planes(0, 8)), voxels()[:, :8])
    np.testing.assert_array_equal(reader.read(planes(8, 24)), voxels()[:, 8:24])
    assert set(store.chunks.values()) == {1}
    asyncio.run(store.set("c/0/3/0/0", default_buffer_prototype().buffer.from_bytes(b"not a chunk")))
    reader.expect(planes(24, 32))
    with pytest.raises(FileError, match=r"head: voxels \[24:32, 0:16, 0:16\] cannot be read"):
        reader.read(planes(24, 32))
    reader.close()


@given(st.data())
def test_any_box_in_any_order_is_that_of_the_whole(data: st.DataObject) -> None:
    shape = (7, 9, 8)
    values = np.arange(math.prod(shape)).reshape(1, *shape)
    chunks = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    array = da.from_array(values, chunks=(1, *chunks))
    a, b, c = data.draw(st.permutations([0, 1, 2]))
    order = AxisOrder((a, b, c), data.draw(st.tuples(*[st.booleans()] * 3)))
    reader = BoxReader(Volume(array, Grid.from_spacing(shape, (1.0, 1.0, 1.0))), order)
    expected = order.apply(values)
    for _ in range(3):
        ends = [
            sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in reader.shape
        ]
        z, y, x = (slice(*pair) for pair in ends)
        np.testing.assert_array_equal(reader.read((z, y, x)), expected[:, z, y, x])


def test_rows_of_a_flipped_axis_end_where_the_chunks_begin() -> None:
    values = np.arange(5)[None, :, None, None]
    array = zarr.create_array(MemoryStore(), data=values, chunks=(1, 2, 1, 1))
    volume = Volume(array, Grid.from_spacing((5, 1, 1), (1.0, 1.0, 1.0)))
    reader = BoxReader(volume, AxisOrder((0, 1, 2), (True, False, False)))
    assert reader.rows == [(0, 1), (1, 3), (3, 5)]
    assert reader.read((slice(0, 3), slice(0, 1), slice(0, 1))).ravel().tolist() == [4, 3, 2]


def test_normalisation_by_hand() -> None:
    values = np.array([-2, 0, 4, 8, 20], dtype=np.int16)
    assert Normaliser.of(NONE, None)(values).tolist() == [-2, 0, 4, 8, 20]
    assert Normaliser.of(CLIP, None)(values).tolist() == [-2, -2, 0, 2, 3]
    assert Normaliser.of(ZSCORE, Statistics(4, 4))(values).tolist() == [-1.5, -1, 0, 1, 4]


def test_planes_are_normalised_before_they_are_resampled() -> None:
    data = np.array([0, 4, 8, 100], dtype=np.float32).reshape(1, 4, 1, 1)
    volume = Volume(data, Grid.from_spacing((4, 1, 1), (1.0, 1.0, 1.0)))
    spec = replace(
        model_spec(*[CLIP] * 4),
        channels=(Channel(name="T1", modality="MR"),),
        normalisation=(CLIP,),
        arguments=registry.network("unet3d").arguments(
            in_channels=1, out_channels=2, channels=(4, 8), deep_supervision=False
        ),
        spacing_zyx_mm=(0.5, 1.0, 1.0),
    )
    plan = plan_of(volume, spec)
    boxes = ModelBoxes(BoxReader(volume, plan.order), plan, (None,))
    # -2, 0, 2 and (10 - 4) / 2 = 3, each between its neighbours at a quarter and three quarters
    assert boxes.shape == (8, 1, 1)
    one = slice(0, 1)
    assert boxes.read((slice(0, 8), one, one)).ravel().tolist() == [-2, -1.5, -0.5, 0.5, 1.5, 2.25, 2.75, 3]
    assert boxes.read((slice(2, 5), one, one)).ravel().tolist() == [-0.5, 0.5, 1.5]
