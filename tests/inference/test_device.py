"""The choice of a device, from devices made up here, and what this machine answers."""

from __future__ import annotations

import pytest
import torch

from napari_medseg.errors import InputError
from napari_medseg.inference.device import (
    Devices,
    Machine,
    autocast,
    choose_device,
    has_fast_bf16,
    machine_for,
    spare_one_core,
)


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
    ("capabilities", "fast"), [({"avx512_bf16": True}, True), ({"avx512_bf16": False}, False), ({}, False)], ids=str
)
def test_a_cpu_is_fast_in_bf16_where_its_hardware_multiplies_it(
    capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
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


def test_one_core_is_spared_and_no_thread_is_added() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        spare_one_core()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
