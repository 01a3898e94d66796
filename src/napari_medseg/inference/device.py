"""Which device and which number format a run uses."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from napari_medseg.errors import InputError

if TYPE_CHECKING:
    from napari_medseg.config import Precision


def choose_device(device: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" or "mps"; InputError where this machine lacks it."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise InputError(f"unknown device {device!r}: use auto, cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and torch.cuda.device_count() <= int(index or 0):
        raise InputError(
            f"device {device!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices; use auto or cpu"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' is not there: torch sees no Apple GPU; use auto or cpu")
    return torch.device(device)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively, so that it is faster than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bf16()


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """The context in which the network runs: bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _cpu_has_bf16() -> bool:
    # torch 2.10 has no get_capabilities yet; there the answer is the safe one.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16", False))
