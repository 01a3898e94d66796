"""The choice of a device, from devices made up here, and what this machine answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from balls import segmentation, volume
from napari_medseg import iter_segment, iter_train, load_model, registry
from napari_medseg.config import Precision
from napari_medseg.errors import InputError
from napari_medseg.events import Notice
from napari_medseg.inference.device import (
    Devices,
    Machine,
    autocast,
    bf16_doubt,
    choose_device,
    has_fast_bf16,
    machine_for,
    measured_slowdown,
)
from napari_medseg.inference.plan import precision_for
from napari_medseg.training.state import training_precision


@pytest.mark.parametrize(
    ("devices", "asked", "chosen"),
    [
        (Devices(), "auto", "cpu"),
        (Devices(cuda=2), "auto", "cuda"),
        (Devices(mps=True), "auto", "mps"),
        (Devices(cuda=1, mps=True), "auto", "cuda"),
        (Devices(cuda=2), "cpu", "cpu"),
        (Devices(cuda=2), "cuda", "cuda"),
        (Devices(cuda=2), "cuda:1", "cuda:1"),
        (Devices(mps=True), "mps", "mps"),
    ],
    ids=str,
)
def test_the_device_that_is_asked_for_or_the_fastest(devices: Devices, asked: str, chosen: str) -> None:
    assert devices.choose(asked) == chosen


@pytest.mark.parametrize(
    ("devices", "asked", "says"),
    [
        (Devices(), "cuda", "'cuda' is not there: torch sees 0 CUDA devices; use auto or cpu"),
        (Devices(cuda=1), "cuda:1", "'cuda:1' is not there: torch sees 1 CUDA devices; use auto or cpu"),
        (Devices(cuda=1), "mps", "'mps' is not there: torch sees no Apple GPU; use auto or cpu"),
        (Devices(cuda=1), "tpu", "unknown device 'tpu': use auto, cpu, cuda, cuda:1 or mps"),
        (Devices(cuda=1), "cuda:first", "unknown device 'cuda:first'"),
        (Devices(cuda=1), "", "unknown device ''"),
    ],
    ids=str,
)
def test_a_device_that_is_not_there_is_refused(devices: Devices, asked: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        devices.choose(asked)


def test_this_machine() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert machine_for("auto").device == Devices.seen().choose("auto")


@pytest.mark.parametrize(
    ("capabilities", "slowdown", "fast"),
    [
        ({"avx512_bf16": True}, 0.3, True),
        ({"avx512_bf16": True}, 160.0, False),
        ({"avx512_bf16": False}, 0.3, False),
        ({}, 0.3, False),
    ],
    ids=["fast", "kept_from_it", "without", "unknown"],
)
def test_a_cpu_is_fast_in_bf16_where_its_hardware_multiplies_it(
    capabilities: dict[str, bool], slowdown: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr("napari_medseg.inference.device.measured_slowdown", lambda device: slowdown)
    assert machine_for("cpu") == Machine("cpu", fast_bf16=fast)


def test_a_torch_that_knows_no_capabilities_is_slow_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_fast_bf16(torch.device("cpu"))


def test_bf16_is_what_the_network_computes_in() -> None:
    values = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "bf16"):
        assert (values @ values).dtype == torch.bfloat16
    with autocast(torch.device("cpu"), "fp32"):
        assert (values @ values).dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "fast", "factor", "says"),
    [
        ("bf16", False, 160.2, "bf16 takes 160 times as long as fp32 on cpu (measured): choose fp32 or auto"),
        ("bf16", False, 1.1, None),
        ("bf16", True, 160.2, "bf16 takes 160 times as long as fp32 on cpu (measured): choose fp32 or auto"),
        ("bf16", True, 0.3, None),
        ("fp32", False, 160.0, None),
        ("auto", False, 160.0, None),
    ],
    ids=["slow", "no_slower", "kept_from_it", "fast", "fp32", "auto"],
)
def test_bf16_that_was_chosen_by_hand_is_warned_of_where_it_is_slow(
    precision: Precision, fast: bool, factor: float, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast}, raising=False)
    assert bf16_doubt(precision, torch.device("cpu"), lambda _: factor) == says


def test_the_slowdown_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = measured_slowdown(torch.device("cpu"))
    assert factor > 0
    monkeypatch.setattr("napari_medseg.inference.device._seconds", lambda *tensors: 0.0)
    assert measured_slowdown(torch.device("cpu")) == factor


@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_auto_takes_bf16_only_where_the_hardware_has_it(
    fast: bool, monkeypatch: pytest.MonkeyPatch, ball_model: Path
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast}, raising=False)
    monkeypatch.setattr("napari_medseg.inference.device.measured_slowdown", lambda device: 0.3)
    wanted = "bf16" if fast else "fp32"
    spec = replace(load_model(ball_model).spec, bf16_ok=True)
    assert training_precision("auto", torch.device("cpu"), spec.network) == wanted
    assert precision_for("auto", spec, machine_for("cpu")) == wanted
    arguments = registry.network("mednext").arguments(in_channels=1, out_channels=3)
    channelwise = replace(spec, network="mednext", arguments=arguments, deep_supervision=True)
    assert training_precision("auto", torch.device("cpu"), "mednext") == "fp32"
    assert precision_for("auto", channelwise, machine_for("cpu")) == "fp32", "a CPU is slower at it in bf16"
    assert precision_for("auto", channelwise, Machine("cuda", fast_bf16=True)) == "bf16"


def test_a_run_in_slow_bf16_says_so(monkeypatch: pytest.MonkeyPatch, ball_model: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    monkeypatch.setattr("napari_medseg.inference.device.measured_slowdown", lambda device: 160.0)
    segmented = iter_segment(volume(), ball_model, device="cpu", precision="bf16")
    pairs = [(volume(), segmentation())]
    options: dict[str, Any] = {"device": "cpu", "precision": "bf16", "epochs": 1, "arguments": {"channels": (4, 8)}}
    trained = iter_train(pairs, out=tmp_path / "m.safetensors", **options)
    for events in (list(segmented), list(trained)):
        notices = [event.message for event in events if isinstance(event, Notice)]
        assert "bf16 takes 160 times as long as fp32 on cpu (measured): choose fp32 or auto" in notices


def poisoned() -> None:
    """Leave numbers that are none in the memory that torch takes next."""
    for size in (1_000, 30_000, 1_000_000):
        torch.full((size,), torch.nan)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Conv3d(64, 128, 4, stride=2, padding=1), (3, 4, 3)),
        (torch.nn.Conv3d(64, 128, 2, stride=2), (2, 4, 3)),
        (torch.nn.Conv3d(16, 32, 3, stride=2, padding=1), (7, 7, 1)),
        (torch.nn.Conv2d(256, 512, 4, stride=2, padding=1), (4, 2)),
        (torch.nn.ConvTranspose3d(32, 16, 3, stride=2), (4, 4, 1)),
    ],
)
def test_strides_to_a_width_of_one_voxel_are_not_taken_in_bf16(layer: torch.nn.Module, shape: tuple[int, ...]) -> None:
    image = torch.randn(2, next(layer.parameters()).shape[0 if "Transpose" in type(layer).__name__ else 1], *shape)
    image.requires_grad_()
    expected = layer(image)
    for _ in range(3):
        poisoned()
        with autocast(torch.device("cpu"), "bf16"):
            found = layer(image)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
        poisoned()
        gradients = torch.autograd.grad(found.sum(), [image, *layer.parameters()])
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_other_convolutions_are_taken_in_bf16() -> None:
    with autocast(torch.device("cpu"), "bf16"):
        assert torch.nn.Conv3d(1, 2, 3, stride=2, padding=1)(torch.zeros(1, 1, 4, 4, 4)).dtype == torch.bfloat16
        assert torch.nn.Conv3d(1, 2, 1)(torch.zeros(1, 1, 4, 4, 1)).dtype == torch.bfloat16
        assert torch.nn.Conv2d(1, 2, 3, padding="same")(torch.zeros(1, 1, 4, 4)).dtype == torch.bfloat16
