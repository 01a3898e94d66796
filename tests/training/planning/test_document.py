"""A plan fits the machine, is a file that can be changed, and is followed; a hostile file is refused in one line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_medseg as ms
from balls import LABELS, segmentation, volume
from napari_medseg import Grid, Segmentation, Volume, registry
from napari_medseg.architectures.costs import Costs
from napari_medseg.config import TrainConfig
from napari_medseg.errors import FileError, InputError
from napari_medseg.models.recipe import Recipe
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.training.planning.document import Plan, load_plan
from napari_medseg.training.planning.fitting import Candidate, chosen
from napari_medseg.training.planning.fitting import measured_pace as measured

SMALL = {"arguments": {"channels": (4, 8)}}
CASES = [(volume(seed=seed), segmentation()) for seed in range(2)]
CPU = torch.device("cpu")


def slow(spec: ModelSpec, device: torch.device) -> float:
    """A machine of 1e9 multiply-adds in a second."""
    return 1e9


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ms.plan(CASES, val=0.0, device="cpu", minutes=2.0, pace=slow, **SMALL)


def test_the_plan_is_that_of_a_training_with_its_costs(plan: Plan) -> None:
    assert plan.spec.patch_zyx == (12, 20, 16)
    assert dict(plan.spec.labels) == LABELS
    network = registry.network("unet3d").build_from(plan.spec.arguments)
    assert plan.estimate.parameters == sum(p.numel() for p in network.parameters())
    assert plan.estimate.steps == int(120 / plan.estimate.step_seconds)
    assert plan.tried[0].startswith("chosen: patch 12x20x16, 2 in a step")
    assert plan.describe()[0].startswith("unet3d in mode 3d: patches of 12x20x16 at 2, 1, 1 mm, 2 in a step")


def test_a_plan_goes_through_its_file(plan: Plan, tmp_path: Path) -> None:
    plan.write(tmp_path / "plan.json")
    again = load_plan(tmp_path / "plan.json")
    assert again.to_json() == plan.to_json()
    assert (again.batch_size, again.estimate, again.tried) == (plan.batch_size, plan.estimate, plan.tried)


def test_a_training_without_augmentation_mirrors_nothing_whatever_the_plan_says(plan: Plan, tmp_path: Path) -> None:
    mirrored = replace(plan, spec=replace(plan.spec, recipe=Recipe(mirror_axes=(0, 2))))
    options: dict[str, Any] = {"plan": mirrored, "epochs": 1, "val": 0.0, "device": "cpu", "augment": False}
    assert ms.train(CASES, out=tmp_path / "m.safetensors", **options).spec.recipe.mirror_axes == ()


def test_a_changed_plan_is_followed(plan: Plan, tmp_path: Path) -> None:
    document = json.loads(plan.to_json())
    document["model"]["patch_zyx"] = [8, 8, 8]
    document["model"]["labels"]["7"] = "planned, and in no case yet"
    document["model"]["arguments"]["out_channels"] = 4
    document["model"]["recipe"] = asdict(Recipe(mirror_axes=(0, 2)))
    document["batch_size"] = 1
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    model = ms.train(CASES, plan=path, out=tmp_path / "m.safetensors", epochs=1, val=0.0, device="cpu")
    assert model.spec.patch_zyx == (8, 8, 8)
    assert model.spec.recipe.mirror_axes == (0, 2)
    assert model.spec.arguments["channels"] == (4, 8)
    assert set(model.spec.labels) == {1, 2, 7}
    assert model.spec.training.cases == 2
    steps = json.loads((tmp_path / "m.training" / "history.json").read_text())["losses"]
    assert len(steps) == 2 * round(12 * 20 * 16 / 8**3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"network": "vnet"}, "network vnet does not go with the plan, which is of network unet3d"),
        ({"batch_size": 5}, "batch_size 5 does not go with the plan, which has 2"),
        ({"cascade": "detect"}, "cascade detect does not go with the plan, which has none"),
        ({"spacing_zyx_mm": (3.0, 3.0, 3.0)}, "spacing_zyx_mm"),
        ({"mode": "2d"}, "mode 2d does not go with the plan, which is of mode 3d"),
        ({"patch_zyx": (8, 8, 8)}, r"patch_zyx \(8, 8, 8\) does not go with the plan, which has \(12, 20, 16\)"),
        ({"mirror": "all"}, "mirror all does not go with the plan, which mirrors along no axis"),
        ({"ignore_label": 2}, "the plan learns label 2, which is to be ignored"),
    ],
    ids=["network", "batch", "cascade", "spacing", "mode", "patch", "mirror", "ignored label"],
)
def test_what_contradicts_a_plan_is_refused(plan: Plan, options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        ms.train(CASES, plan=plan, out=tmp_path / "m.safetensors", epochs=1, val=0.0, device="cpu", **options)


def test_cases_that_a_plan_was_not_made_for_are_refused(plan: Plan, tmp_path: Path) -> None:
    wide = [(volume(channels=2), segmentation())]
    other = Segmentation(np.where(np.asarray(segmentation().data) > 0, 9, 0), volume().grid, {9: "liver"})
    options: dict[str, Any] = {"plan": plan, "out": tmp_path / "m.safetensors", "val": 0.0, "device": "cpu"}
    with pytest.raises(InputError, match="the cases have 2 channels, the plan 1"):
        ms.train(wide, **options)
    with pytest.raises(InputError, match=r"the plan has no label .*liver.*, which the cases hold: plan them again"):
        ms.train([(volume(), other)], **options)


def test_strokes_on_the_background_are_no_label_of_a_plan() -> None:
    strokes = {"weak": "scribbles", "background_label": 2}
    made = ms.plan(CASES, val=0.0, device="cpu", pace=slow, **strokes, **SMALL)
    assert list(made.spec.labels) == [1]


def test_a_cascade_is_planned_and_followed(tmp_path: Path) -> None:
    plan = ms.plan(CASES, val=0.0, device="cpu", cascade="coarse-to-fine", pace=slow, **SMALL)
    assert plan.spec.first is not None
    model = ms.train(CASES, plan=plan, out=tmp_path / "m.safetensors", epochs=1, val=0.0, device="cpu")
    assert model.spec.first is not None
    assert model.spec.first.model.spacing_zyx_mm == plan.spec.first.model.spacing_zyx_mm


def candidates(sizes: dict[int, int]) -> list[Candidate]:
    """{edge of the patch: MiB of a patch}, each with a second a step for an edge of 64."""
    found = []
    for edge, mib in sizes.items():
        spec = registry.network("unet3d").arguments(in_channels=1, out_channels=2)
        model = ModelSpec(
            network="unet3d",
            arguments=spec,
            channels=volume_channels(),
            labels={1: "a"},
            patch_zyx=(edge, edge, edge),
            spacing_zyx_mm=(1.0, 1.0, 1.0),
            normalisation=(Normalisation(kind="zscore"),),
            deep_supervision=True,
        )
        found.append(Candidate(model, 2, Costs(0, 1, mib << 20), (edge / 64) ** 3))
    return found


def volume_channels() -> Any:
    return (Channel(name="CT", modality="CT"),)


@pytest.mark.parametrize(
    ("free_mib", "minutes", "edge"),
    [(4096, None, 128), (2000, None, 64), (100, None, 32), (4096, 20.0, 64), (4096, 0.1, 32)],
    ids=["all fit", "memory for 64", "none fits", "time for 64", "time for none"],
)
def test_the_largest_patch_that_memory_and_time_allow(free_mib: int, minutes: float | None, edge: int) -> None:
    tried = candidates({128: 1000, 64: 400, 32: 100})
    plan = chosen(tried, CPU, free_mib << 20, minutes)
    assert plan.spec.patch_zyx == (edge,) * 3
    assert len(plan.tried) == 3
    assert sum(line.startswith("chosen") for line in plan.tried) == 1
    assert bool(plan.notes) == (free_mib == 100)


def test_a_gpu_with_room_takes_more_patches_in_a_step() -> None:
    plan = chosen(candidates({64: 100}), torch.device("cuda"), 1000 << 20, None)
    assert plan.batch_size == 8  # 2 become 8 of 100 MiB in 850 MiB


def test_the_pace_is_measured() -> None:
    spec = ms.plan(CASES, val=0.0, device="cpu", pace=slow, **SMALL).spec
    assert measured(spec, CPU) > 1e5


def test_thick_slices_are_planned_with_kernels_of_their_own() -> None:
    grid = Grid.from_spacing((12, 32, 32), (3.6, 0.6, 0.6))
    image = np.random.default_rng(0).normal(size=(1, 12, 32, 32)).astype(np.float32)
    labels = np.zeros((12, 32, 32), np.uint8)
    labels[5:9, 10:20, 10:20] = 1
    case = (Volume(image, grid), Segmentation(labels, grid))
    spec = ms.plan([case], network="nnunet", val=0.0, device="cpu", pace=slow).spec
    kernels, strides = spec.arguments["kernel_sizes"], spec.arguments["strides"]
    assert isinstance(kernels, tuple)
    assert isinstance(strides, tuple)
    assert kernels[:6] == (1, 3, 3, 1, 3, 3)
    assert strides[:9] == (1, 1, 1, 1, 2, 2, 1, 2, 2)
    network = registry.network("nnunet").build_from(spec.arguments).eval()
    assert network(torch.zeros((1, 1, *spec.patch_zyx))).shape == (1, 2, *spec.patch_zyx)


HOSTILE = {
    "no JSON": ("{", "not JSON"),
    "list": ("[]", "a plan must be a JSON object"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "NaN": ('{"batch_size": NaN}', "NaN is no JSON number"),
    "twice": ('{"notes": [], "notes": []}', "is there twice"),
}
CHANGED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "unknown key": (("code",), "import os", "an unknown key 'code'"),
    "schema": (("napari_medseg_plan",), 2, "a plan needs napari_medseg_plan 1"),
    "batch": (("batch_size",), 10**9, "batch_size must be a whole number from 1 to 4096"),
    "batch of True": (("batch_size",), True, "batch_size must be a whole number"),
    "lines": (("tried",), ["x" * 5000], "tried must be at most 64 lines"),
    "memory": (("estimate", "memory_bytes"), -1, "estimate memory_bytes must be a number from 0 on"),
    "device": (("estimate", "device"), "\x1b[31m", "estimate device must be a short name"),
    "patch": (("model", "patch_zyx"), [10**9, 1, 1], "patch_zyx"),
    "no spacing": (("model", "spacing_zyx_mm"), None, "a plan states its spacing"),
    "network": (("model", "network"), "os.system", "os.system"),
    "features": (("model", "arguments", "channels"), [10**12], "channels"),
    "spec": (("model",), None, "the ModelSpec"),
}


@pytest.mark.parametrize("name", [*HOSTILE, *CHANGED])
def test_a_hostile_plan_is_refused_in_one_line(name: str, plan: Plan, tmp_path: Path) -> None:
    if name in HOSTILE:
        text, reason = HOSTILE[name]
    else:
        where, value, reason = CHANGED[name]
        document = json.loads(plan.to_json())
        inside = document
        for key in where[:-1]:
            inside = inside[key]
        inside[where[-1]] = value
        text = json.dumps(document)
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(FileError, match=reason) as refused:
        load_plan(path)
    assert str(refused.value).startswith(f"{path}: not a plan: ")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_plan_is_for_one_config() -> None:
    with pytest.raises(InputError, match="a detector is planned when it is trained"):
        ms.plan(CASES, config=TrainConfig(cascade="detect"), pace=slow)
