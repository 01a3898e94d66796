"""Which of several plans fits the memory and the time at hand: patches and batches, tried by their estimated costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.costs import Costs, costs_of
from napari_medseg.models.spec import ModelSpec
from napari_medseg.registry import network
from napari_medseg.training.planning.document import Estimate, Plan

Pace = Callable[[ModelSpec, torch.device], float]
"""Multiply-adds in a second while a model of this specification is trained on a device."""

FEWEST_STEPS = 1000
"""Steps that a budget should hold; a smaller patch is taken where it holds fewer."""
_SHARE_OF_MEMORY = {"cpu": 0.5, "mps": 0.5, "cuda": 0.85}
"""{device: share of its free memory that a training may take}."""
_BACKWARD = 3
"""Multiply-adds of a step over those of its forward pass."""
_MOST_IN_A_STEP = 16
"""Patches of a step, where a large memory would hold more."""
_SMALL_PATCH = 32
"""Voxels along an axis of the patch by which the pace is measured."""


@dataclass(frozen=True)
class Candidate:
    """A plan that may be taken, and its costs."""

    spec: ModelSpec
    batch_size: int
    costs: Costs
    step_seconds: float

    @property
    def memory_bytes(self) -> int:
        """Of the weights, the optimiser, and the patches of a step."""
        one = self.costs.training_bytes - self.costs.activation_bytes
        return one + self.batch_size * self.costs.activation_bytes

    def steps_in(self, minutes: float | None) -> int:
        return 0 if minutes is None or self.step_seconds <= 0 else int(minutes * 60 / self.step_seconds)

    def describe(self, minutes: float | None) -> str:
        patch = "x".join(map(str, self.spec.patch_zyx))
        steps = f", {self.steps_in(minutes)} steps in {minutes:g} min" if minutes is not None else ""
        return (
            f"patch {patch}, {self.batch_size} in a step: {self.memory_bytes / 2**30:.2f} GiB, about "
            f"{self.step_seconds:.3g} s a step{steps}"
        )


def chosen(candidates: Sequence[Candidate], device: torch.device, free: int, minutes: float | None) -> Plan:
    """The plan of the best candidate. candidates: the largest patch first. free: bytes of memory at hand.

    The largest patch that fits the memory is taken, or a smaller one where the budget would hold too few steps. A GPU
    with room to spare gets more patches in a step.
    """
    allowed = int(free * _SHARE_OF_MEMORY[device.type])
    fit = [c for c in candidates if c.memory_bytes <= allowed]
    notes = []
    if not fit:
        smallest = min(candidates, key=lambda c: c.memory_bytes)
        notes.append(
            f"the smallest patch takes {smallest.memory_bytes / 2**30:.2f} GiB, {allowed / 2**30:.2f} GiB are at hand: "
            f"take another network, or close other programs"
        )
        fit = [smallest]
    enough = [c for c in fit if minutes is None or c.steps_in(minutes) >= FEWEST_STEPS]
    best = enough[0] if enough else max(fit, key=lambda c: c.steps_in(minutes))
    tried = tuple(
        f"{'chosen' if c is best else 'too large' if c not in fit else 'tried'}: {c.describe(minutes)}"
        for c in candidates
    )
    if device.type == "cuda":
        best = _filled(best, allowed)
    return Plan(
        spec=best.spec,
        batch_size=best.batch_size,
        estimate=Estimate(
            device=device.type,
            parameters=best.costs.parameters,
            memory_bytes=best.memory_bytes,
            step_seconds=best.step_seconds,
            steps=best.steps_in(minutes),
        ),
        tried=tried,
        notes=tuple(notes),
    )


def _filled(best: Candidate, allowed: int) -> Candidate:
    """The candidate with as many patches in a step as the memory holds."""
    size = best.batch_size
    while size < _MOST_IN_A_STEP and replace(best, batch_size=size * 2).memory_bytes <= allowed:
        size *= 2
    return replace(best, batch_size=size, step_seconds=best.step_seconds * size / best.batch_size)


def candidate(spec: ModelSpec, batch_size: int, macs_per_second: float) -> Candidate:
    """A plan with its costs on a device of that pace."""
    costs = costs_of(network(spec.network), _size_of(spec), **_arguments(spec))
    return Candidate(spec, batch_size, costs, _BACKWARD * costs.macs * batch_size / macs_per_second)


def measured_pace(spec: ModelSpec, device: torch.device) -> float:
    """The multiply-adds in a second of a step on a small patch: the faster of two, after one that loads the code."""
    size = tuple(min(n, _SMALL_PATCH) for n in _size_of(spec))
    costs = costs_of(network(spec.network), size, **_arguments(spec))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = network(spec.network).build_from(spec.arguments).to(device)
    inputs = int(spec.arguments["in_channels"])  # type: ignore[arg-type]  # checked by the registry
    patch = torch.zeros((2, inputs, *size), device=device)
    seconds = min([_step_seconds(net, patch) for _ in range(3)][1:])
    return 2 * _BACKWARD * costs.macs / max(seconds, 1e-9)


def _step_seconds(net: torch.nn.Module, patch: torch.Tensor) -> float:
    start = time.perf_counter()
    net.train()
    loss = logits_of(net(patch)).float().square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    float(loss.detach())  # the number is waited for: a GPU works on its own
    return time.perf_counter() - start


def _size_of(spec: ModelSpec) -> tuple[int, ...]:
    """What the network sees of a patch: a volume, or a slice of it."""
    return spec.patch_zyx if spec.mode == "3d" else spec.patch_zyx[1:]


def _arguments(spec: ModelSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.arguments.items() if name != "spatial_dims"}


def voxel_limits(largest: int) -> tuple[int, ...]:
    """Voxels of the patches that are tried, the most first."""
    return tuple(dict.fromkeys(max(1, largest // part) for part in (1, 2, 4, 8)))


def distinct(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Those of different patches, in the same order, the largest first."""
    return sorted({s.patch_zyx: s for s in specs}.values(), key=lambda s: -prod(s.patch_zyx))
