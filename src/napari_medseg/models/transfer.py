"""What a network takes over from an earlier model: labels are matched by name and id, never by their position.

The other tensors are taken where name and shape agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from napari_medseg.models.spec import ModelSpec
from napari_medseg.registry import network as network_named
from napari_medseg.volume import called, is_named, places_of, same_name

Tensors = Mapping[str, torch.Tensor]

_SHOWN = 10
"""Most labels that a line names."""


@dataclass(frozen=True)
class Origins:
    """For each label of a new network the label of an earlier model whose weights it starts from."""

    labels: Mapping[int, str]
    """{id: name} of the new network."""
    earlier: Mapping[int, str]
    """{id: name} of the earlier model."""
    of: Mapping[int, int | None]
    """{id: the earlier id}; None for a label that starts afresh."""

    @property
    def positions(self) -> list[int | None]:
        """For each output channel, the background first, the output channel of the earlier model."""
        place = {label: k for k, label in enumerate((0, *self.earlier))}
        sources = (self.of[label] for label in self.labels)
        return [0, *(None if source is None else place[source] for source in sources)]

    def describe(self) -> str:
        """In one line: the labels that keep their weights, those that start afresh, and those that no case holds."""
        kept = [_moved(label, source, self) for label, source in self.of.items() if source is not None]
        fresh = [called(label, self.labels) for label, source in self.of.items() if source is None]
        left = [called(label, self.earlier) for label in self.earlier if label not in self.of.values()]
        parts = (("kept from the model", kept), ("started afresh", fresh), ("left out", left))
        return "labels " + "; ".join(f"{what}: {_some(names)}" for what, names in parts if names)


def origins_of(labels: Mapping[int, str], earlier: Mapping[int, str]) -> Origins:
    """Match labels with those of an earlier model.

    A label starts from the earlier label of its name. Where that name is unknown, it starts from the earlier label of
    its id, unless both have names of their own: then it is another structure, and starts afresh.
    """
    return Origins(labels, earlier, {label: _origin(label, name, earlier) for label, name in labels.items()})


def _origin(label: int, name: str, earlier: Mapping[int, str]) -> int | None:
    if label in earlier and same_name(earlier[label], name):
        return label
    called_so = [list(earlier)[place] for place in places_of(name, list(earlier.values()))]
    if is_named(label, name) and len(called_so) == 1 and is_named(called_so[0], name):
        return called_so[0]
    if label not in earlier or (is_named(label, name) and is_named(label, earlier[label])):
        return None
    return label


def channels_from(names: Sequence[str], earlier: Sequence[str]) -> list[int | None]:
    """For each input channel the one of an earlier model that it starts from; None for one that has no counterpart.

    Channels are matched by name, unless several mean the same; where no name is shared, by their order.
    """
    found = [places_of(name, earlier) for name in names]
    by_name = [places[0] if len(places) == 1 else None for places in found]
    if any(place is not None for place in by_name):
        return by_name
    return [index if index < len(earlier) else None for index in range(len(names))]


def taken_over(
    own: Tensors, known: Tensors, spec: ModelSpec, origins: Origins, channels: Sequence[int | None] | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of a network that start from those of an earlier model.

    own: as they were initialised; output channels without an origin keep these values. known: of the earlier model.
    spec: of the new network. channels: see `channels_from`, where the input channels have changed; a new one starts as
    the mean of the earlier model's.
    """
    if channels is not None:
        known = _with_channels(known, spec, channels)
    positions = origins.positions
    axes = {} if positions == list(range(1 + len(origins.earlier))) else class_axes(spec)
    taken = {}
    for name, tensor in own.items():
        if name not in known:
            continue
        if name in axes:
            found = _by_class(tensor, known[name], axes[name], positions)
            if found is not None:
                taken[name] = found
        elif tensor.shape == known[name].shape:
            taken[name] = known[name]
    return taken


def class_axes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """{tensor: its axes that have an item per output channel}; no axis where the items are not one for each.

    Only tensors whose shape depends on the number of output channels are listed.
    """
    shapes = [_shapes(spec, count) for count in (5, 6)]
    found = {}
    for name, few in shapes[0].items():
        many = shapes[1].get(name, ())
        changed = [axis for axis, (a, b) in enumerate(zip(few, many, strict=False)) if a != b]
        if changed or len(few) != len(many):
            plain = len(few) == len(many) and all((few[axis], many[axis]) == (5, 6) for axis in changed)
            found[name] = tuple(changed) if plain else ()
    return found


def _with_channels(known: Tensors, spec: ModelSpec, channels: Sequence[int | None]) -> Tensors:
    """The earlier tensors with the input channels of the new network."""
    slices = spec.patch_zyx[0] if spec.mode == "2.5d" else 1
    fewer, more = (_shapes(spec, inputs=(len(channels) + extra) * slices) for extra in (0, 1))
    made = dict(known)
    for name, shape in fewer.items():
        axes = [axis for axis, (a, b) in enumerate(zip(shape, more[name], strict=True)) if a != b]
        if name not in known or len(axes) != 1 or shape[axes[0]] != len(channels) * slices:
            continue
        by_channel = torch.unflatten(known[name], axes[0], (-1, slices))
        parts = [
            by_channel.mean(axes[0]) if source is None else by_channel.select(axes[0], source) for source in channels
        ]
        made[name] = torch.stack(parts, axes[0]).flatten(axes[0], axes[0] + 1)
    return made


def _shapes(spec: ModelSpec, outputs: int | None = None, inputs: int | None = None) -> dict[str, tuple[int, ...]]:
    changed = {"out_channels": outputs, "in_channels": inputs}
    arguments = {**spec.arguments, **{name: count for name, count in changed.items() if count is not None}}
    with torch.device("meta"):
        network = network_named(spec.network).build_from(arguments)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _by_class(
    own: torch.Tensor, known: torch.Tensor, axes: tuple[int, ...], positions: Sequence[int | None]
) -> torch.Tensor | None:
    """The tensor with the items of each class from where it was; None where the classes cannot be told apart."""
    kept = [k for k, source in enumerate(positions) if source is not None]
    sources = [source for source in positions if source is not None]
    rest = [axis for axis in range(own.ndim) if axis not in axes]
    if not axes or known.ndim != own.ndim or any(own.shape[axis] != known.shape[axis] for axis in rest):
        return None
    part, index = known, [torch.arange(n) for n in own.shape]
    for axis in axes:
        part = part.index_select(axis, torch.tensor(sources))
        index[axis] = torch.tensor(kept)
    made = own.clone()
    if len(axes) > 1:  # a convolution from classes to classes: what is known takes nothing from what starts afresh
        made[tuple(torch.tensor(kept) if axis == axes[0] else slice(None) for axis in range(own.ndim))] = 0
    made[torch.meshgrid(*index, indexing="ij")] = part.to(made)
    return made


def _moved(label: int, source: int, origins: Origins) -> str:
    now = called(label, origins.labels)
    return now if label == source else f"{now} from {called(source, origins.earlier)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
