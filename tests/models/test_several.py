from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from config_mutations import fuzz_sets
from napari_medseg import Grid, Model, Volume, iter_segment, read_segmentation, registry, segment, write
from napari_medseg.arrays.boxes import BoxND
from napari_medseg.arrays.views import BasicIndexed
from napari_medseg.cli import main
from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
from napari_medseg.events import Filled, Notice, Progress
from napari_medseg.inference import engine
from napari_medseg.inference.plan import InferencePlan
from napari_medseg.inference.predictor import Predictor, load_predictor
from napari_medseg.models.file import write_model
from napari_medseg.models.presets import preset_for
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.several import Ensemble, ModelSet, as_models, averaged, models_of
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, TrainingRecord

WINDOW = (8, 8, 8)


def model(folder: Path, name: str, seed: int, **changes: Any) -> Model:
    labels = changes.pop("labels", {1: "liver", 2: "spleen"})
    network = registry.network("unet3d")
    arguments = network.arguments(in_channels=1, out_channels=len(labels) + 1, channels=(4, 4), deep_supervision=False)
    fields: dict[str, Any] = {
        "network": "unet3d",
        "arguments": arguments,
        "channels": (Channel(name="image", modality="other"),),
        "labels": labels,
        "patch_zyx": WINDOW,
        "normalisation": (Normalisation(kind="none"),),
        "deep_supervision": False,
    }
    torch.manual_seed(seed)
    return write_model(
        folder / f"{name}.safetensors", ModelSpec(**(fields | changes)), network.build_from(arguments).state_dict()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    model(made, "a", 1)
    model(made, "b", 2)
    model(made, "kidney", 3, labels={3: "kidney"})
    return made


@pytest.fixture(scope="module")
def volume() -> Volume:
    data = np.random.default_rng(0).normal(size=(1, 8, 12, 8)).astype(np.float32)
    return Volume(data, Grid.from_spacing((8, 12, 8), (1.0, 1.0, 1.0)), name="image")


def labels_of(volume: Volume, models: Any, **knobs: Any) -> Any:
    return np.asarray(segment(volume, models, device="cpu", **knobs).data[...])


def write_set(folder: Path, *members: object, **more: object) -> Path:
    path = folder / "set.json"
    path.write_text(json.dumps({"napari_medseg_set": 1, "members": list(members), **more}))
    return path


def test_models_of_the_same_labels_are_averaged(folder: Path) -> None:
    names = [folder / "a.safetensors", folder / "b.safetensors"]
    together = as_models(names)
    assert isinstance(together, Ensemble)
    x = torch.randn(1, 1, *WINDOW)
    with torch.no_grad():
        logits = [as_models(name).load_network()(x) for name in names]  # type: ignore[union-attr]
        torch.testing.assert_close(together.load_network()(x), (logits[0] + logits[1]) / 2)
    assert together.sha256 not in [member.sha256 for member in together.members]
    assert as_models(names[:1]) == as_models(names[0])
    assert as_models(together) is together


def test_names_spelled_otherwise_are_the_same_labels(folder: Path, tmp_path: Path) -> None:
    """They are averaged, or share an id of a set."""
    one = as_models(folder / "a.safetensors")
    assert isinstance(one, Model)
    spelled = model(tmp_path, "spelled", 3, labels={1: "Liver", 2: "SPLEEN"})
    assert isinstance(as_models([one, spelled]), Ensemble)
    more = model(tmp_path, "more", 3, labels={1: "LIVER", 3: "left-kidney"})
    assert as_models([one, more]).labels == {1: "liver", 2: "spleen", 3: "left-kidney"}  # type: ignore[union-attr]


def test_models_that_see_images_differently_are_not_averaged(folder: Path, tmp_path: Path) -> None:
    one, other = as_models(folder / "a.safetensors"), model(tmp_path, "c", 3, patch_zyx=(8, 8, 16))
    assert isinstance(one, Model)
    with pytest.raises(InputError, match=r"cannot be averaged: their patch_zyx differ"):
        averaged([one, other])
    with pytest.raises(InputError, match="no model is given"):
        as_models([])


def test_an_ensemble_takes_for_good_what_is_good_for_each_member(tmp_path: Path) -> None:
    mirrored = model(tmp_path, "m", 3, recipe=Recipe(mirror_axes=(0, 2)))
    plain = model(tmp_path, "p", 3, bf16_ok=True, training=TrainingRecord(presets={"exact": 0.9, "balanced": 0.9}))
    worse = model(tmp_path, "w", 4, training=TrainingRecord(presets={"exact": 0.9, "balanced": 0.8}))
    assert averaged([plain, mirrored]).spec.recipe.mirror_axes == ()
    more = model(tmp_path, "more", 3, recipe=Recipe(mirror_axes=(1, 2)))
    assert averaged([mirrored, more]).spec.recipe == Recipe(mirror_axes=(2,))
    makers = model(tmp_path, "makers", 3, recipe=Recipe(mirror_axes=(0, 2), mirrored=True))
    with pytest.raises(InputError, match=r"their mirrored differ \(False, True\)"):
        averaged([makers, mirrored])
    assert averaged([makers, makers]).spec.recipe == makers.spec.recipe
    assert preset_for("auto", plain.spec) == "balanced"
    for members in ([plain, worse], [worse, plain], [plain, model(tmp_path, "n", 5)]):
        together = averaged(members)
        assert preset_for("auto", together.spec) == "exact"
        assert not together.spec.bf16_ok
    assert averaged([plain, plain]).spec == plain.spec


def test_models_of_other_labels_are_merged_and_the_first_decides(folder: Path, volume: Volume) -> None:
    first, second = folder / "a.safetensors", folder / "kidney.safetensors"
    a, kidney = labels_of(volume, first), labels_of(volume, second)
    merged = labels_of(volume, [first, second])
    assert np.array_equal(merged, np.where(a > 0, a, kidney))
    assert {1, 2, 3} <= set(np.unique(merged))
    result = segment(volume, [first, second], device="cpu")
    assert dict(result.labels) == {1: "liver", 2: "spleen", 3: "kidney"}


def test_a_set_maps_and_leaves_out_labels_and_fills_a_store(folder: Path, volume: Volume, tmp_path: Path) -> None:
    path = write_set(
        folder, {"model": "kidney.safetensors", "labels": {"3": 9}}, {"model": "a.safetensors", "labels": {"2": 2}}
    )
    found = as_models(path)
    assert isinstance(found, ModelSet)
    assert dict(found.labels) == {2: "spleen", 9: "kidney"}
    assert [one.path.stem for one in models_of(found)] == ["kidney", "a"]
    a, kidney = labels_of(volume, folder / "a.safetensors"), labels_of(volume, folder / "kidney.safetensors")
    expected = np.where(kidney == 3, 9, np.where(a == 2, 2, 0))
    for _ in iter_segment(volume, path, out=tmp_path / "labels.zarr", device="cpu"):
        # What a kill leaves of a member goes when the labels are written the next time.
        beside = {f.name for f in tmp_path.iterdir()} - {"labels.zarr"}
        assert all(name.startswith(".medseg-") or name.endswith(".lock") for name in beside)
    assert np.array_equal(np.asarray(read_segmentation(tmp_path / "labels.zarr").data[...]), expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.zarr"]
    with pytest.raises(NotSupportedError, match="gives labels only"):
        segment(volume, path, probabilities=tmp_path / "p.zarr", device="cpu")


class Bright(nn.Module):
    """Logits of two labels: the second where the image is above 5, the first where it is above 3."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(x, 0.5), (x > 3).float(), 2.0 * (x > 5)], 1)


class Recorded(BasicIndexed):
    """An array that is not in memory, and notes which boxes are read of it."""

    def __init__(self, values: Any) -> None:
        self._values, self.boxes = values, list[BoxND]()
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, (1, 4, 4, 4)

    def _read(self, wanted: BoxND) -> Any:
        self.boxes.append(wanted)
        return self._values[wanted]


@pytest.fixture
def body(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set whose crop finds what is bright."""
    model(folder, "body", 5, labels={1: "arm", 2: "trunk"})

    def known(chosen: Model, plan: InferencePlan) -> Predictor:
        if chosen.path.stem != "body":
            return load_predictor(chosen, plan)
        return Predictor.of(Bright(), plan.spec, torch.device("cpu"), "fp32")

    monkeypatch.setattr(engine, "load_predictor", known)
    return write_set(
        folder,
        {"model": "kidney.safetensors"},
        {"model": "body.safetensors", "role": "crop", "labels": [2], "margin_mm": 2.5},
        {"model": ["a.safetensors", "b.safetensors"]},
    )


def test_a_set_looks_in_the_box_that_its_crop_finds(body: Path, folder: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 12, 20, 16)).astype(np.float32).clip(-2, 2)
    values[0, 5, 9:11, 8] = 9
    values[0, 1, 1, 1] = 4  # an arm, which the box is not around
    recorded = Recorded(values)
    image = Volume(recorded, Grid.from_spacing((12, 20, 16), (2.0, 1.0, 1.0), (5.0, 6.0, 7.0)), name="ct")
    box = (slice(4, 7), slice(7, 13), slice(6, 11))
    events = list(iter_segment(image, body, out=tmp_path / "labels.zarr", device="cpu"))
    found = np.asarray(read_segmentation(tmp_path / "labels.zarr").data[...])
    part = Volume(values[(slice(None), *box)], Grid.from_spacing((3, 6, 5), (2.0, 1.0, 1.0), (13.0, 13.0, 13.0)))
    kidney = labels_of(part, folder / "kidney.safetensors")
    organs = labels_of(part, [folder / "a.safetensors", folder / "b.safetensors"])
    expected = np.zeros((12, 20, 16), int)
    expected[box] = np.where(kidney > 0, kidney, organs)
    assert np.array_equal(found, expected)
    assert {1, 2, 3} & set(np.unique(found)) == set(np.unique(found)) - {0} != set()
    told = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert told == sorted(told)
    assert told[-1] == (3, 3)
    assert [event.box for event in events if isinstance(event, Filled)] == [box]
    reads = recorded.boxes
    assert all(s.stop - s.start > 0 for read in reads for s in read)
    last = max(i for i, read in enumerate(reads) if not inside_of(read[1:], box))
    after = reads[last + 1 :]
    assert len(after) > 2, "the members read on their own"
    assert math.prod(s.stop - s.start for s in hull(after)) <= 3 * 6 * 5
    values[0, 0], values[0, :, 0], values[0, :, :, -1] = -2, 2, 1  # what lies outside changes nothing
    assert np.array_equal(labels_of(replace(image, data=values), body), expected)


def inside_of(read: BoxND, box: BoxND) -> bool:
    return all(b.start <= r.start and r.stop <= b.stop for r, b in zip(read, box, strict=True))


def hull(reads: list[BoxND]) -> BoxND:
    sides = zip(*(read[1:] for read in reads), strict=True)
    return tuple(slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)


def test_a_crop_that_finds_nothing_leaves_the_whole_image(body: Path, folder: Path, volume: Volume) -> None:
    notices = [e.message for e in iter_segment(volume, body, device="cpu") if isinstance(e, Notice)]
    assert "body: nothing was found to crop to: the whole image is segmented" in notices
    plain = [folder / "a.safetensors", folder / "b.safetensors"]
    kidney, organs = labels_of(volume, folder / "kidney.safetensors"), labels_of(volume, plain)
    assert np.array_equal(labels_of(volume, body), np.where(kidney > 0, kidney, organs))


def test_a_crop_counts_in_what_a_set_is(body: Path) -> None:
    found = as_models(body)
    assert isinstance(found, ModelSet)
    assert found.crop is not None
    assert [one.path.stem for one in models_of(found)] == ["kidney", "a", "body"]
    assert (
        len(
            {
                found.sha256,
                replace(found, crop=None).sha256,
                replace(found, crop=replace(found.crop, margin_mm=3)).sha256,
            }
        )
        == 3
    )


SETS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not_json": (lambda f: (f / "set.json").write_text("{"), "not JSON"),
    "other_json": (lambda f: (f / "set.json").write_text("[]"), "a set of models is"),
    "more": (lambda f: write_set(f, {"model": "a.safetensors"}, more=1), "a set of models is"),
    "combined_otherwise": (lambda f: write_set(f, {"model": "a.safetensors"}, combine="vote"), "combine is average or"),
    "averaged_and_mapped": (
        lambda f: write_set(f, {"model": "kidney.safetensors", "labels": {"3": 1}}, combine="average"),
        "keep their ids",
    ),
    "averaged_and_other": (
        lambda f: write_set(f, {"model": "a.safetensors"}, {"model": "kidney.safetensors"}, combine="average"),
        "their labels differ",
    ),
    "empty": (lambda f: write_set(f), "1 to 64"),
    "elsewhere": (lambda f: write_set(f, {"model": "../a.safetensors"}), "without folders"),
    "unknown_label": (
        lambda f: write_set(f, {"model": "a.safetensors", "labels": {"7": 1}}),
        "labels of a.safetensors",
    ),
    "label_0": (lambda f: write_set(f, {"model": "a.safetensors", "labels": {"1": 0}}), "label id"),
    "two_names": (
        lambda f: write_set(f, {"model": "a.safetensors"}, {"model": "kidney.safetensors", "labels": {"3": 1}}),
        "label 1 .kidney. is liver",
    ),
    "absent": (lambda f: write_set(f, {"model": "none.safetensors"}), "no such file"),
    "no_name": (lambda f: write_set(f, {"model": []}), "a member is one model, or several"),
    "too_many": (lambda f: write_set(f, *[{"model": ["a.safetensors"] * 13}] * 5), "at most 64 models"),
    "not_alike": (lambda f: write_set(f, {"model": ["a.safetensors", "kidney.safetensors"]}), "their labels differ"),
    "another_role": (lambda f: write_set(f, {"model": "a.safetensors", "role": "judge"}), "a member is"),
    "crop_alone": (lambda f: write_set(f, {"model": "a.safetensors", "role": "crop"}), "one crop at most"),
    "two_crops": (
        lambda f: write_set(f, {"model": "b.safetensors"}, *[{"model": "a.safetensors", "role": "crop"}] * 2),
        "one crop at most",
    ),
    "crop_of_no_label": (
        lambda f: write_set(f, {"model": "b.safetensors"}, {"model": "a.safetensors", "role": "crop", "labels": [7]}),
        "the labels of a.safetensors are 1, 2; got .7.",
    ),
    "crop_margin": (
        lambda f: write_set(f, {"model": "b.safetensors"}, {"model": "a.safetensors", "role": "crop", "margin_mm": -1}),
        "margin_mm must be a number from 0",
    ),
    "crop_averaged": (
        lambda f: write_set(
            f, {"model": "b.safetensors"}, {"model": "a.safetensors", "role": "crop"}, combine="average"
        ),
        "a member is",
    ),
}


@pytest.mark.parametrize("case", list(SETS))
def test_sets_that_are_none(folder: Path, case: str) -> None:
    make, message = SETS[case]
    make(folder)
    with pytest.raises(ModelFileError, match=message):
        as_models(folder / "set.json")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_set_crashes(count: int, folder: Path) -> None:
    crop = {"model": "a.safetensors", "role": "crop", "labels": [1], "margin_mm": 2.5}
    averaged = {"model": ["a.safetensors", "b.safetensors"], "labels": {"1": 1, "2": 2}}
    assert 0 < fuzz_sets(count, write_set(folder, {"model": "kidney.safetensors"}, averaged, crop)) < count


def test_the_command_takes_several_models(folder: Path, volume: Volume, tmp_path: Path) -> None:
    write(tmp_path / "image.nii.gz", volume)
    names = [folder / "a.safetensors", folder / "kidney.safetensors"]
    models = [argument for name in names for argument in ("--model", str(name))]
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(tmp_path / "image.nii.gz"), *models, "-o", str(out), "--device", "cpu"]) == 0
    written = read_segmentation(out)
    assert np.array_equal(np.asarray(written.data[...]), labels_of(replace(volume), names))
