from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import nn

from napari_medseg.config import InferencePreset, SegmentConfig
from napari_medseg.inference.device import Machine
from napari_medseg.inference.engine import segment_windows
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.io.stored import with_channel_axis
from napari_medseg.io.zarr.array import StoredArray, open_array
from napari_medseg.models.pipeline import Sliding
from napari_medseg.models.presets import doubt_about_preset, lost_by, preset_for
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, TrainingRecord
from napari_medseg.volume import Grid, Segmentation, Volume

MEASURED = {"exact": 0.9, "balanced": 0.899, "fast": 0.89}


def spec(presets: dict[str, float] | None = None, recipe: Recipe | None = None) -> ModelSpec:
    return ModelSpec(
        network="unet3d",
        arguments={"in_channels": 1, "out_channels": 2},
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "liver"},
        patch_zyx=(8, 16, 16),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=True,
        recipe=recipe or Recipe(),
        training=TrainingRecord(presets=presets or {}),
    )


def plan(model: ModelSpec, **knobs: object) -> InferencePlan:
    facts = ImageFacts(Grid.from_spacing((16, 64, 64), (1.0, 1.0, 1.0)), ("CT",))
    return resolve(facts, model, replace(SegmentConfig(), **knobs), Machine())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "presets", "taken"),
    [
        ("auto", {}, "exact"),
        ("auto", MEASURED, "balanced"),
        ("auto", {**MEASURED, "balanced": 0.897}, "exact"),
        ("auto", {"balanced": 0.9}, "exact"),
        ("fast", {}, "fast"),
        ("exact", MEASURED, "exact"),
    ],
)
def test_the_default_is_balanced_where_the_validation_allows_it(
    asked: InferencePreset, presets: dict[str, float], taken: str
) -> None:
    assert preset_for(asked, spec(presets)) == taken
    assert plan(spec(presets), preset=asked).preset == taken


def test_what_a_preset_costs_is_told() -> None:
    assert doubt_about_preset("auto", spec()) is None
    assert doubt_about_preset("exact", spec()) is None
    assert doubt_about_preset("balanced", spec(MEASURED)) is None
    assert "was not measured" in (doubt_about_preset("fast", spec()) or "")
    assert "cost 0.010 Dice" in (doubt_about_preset("fast", spec(MEASURED)) or "")
    assert lost_by("fast", spec()) is None


def test_exact_is_monais_sliding_window_and_a_given_overlap_is_kept() -> None:
    exact = plan(spec())
    assert (exact.overlap, exact.blending, exact.mirror_axes) == (0.5, "gaussian", ())
    given = plan(spec(MEASURED), overlap=0.25)
    assert (given.preset, given.overlap, given.blending) == ("exact", 0.25, "gaussian")
    fast = plan(spec(), preset="fast", overlap=0.25)
    assert (fast.preset, fast.overlap, fast.blending) == ("fast", 0.25, "core")
    assert len(plan(spec(), preset="fast").windows) < len(exact.windows)


@pytest.mark.parametrize(
    ("preset", "tta", "mirrored", "axes", "which"),
    [
        ("exact", False, True, (0, 2), "all"),
        ("balanced", False, True, (0, 2), "spread"),
        ("fast", False, True, (), "uncertain"),
        ("fast", True, True, (0, 2), "uncertain"),
        ("exact", False, False, (), "all"),
        ("exact", True, False, (0, 2), "all"),
    ],
)
def test_a_run_mirrors_as_the_makers_do_or_as_asked(
    preset: InferencePreset, tta: bool, mirrored: bool, axes: tuple[int, ...], which: str
) -> None:
    found = plan(spec(recipe=Recipe(mirror_axes=(0, 2), mirrored=mirrored)), preset=preset, tta=tta)
    assert (found.mirror_axes, found.mirroring) == (axes, which)
    assert ("mirrored" in found.describe()) == bool(axes)


@pytest.mark.parametrize(
    ("knobs", "overlap", "axes"),
    [
        ({"preset": "exact"}, 0.7, (0, 2)),
        ({"preset": "exact", "overlap": 0.25}, 0.25, (0, 2)),
        ({"preset": "balanced"}, 0.375, (0, 2)),
        ({"preset": "fast"}, 0.25, ()),
    ],
)
def test_windows_of_another_program_are_averaged_whatever_the_preset(
    knobs: dict[str, object], overlap: float, axes: tuple[int, ...]
) -> None:
    model = replace(
        spec(recipe=Recipe(mirror_axes=(0, 2), mirrored=True)), sliding=Sliding(overlap=0.7, positions="even")
    )
    found = plan(model, **knobs)
    assert (found.overlap, found.blending, found.averaged_axes) == (overlap, "gaussian", axes)
    assert found.windows.placing == "nnunet"
    assert found.slab_bytes == 2 * 4 * 16 * 64 * 64, "the whole image"


def test_mirrors_are_spread_over_the_axes_that_have_several_windows() -> None:
    facts = ImageFacts(Grid.from_spacing((8, 32, 64), (1.0, 1.0, 1.0)), ("CT",))
    model = spec(recipe=Recipe(mirror_axes=(0, 1), mirrored=True))
    found = resolve(facts, model, SegmentConfig(preset="balanced"), Machine())
    assert (found.spread_axes, found.averaged_axes) == ((1,), (0,))
    exact = resolve(facts, model, SegmentConfig(preset="exact"), Machine())
    assert (exact.spread_axes, exact.averaged_axes) == ((), (0, 1))


@pytest.mark.parametrize("preset", ["exact", "balanced", "fast"])
@pytest.mark.parametrize("reach", [1, 3])
def test_mirrors_go_back_to_their_place(preset: InferencePreset, reach: int) -> None:
    """A network of single voxels gives the same labels, mirrored or not; one that looks around it does not."""
    torch.manual_seed(0)
    model = spec(recipe=Recipe(mirror_axes=(0, 1, 2)))
    network = nn.Conv3d(1, 2, reach, padding=reach // 2)
    data = np.random.default_rng(0).normal(size=(1, 12, 24, 40)).astype(np.float32)
    volume = Volume(data, Grid.from_spacing(data.shape[1:], (1.0, 1.0, 1.0)), ("CT",))
    found = []
    for tta in (False, True):
        facts, wishes = ImageFacts.of(volume), SegmentConfig(preset=preset, tta=tta)
        chosen = resolve(facts, model, wishes, Machine())
        predictor = Predictor.of(network, model, torch.device("cpu"), "fp32").mirrored_as(chosen)
        result = Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid, model.labels)
        for _ in segment_windows(volume, chosen, predictor, result):
            pass
        found.append(np.asarray(result.data))
    plain, mirrored = found
    assert bool(np.array_equal(plain, mirrored)) == (reach == 1)


class BrightOnly(nn.Module):
    """Label 1 where the voxel is above 0; it counts its windows."""

    windows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.windows += len(x)
        return torch.cat([-x, x], dim=1)


@pytest.mark.parametrize("preset", ["exact", "balanced", "fast"])
@pytest.mark.parametrize("background", [-1.0, 1.0])
def test_windows_of_one_value_are_run_once(preset: InferencePreset, background: float) -> None:
    model = replace(spec(), normalisation=(Normalisation(kind="none"),))
    data = np.full((1, 16, 64, 64), background, np.float32)
    data[0, 4:9, 2:9, 3:12] = 2.0
    volume = Volume(data, Grid.from_spacing(data.shape[1:], (1.0, 1.0, 1.0)), ("CT",))
    chosen = resolve(ImageFacts.of(volume), model, SegmentConfig(preset=preset), Machine())
    network = BrightOnly()
    result = Segmentation(np.zeros(volume.grid.shape, np.uint8), volume.grid, model.labels)
    for _ in segment_windows(volume, chosen, Predictor.of(network, model, torch.device("cpu"), "fp32"), result):
        pass
    assert np.array_equal(np.asarray(result.data), data[0] > 0)
    ends = chosen.windows.window
    inside = [
        data[0][tuple(slice(c, c + n) for c, n in zip((z, y, x), ends, strict=True))]
        for z, _, corners in chosen.windows.rows()
        for y, x in corners
    ]
    several = sum(len(np.unique(window)) > 1 for window in inside)
    assert 0 < several < len(inside) - 1
    assert network.windows == several + 1, "of one value one is run, whether it is background or not"


@pytest.mark.parametrize("preset", ["exact", "fast"])
@pytest.mark.parametrize("absent", [-1.0, 1.0])
def test_what_is_not_on_the_disk_is_not_read(
    preset: InferencePreset, absent: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, there = (16, 64, 64), (slice(8, 16), slice(48, 64), slice(32, 48))
    array = zarr.create_array(tmp_path / "a.zarr", shape=shape, chunks=(8, 16, 16), dtype="f4", fill_value=absent)
    array[there] = np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32)
    reads: list[tuple[slice, ...]] = []
    read = StoredArray._read

    def noted(self: StoredArray, wanted: tuple[slice, ...]) -> Any:
        reads.append(wanted)
        return read(self, wanted)

    monkeypatch.setattr(StoredArray, "_read", noted)
    stored = with_channel_axis(open_array(tmp_path / "a.zarr"))
    model = replace(spec(), normalisation=(Normalisation(kind="none"),))
    found = []
    for data in (stored, np.asarray(array[...])[None]):
        volume = Volume(data, Grid.from_spacing(shape, (1.0, 1.0, 1.0)), ("CT",))
        chosen = resolve(ImageFacts.of(volume), model, SegmentConfig(preset=preset), Machine())
        result = Segmentation(np.zeros(shape, np.uint8), volume.grid, model.labels)
        predictor = Predictor.of(BrightOnly(), model, torch.device("cpu"), "fp32")
        for _ in segment_windows(volume, chosen, predictor, result):
            pass
        found.append(np.asarray(result.data))
    lazily, in_memory = found
    assert np.array_equal(lazily, in_memory)
    assert len(np.unique(lazily)) == 2
    assert reads
    assert all(a.start < b.stop and b.start < a.stop for box in reads for a, b in zip(box, there, strict=True))
