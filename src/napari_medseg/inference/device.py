"""The machine: which device a run uses, and which number formats that device is fast at.

Nothing else in the project asks torch about hardware. The answers are plain values, so that tests can make them up.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_medseg.errors import InputError

if TYPE_CHECKING:
    from napari_medseg.config import Precision

_AMPERE = (8, 0)
"""The first CUDA capability whose tensor cores multiply bf16."""


@dataclass(frozen=True)
class Machine:
    """What a plan needs to know of the hardware; by default a CPU that is slow in bf16."""

    device: str = "cpu"
    """In torch's words: "cpu", "cuda", "cuda:1" or "mps"."""
    fast_bf16: bool = False
    """Whether the hardware multiplies bf16 natively, so that it is faster than fp32."""


@dataclass(frozen=True)
class Devices:
    """The devices that torch sees beside the CPU."""

    cuda: int = 0
    """CUDA devices."""
    mps: bool = False
    """Whether there is an Apple GPU."""

    @classmethod
    def seen(cls) -> Devices:
        """Those of this machine."""
        return cls(torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.backends.mps.is_available())

    def choose(self, asked: str) -> str:
        """The device for "auto", "cpu", "cuda", "cuda:1" or "mps"; InputError for one that is not there."""
        if asked == "auto":
            return "cuda" if self.cuda else "mps" if self.mps else "cpu"
        kind, _, index = asked.partition(":")
        if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
            raise InputError(f"unknown device {asked!r}: use auto, cpu, cuda, cuda:1 or mps")
        if kind == "cuda" and self.cuda <= int(index or 0):
            raise InputError(f"device {asked!r} is not there: torch sees {self.cuda} CUDA devices; use auto or cpu")
        if kind == "mps" and not self.mps:
            raise InputError("device 'mps' is not there: torch sees no Apple GPU; use auto or cpu")
        return asked


def choose_device(device: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" or "mps"; InputError where this machine lacks it."""
    return torch.device(Devices.seen().choose(device))


def machine_for(device: str) -> Machine:
    """This machine with the device for "auto", "cpu", ...; InputError where it lacks the device."""
    chosen = choose_device(device)
    return Machine(str(chosen), has_fast_bf16(chosen))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively, so that it is faster than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    return device.type == "cpu" and _cpu_has_bf16()


def spare_one_core() -> None:
    """Leave one core to the window: torch takes at most all others, in the thread that calls this."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which the network runs: bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _cpu_has_bf16() -> bool:
    # torch 2.10 has no get_capabilities yet; there the answer is the safe one.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16", False))
