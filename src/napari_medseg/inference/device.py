"""The machine: which device a run uses, and which number formats that device is fast at.

Nothing else in the project asks torch about hardware. The answers are plain values, so that tests can make them up.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from napari_medseg.errors import InputError
from napari_medseg.io.disk.memory import available_bytes

if TYPE_CHECKING:
    from napari_medseg.config import Precision

_AMPERE = (8, 0)
"""The first CUDA capability whose tensor cores multiply bf16."""
_SLOWER = 1.5
"""The slowdown of bf16 from which on the user is warned."""
_DOWN, _UP = (torch.conv2d, torch.conv3d), (torch.conv_transpose2d, torch.conv_transpose3d)
"""Convolutions by whose strides images become smaller, and larger."""


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

    @property
    def names(self) -> tuple[str, ...]:
        """What a user can choose here, "auto" first."""
        return ("auto", "cpu", *(["cuda"] if self.cuda else []), *(["mps"] if self.mps else []))

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


Slowdown = Callable[[torch.device], float]
"""How many times longer a device takes in bf16 than in fp32."""


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively, so that it is faster than fp32.

    A CPU that says so is measured too: torch's libraries may be kept from its instructions (ONEDNN_MAX_CPU_ISA), and
    bf16 is 160 times slower then.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    return device.type == "cpu" and _cpu_has_bf16() and measured_slowdown(device) < _SLOWER


def bf16_doubt(precision: Precision, device: torch.device, slowdown: Slowdown | None = None) -> str | None:
    """A line for the user where bf16 was chosen by hand and is slower than fp32; None otherwise.

    slowdown: how that is found; by default it is measured, once in a process.
    """
    if precision != "bf16" or (device.type == "cuda" and has_fast_bf16(device)):
        return None
    factor = (slowdown or measured_slowdown)(device)
    if factor < _SLOWER:
        return None
    return f"bf16 takes {factor:.3g} times as long as fp32 on {device} (measured): choose fp32 or auto"


@functools.cache
def measured_slowdown(device: torch.device) -> float:
    """The time of a small convolution in bf16 over that in fp32."""
    image = torch.ones((1, 8, 16, 16, 16), device=device)
    weights = torch.ones((8, 8, 3, 3, 3), device=device)
    return _seconds(image.bfloat16(), weights.bfloat16()) / _seconds(image, weights)


def _seconds(image: torch.Tensor, weights: torch.Tensor) -> float:
    """The shortest of a few runs; the first, which loads the code for it, does not count."""
    found = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.no_grad():
            float(torch.nn.functional.conv3d(image, weights).sum())  # the number is waited for: a GPU works on its own
        found.append(time.perf_counter() - start)
    return min(found[1:])


def free_bytes(device: torch.device) -> int:
    """The memory that a device can still give: its own, or that of the system for a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_bytes()


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """The context in which the network runs: bf16 autocast, or nothing for fp32."""
    if precision != "bf16":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16), _NarrowInFp32() if device.type == "cpu" else nullcontext():
        yield


class _NarrowInFp32(TorchFunctionMode):
    """Runs strided convolutions in fp32 that have a width of one voxel on their small side.

    In bf16, torch 2.13 reads memory for them that nobody wrote (CPUs with AMX): outputs or gradients are now and then
    not numbers, or wrong ones.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (*_DOWN, *_UP) and _is_narrow(func, args):
            with torch.autocast("cpu", enabled=False):
                return func(*(a.float() if isinstance(a, torch.Tensor) else a for a in args), **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _is_narrow(func: Any, args: Any) -> bool:
    """args: image, weights, bias, strides, padding, dilation and so on, as the layers of torch give them."""
    if len(args) < 6 or isinstance(args[4], str):  # padding in words goes without strides
        return False
    stride, padding, dilation = (int(a if isinstance(a, int) else a[-1]) for a in args[3:6])
    width, kernel = args[0].shape[-1], args[1].shape[-1]
    if func in _UP:
        return stride > 1 and width == 1
    return stride > 1 and (width + 2 * padding - dilation * (kernel - 1) - 1) // stride == 0


def _cpu_has_bf16() -> bool:
    # torch 2.10 has no get_capabilities yet; there the answer is the safe one.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16", False))
