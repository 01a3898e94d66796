"""What a run takes, from values made up here: no model file, no voxel, no hardware."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from napari_medseg import Grid, Volume, registry
from napari_medseg.architectures.modes import in_mode
from napari_medseg.config import SegmentConfig
from napari_medseg.geometry import AxisOrder, Shape3, Triple
from napari_medseg.inference.device import Machine
from napari_medseg.inference.plan import ImageFacts, InferencePlan, resolve
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, Stage
from napari_medseg.training.planning.facts import CaseFacts


def model_spec(inputs: int = 1, **changes: Any) -> ModelSpec:
    dims = 3 if changes.get("mode", "3d") == "3d" else 2
    fields: dict[str, Any] = {
        "network": "unet3d",
        "arguments": registry.network("unet3d").arguments(
            in_channels=inputs, out_channels=3, channels=(4, 8), deep_supervision=False, spatial_dims=dims
        ),
        "channels": (Channel(name="image", modality="other"),),
        "labels": {1: "one", 2: "two"},
        "patch_zyx": (8, 16, 16),
        "normalisation": (Normalisation(kind="zscore"),),
        "deep_supervision": False,
    }
    return ModelSpec(**(fields | changes))


def image(shape: Shape3 = (20, 30, 40), spacing: Triple = (2.0, 1.0, 1.0)) -> ImageFacts:
    return ImageFacts(Grid.from_spacing(shape, spacing), ("image",))


def plan_of(facts: ImageFacts, spec: ModelSpec, machine: Machine | None = None, **wishes: Any) -> InferencePlan:
    return resolve(facts, spec, SegmentConfig(**wishes), machine or Machine())


def test_a_plan_by_hand() -> None:
    plan = plan_of(image((16, 24, 32)), model_spec(), overlap=0.5, batch_size=2)
    assert plan.order.is_identity
    assert plan.grid.shape == plan.image_grid.shape == (16, 24, 32)
    assert all(m.is_identity for m in (*plan.to_model, *plan.to_image))
    assert plan.windows.starts_zyx == ([0, 4, 8], [0, 8], [0, 8, 16])
    assert (plan.inputs, plan.halo, plan.batch_size, plan.first) == (1, 0, 2, None)
    assert plan.accumulator_bytes == 8 * 3 * 24 * 32 * 4  # planes of a window, classes, rows, columns, float32
    assert plan.describe() == "cpu fp32: 18 windows of 8x16x16 on 16x24x32 voxels; about 0 MiB beside the network"


def test_the_models_axes_and_spacing() -> None:
    facts = ImageFacts(image((20, 30, 40)).grid.reordered(AxisOrder.between("SPL", "LIA")), ("image",))
    plan = plan_of(facts, model_spec(orientation="SPL", spacing_zyx_mm=(4.0, 1.5, 2.0)))
    assert facts.grid.shape == (40, 20, 30)
    assert plan.order == AxisOrder.between("LIA", "SPL")
    assert plan.image_grid.shape == (20, 30, 40)
    assert plan.grid.shape == (10, 20, 20)
    assert [(m.n_old, len(m.first)) for m in plan.to_model] == [(20, 10), (30, 20), (40, 20)]
    assert [(m.n_old, len(m.first)) for m in plan.to_image] == [(10, 20), (20, 30), (20, 40)]
    assert plan.windows.shape == (10, 20, 20)


def test_a_spacing_that_differs_by_less_than_one_per_cent_is_the_models() -> None:
    spec = model_spec(spacing_zyx_mm=(2.0, 1.0, 1.0))
    assert plan_of(image((300, 30, 40), (2.01, 1.0, 1.0)), spec).grid.shape == (300, 30, 40)
    assert plan_of(image((300, 30, 40), (2.04, 1.0, 1.0)), spec).grid.shape == (306, 30, 40)


@pytest.mark.parametrize(
    ("mode", "patch", "window", "halo"),
    [
        ("3d", (8, 16, 16), (8, 16, 16), 0),
        ("triplanar", (16, 16, 16), (16, 16, 16), 0),
        ("2d", (1, 16, 16), (1, 16, 16), 0),
        ("2.5d", (5, 16, 16), (1, 16, 16), 2),
    ],
    ids=["3d", "triplanar", "2d", "2.5d"],
)
def test_windows_and_halo_of_a_mode(mode: str, patch: Shape3, window: Shape3, halo: int) -> None:
    spec = model_spec(patch[0] if mode == "2.5d" else 1, mode=mode, patch_zyx=patch)
    plan = plan_of(image(), spec)
    assert (plan.windows.window, plan.halo) == (window, halo)
    network = in_mode(registry.network("unet3d").build_from(spec.arguments), mode, patch[0])
    assert plan.halo == getattr(network, "halo", 0)


def test_the_machine_decides_device_and_precision() -> None:
    fast = Machine("cuda:1", fast_bf16=True)
    as_good = model_spec(bf16_ok=True)
    assert plan_of(image(), as_good, fast).describe().startswith("cuda:1 bf16: ")
    assert plan_of(image(), as_good, Machine("cuda:1")).precision == "fp32"
    assert plan_of(image(), model_spec(), fast).precision == "fp32"
    assert plan_of(image(), as_good, fast, precision="fp32").precision == "fp32"


@pytest.mark.parametrize(("as_good", "precision"), [(False, "fp32"), (True, "bf16")], ids=["worse", "as good"])
def test_the_first_stage_takes_bf16_only_where_it_was_as_good(as_good: bool, precision: str) -> None:
    stage = Stage(model=model_spec(bf16_ok=as_good, spacing_zyx_mm=(4.0, 4.0, 4.0)), guide="channel")
    plan = plan_of(image(), model_spec(3, first=stage), overlap=0.25, precision="bf16")
    assert plan.first is not None
    assert (plan.precision, plan.first.precision) == ("bf16", precision)
    assert (plan.inputs, plan.first.inputs) == (3, 1)
    assert plan.first.grid.shape == (10, 8, 10)
    assert plan.first.overlap == 0.25
    assert "at most" not in plan.first.describe()
    assert f": at most {len(plan.windows)} windows" in plan.describe()


def test_resampling_along_z_deepens_the_accumulator() -> None:
    plan = plan_of(image((20, 16, 16)), model_spec(spacing_zyx_mm=(4.0, 1.0, 1.0)))
    # Between two planes of the model two are needed: one more than a window's.
    assert plan.accumulator_bytes == (8 + 1) * 3 * 16 * 16 * 4


def test_facts_of_a_volume_and_of_a_case() -> None:
    grid = Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0))

    class Unread:
        shape, dtype = (1, 4, 5, 6), "int16"

        def __getitem__(self, key: object) -> object:
            raise AssertionError("a plan reads no voxel")

    volume = Volume(Unread(), grid, ("T1",))
    case = CaseFacts("a", grid, ("T1",), {}, {}, (0.0,), ((0.0, 1.0),), {}, samples=None)  # type: ignore[arg-type]
    for facts in (ImageFacts.of(volume), ImageFacts.of(case)):
        assert facts.grid is grid
        assert facts.channels == ("T1",)


def test_a_plan_crosses_processes() -> None:
    stage = Stage(model=model_spec(spacing_zyx_mm=(4.0, 4.0, 4.0)), guide="boxes")
    plan = plan_of(image(), model_spec(first=stage, spacing_zyx_mm=(2.0, 2.0, 2.0)))
    again = pickle.loads(pickle.dumps(plan))
    assert again.spec == plan.spec
    assert again.windows == plan.windows
    assert again.describe() == plan.describe()
    assert again.first.describe() == plan.first.describe()  # type: ignore[union-attr]
