"""The plans that a search tries: the one that the cases give, and others of another patch, size or option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from napari_medseg.config import TrainConfig, configured
from napari_medseg.models.spec import ModelSpec
from napari_medseg.registry import network as network_named
from napari_medseg.training.planning.facts import CaseFacts
from napari_medseg.training.planning.rules import plan

AS_PLANNED = "as planned"
"""Name of the plan that the cases give."""
_PATCHES: Mapping[str, float] = {"half the patch": 0.5, "a quarter of the patch": 0.25, "twice the patch": 2.0}
"""{name: voxels of the patch at most, over those of the plan's}."""
_WIDTHS: Mapping[str, float] = {"half the features": 0.5, "1.5 times the features": 1.5, "twice the features": 2.0}
_OPTIONS: tuple[tuple[str, str, object], ...] = (
    ("no deep supervision", "deep_supervision", False),
    ("deep supervision", "deep_supervision", True),
    ("a residual encoder", "residual", True),
    ("max-pooling", "down", "maxpool"),
)
"""(name, argument, value) that a network may have."""
_LEAST_WIDTH, _DEEPEST = 320, 8
"""Features that a further level has at most, and levels at most."""


@dataclass(frozen=True)
class Candidate:
    """A plan under a name."""

    name: str
    spec: ModelSpec


def candidates(
    planned: ModelSpec, facts: Sequence[CaseFacts], config: TrainConfig, device: str, labels: Mapping[int, str]
) -> list[Candidate]:
    """The plan of the cases first, then the others, the likely ones before the rest. No two are the same.

    What the config gives, patch or argument, is not varied.
    """

    def made(changes: Mapping[str, Any], voxels: int | None = None) -> ModelSpec:
        arguments = {**config.arguments, **changes}
        own = configured(TrainConfig, config, {"arguments": arguments})
        return plan(facts, planned.network, own, device, labels=labels, patch_voxels=voxels)

    found = [Candidate(AS_PLANNED, planned)]
    for name, spec in _others(planned, config, made):
        if all((spec.patch_zyx, spec.arguments) != (c.spec.patch_zyx, c.spec.arguments) for c in found):
            found.append(Candidate(name, spec))
    return found


def _others(planned: ModelSpec, config: TrainConfig, made: Callable[..., ModelSpec]) -> Iterator[tuple[str, ModelSpec]]:
    network, given = network_named(planned.network), config.arguments
    widths, patch = network.features_per_level, config.sampling.patch_zyx
    voxels = prod(planned.patch_zyx)
    patches = {} if patch is not None else {name: made({}, int(voxels * part)) for name, part in _PATCHES.items()}
    sizes = {} if not widths or widths in given else dict(_sizes(planned, widths, made))
    # By turns, so that a short search has some of each.
    for index in range(max(len(patches), len(sizes))):
        for kind in (patches, sizes):
            yield from list(kind.items())[index : index + 1]
    for name, argument, value in _OPTIONS:
        if argument in network.parameters and argument not in given and planned.arguments[argument] != value:
            yield name, made({argument: value})


def _sizes(planned: ModelSpec, widths: str, made: Callable[..., ModelSpec]) -> Iterator[tuple[str, ModelSpec]]:
    """Wider, narrower, shallower and deeper networks."""
    own = planned.arguments[widths]
    assert isinstance(own, tuple), "features per level are a tuple"
    features = [int(n) for n in own]
    for name, factor in _WIDTHS.items():
        yield name, made({widths: tuple(max(1, round(n * factor)) for n in features)})
    if len(features) > 2:
        yield "one level fewer", made({widths: tuple(features[:-1])})
    if len(features) < _DEEPEST:
        yield "one level more", made({widths: (*features, min(_LEAST_WIDTH, 2 * features[-1]))})
