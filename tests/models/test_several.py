from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_medseg import Grid, Model, Volume, iter_segment, read_segmentation, registry, segment, write
from napari_medseg.cli import main
from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
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
    with pytest.raises(InputError, match="their recipe differ"):
        averaged([plain, mirrored])
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
}


@pytest.mark.parametrize("case", list(SETS))
def test_sets_that_are_none(folder: Path, case: str) -> None:
    make, message = SETS[case]
    make(folder)
    with pytest.raises(ModelFileError, match=message):
        as_models(folder / "set.json")


def test_the_command_takes_several_models(folder: Path, volume: Volume, tmp_path: Path) -> None:
    write(tmp_path / "image.nii.gz", volume)
    names = [folder / "a.safetensors", folder / "kidney.safetensors"]
    models = [argument for name in names for argument in ("--model", str(name))]
    out = tmp_path / "labels.nii.gz"
    assert main(["segment", str(tmp_path / "image.nii.gz"), *models, "-o", str(out), "--device", "cpu"]) == 0
    written = read_segmentation(out)
    assert np.array_equal(np.asarray(written.data[...]), labels_of(replace(volume), names))
