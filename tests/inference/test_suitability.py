"""A model warns of an image that it was not made for, and of no other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg import Grid, Volume, iter_segment, iter_train, load_model, read, write
from napari_medseg.cli import main
from napari_medseg.errors import FileError
from napari_medseg.events import Notice
from napari_medseg.geometry import AxisOrder
from napari_medseg.inference.suitability import ImageSample, Range, doubts_about, sampled
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, Seen, TrainingRecord
from napari_medseg.sample import phantom, sample_files

CT = Range(-1020.0, -1000.0, 900.0)
MR = Range(0.0, 5.0, 800.0)
SEEN = Seen(
    intensity=((-1000.0, 1000.0),),
    spacing_zyx_mm=((2.0, 1.0, 1.0), (5.0, 1.0, 1.0)),
    extent_zyx_mm=(200.0, 300.0, 300.0),
)


def spec(**changes: Any) -> ModelSpec:
    modality = changes.pop("modality", "CT")
    seen = changes.pop("seen", None)
    rule = Normalisation(kind="clip_zscore", low=-150.0, high=350.0, mean=80.0, std=90.0)
    return ModelSpec(
        network="unet3d",
        arguments={"in_channels": 1, "out_channels": 2},
        channels=(Channel(name="image", modality=modality),),
        labels={1: "liver"},
        patch_zyx=(32, 80, 80),
        spacing_zyx_mm=(4.0, 2.0, 2.0),
        orientation="SPL",
        normalisation=(rule if modality == "CT" else Normalisation(kind="zscore"),),
        deep_supervision=True,
        training=TrainingRecord(seen=seen),
        **changes,
    )


def sample(
    found: Range | None = CT,
    shape: tuple[int, int, int] = (60, 200, 200),
    spacing: tuple[float, float, float] = (4.0, 2.0, 2.0),
) -> ImageSample:
    return ImageSample(Grid.from_spacing(shape, spacing), ("image",), (found,))


@pytest.mark.parametrize("seen", [None, SEEN], ids=["older_file", "recorded"])
@pytest.mark.parametrize(
    ("image", "modality", "says"),
    [
        (sample(), "CT", None),
        (sample(None), "CT", None),
        (sample(Range(-900.0, -120.0, 250.0)), "CT", None),
        (sample(MR), "other", None),
        (sample(MR), "CT", "does not look like CT, which the model was made for: its lowest value is 0"),
        (sample(CT), "MR", "looks like CT, which the model was not made for: its lowest value is -1020"),
        (sample(Range(-30000.0, -29000.0, -20000.0)), "CT", "lie in -2.9e\\+04 to -2e\\+04, those of the training in"),
        (sample(Range(-32768.0, -3e4, 3e4)), "CT", "lie in -3e\\+04 to 3e\\+04"),
        (sample(spacing=(4.0, 0.2, 0.2), shape=(60, 2000, 2000)), "CT", "the spacing is 4, 0.2, 0.2 mm"),
        (sample(spacing=(4.0, 20.0, 20.0), shape=(60, 30, 30)), "CT", "the spacing is 4, 20, 20 mm"),
        (sample(shape=(5, 40, 40)), "CT", "it fills 3.9 % of the model's patch: 20, 80, 80 mm"),
    ],
    ids=["ct", "not_looked_at", "body_only", "mr", "mr_on_ct", "ct_on_mr", "below", "wide", "fine", "coarse", "small"],
)
def test_what_a_model_was_not_made_for_is_one_line(
    image: ImageSample, modality: str, says: str | None, seen: Seen | None
) -> None:
    found = doubts_about(image, spec(modality=modality, seen=seen))
    assert len(found) == (says is not None)
    for line in found:
        assert "\n" not in line
        assert re.search(says or "^$", line)


def test_a_field_of_view_below_those_of_the_training_is_told() -> None:
    image = sample(shape=(40, 60, 140))
    assert doubts_about(image, spec()) == []
    assert doubts_about(image, spec(seen=SEEN)) == [
        "it extends over 160, 120, 280 mm (z, y, x), each image of the training over at least 200, 300, 300 mm"
    ]


def test_axes_are_compared_in_the_order_of_the_model() -> None:
    turned = replace(
        sample(), grid=Grid.from_spacing((60, 200, 200), (4.0, 2.0, 2.0)).reordered(AxisOrder.between("SPL", "LPS"))
    )
    assert turned.grid.spacing == (2.0, 2.0, 4.0)
    assert doubts_about(turned, spec(seen=SEEN)) == []


@given(st.floats(0.4, 2.5), st.floats(0.7, 4.0))
def test_images_like_those_of_the_training_are_not_warned_of(scale: float, larger: float) -> None:
    shape = (round(60 * larger / scale), round(200 * larger / scale), round(200 * larger / scale))
    spacing = (4.0 * scale, 2.0 * scale, 2.0 * scale)
    assert doubts_about(sample(shape=shape, spacing=spacing), spec()) == []


def test_the_sample_of_the_package_is_what_its_model_was_made_for() -> None:
    files = sample_files()
    model = load_model(files["model"])
    image = read(files["image"])
    assert doubts_about(ImageSample.of(image, model.spec), model.spec) == []
    mr, _ = phantom("mr")
    assert [line.split(" (")[0] for line in doubts_about(ImageSample.of(mr, model.spec), model.spec)] != []


def test_a_sample_finds_the_range_in_memory_and_in_chunks() -> None:
    data = np.zeros((1, 70, 90, 80), np.int16)
    data[:, :, :20] = -1000
    data[:, 30:40] = 500
    for stored in (data, da.from_array(data, chunks=(1, 16, 16, 16))):
        found = Range.of(sampled(stored, 0))
        assert (found.lowest, found.high) == (-1000, 500)


def test_voxels_that_cannot_be_read_are_reported_by_the_run() -> None:
    class Damaged:
        shape, dtype, chunks = (1, 60, 200, 200), np.dtype(np.int16), (1, 16, 16, 16)

        def __getitem__(self, key: object) -> Any:
            raise RuntimeError("a damaged chunk")

    image = Volume(Damaged(), Grid.from_spacing((60, 200, 200), (4.0, 2.0, 2.0)))
    found = ImageSample.of(image, spec())
    assert found.ranges == (None,)
    assert doubts_about(found, spec()) == []
    with pytest.raises(FileError, match="a damaged chunk"):
        list(iter_segment(image, sample_files()["model"], device="cpu"))


def test_the_run_and_the_command_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sample_files()
    mr, _ = phantom("mr", shape_zyx=(12, 20, 28), spacing_zyx_mm=(20.0, 13.0, 13.0))
    said = [e.message for e in iter_segment(mr, files["model"], device="cpu") if isinstance(e, Notice)]
    assert any("does not look like CT" in line for line in said)
    assert any("the spacing is 20, 13, 13 mm" in line for line in said)
    write(tmp_path / "mr.nii.gz", mr)
    argv = [
        "segment",
        tmp_path / "mr.nii.gz",
        "--model",
        files["model"],
        "-o",
        tmp_path / "out.nii.gz",
        "--device",
        "cpu",
    ]
    assert main([str(a) for a in argv]) == 0
    err = capsys.readouterr().err
    assert all(f"mr: {line}" in err for line in said)
    model = load_model(files["model"]).spec
    assert model.licence in err
    assert model.description.split(".")[0] in err


def test_a_training_records_what_it_saw(tmp_path: Path) -> None:
    pairs = []
    for seed, z in enumerate((3.0, 5.0)):
        image, labels = phantom("ct", seed=seed, shape_zyx=(12, 20, 28), spacing_zyx_mm=(z, 13.0, 13.0))
        pairs.append((image, labels))
    options: dict[str, Any] = {"epochs": 1, "val": 0, "device": "cpu", "arguments": {"channels": (4, 8)}}
    *_, last = iter_train(pairs, out=tmp_path / "m.safetensors", **options)
    made = load_model(last.result.path).spec  # type: ignore[attr-defined]
    seen = made.training.seen
    assert seen is not None
    assert seen.spacing_zyx_mm == ((3.0, 13.0, 13.0), (5.0, 13.0, 13.0))
    assert seen.extent_zyx_mm == pytest.approx((36.0, 260.0, 364.0))
    assert seen.intensity[0][0] < -900
    assert seen.intensity[0][1] > 100
    assert doubts_about(ImageSample.of(pairs[0][0], made), made) == []
    assert isinstance(pairs[0][0], Volume)


def test_a_channel_without_a_name_is_called_one_once() -> None:
    numbered = spec(modality="MR")
    numbered = replace(numbered, channels=(replace(numbered.channels[0], name="channel 0"),))
    assert [line.partition(" looks")[0] for line in doubts_about(sample(), numbered)] == ["channel 0"]
