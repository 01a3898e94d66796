"""The arguments of a network, read off the names and shapes of its tensors: for every network of the registry.

A network is built on torch's meta device, where it costs no memory, with one argument changed at a time. Which names
come and go says how many levels and blocks there are; which size follows which argument says how wide they are. What no
shape tells (the steps between levels, a dropout) keeps its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_medseg import registry
from napari_medseg.errors import InputError
from napari_medseg.foreign.imported import Rename
from napari_medseg.registry import Argument, NetworkSpec, Parameter

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Arguments = dict[str, Argument]

_MAX_BUILDS = 1500
"""Networks that are built for one state dict: the search ends there with what it has."""
_MAX_COUNT = 12
"""Largest count that is tried for what changes names: blocks of a level, convolutions of a unit."""
_SILENT = ("dropout", "dropout_path", "strides")


@dataclass
class _Search:
    """The state of a search: what was found, and how many networks were built."""

    spec: NetworkSpec
    found: Shapes
    builds: int = 0
    seen: dict[tuple[tuple[str, Argument], ...], Shapes | None] = field(default_factory=dict)

    def shapes(self, arguments: Arguments) -> Shapes | None:
        """{name: shape} of the network with these arguments; None where they do not go together."""
        key = tuple(sorted(arguments.items()))
        if key not in self.seen:
            if self.builds >= _MAX_BUILDS:
                return None
            self.builds += 1
            self.seen[key] = shapes_of(self.spec, arguments)
        return self.seen[key]

    def misfit(self, arguments: Arguments) -> float:
        """How many names are on one side only, then how many shapes differ; infinite for what cannot be built."""
        shapes = self.shapes(arguments)
        if shapes is None:
            return float("inf")
        names = len(shapes.keys() ^ self.found.keys())
        wrong = sum(shapes[name] != self.found[name] for name in shapes.keys() & self.found.keys())
        return names + wrong / (1 + len(self.found))


def shapes_of(spec: NetworkSpec, arguments: Mapping[str, Argument]) -> Shapes | None:
    """{name: shape} of a network; None for arguments that do not go together."""
    import torch

    try:
        with torch.device("meta"):
            network = spec.build_from(spec.arguments(**arguments))  # type: ignore[arg-type]  # no preset among them
    except (InputError, ValueError, TypeError, RuntimeError, AssertionError, IndexError, KeyError, ZeroDivisionError):
        return None  # whatever a network says of arguments that it cannot have
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def read_off(spec: NetworkSpec, shapes: Shapes, rename: Rename, known: Mapping[str, Argument]) -> Arguments:
    """The arguments of a network that fit tensors best.

    shapes: by their foreign names. known: arguments that are given, and are not looked for. The result may not fit: the
    first tensor that differs is then named by who compares them.
    """
    found = {own: shape for name, shape in shapes.items() if (own := rename(name)) is not None}
    search = _Search(spec, found)
    free = {name: p for name, p in spec.parameters.items() if name not in known and name not in _SILENT}
    current: Arguments = {**_ends(found, spec, known), **known}
    current = _by_names(search, free, current)
    common = {name: p for name, p in registry.COMMON.items() if name not in known and name != "spatial_dims"}
    sized = {**free, **common, **{n: p for n, p in spec.parameters.items() if n == "strides" and n not in known}}
    for _ in range(3):
        before = search.misfit(current)
        current = _by_sizes(search, sized, current)
        current = _by_names(search, free, current)
        if search.misfit(current) in (0, before):
            break
    return _by_axes(search, sized, current)


def _by_axes(search: _Search, sized: Mapping[str, Parameter], current: Arguments) -> Arguments:
    """Lists of one number per level as lists of one per level and axis, where these fit better."""
    full = _full(search.spec, current)
    dims = 2 if full.get("spatial_dims") == 2 else 3
    names = [name for name in ("kernel_sizes", "strides") if isinstance(full.get(name), tuple) and name in sized]
    for name in names if search.misfit(current) else ():
        level = full[name]
        assert isinstance(level, tuple), "just looked at"
        per_axis = {name: tuple(n for n in level for _ in range(dims))}
        tried = _by_sizes(search, sized, {**current, **per_axis})
        if search.misfit(tried) < search.misfit(current):
            current, full = tried, _full(search.spec, tried)
    return current


def _ends(found: Shapes, spec: NetworkSpec, known: Mapping[str, Argument]) -> Arguments:
    """Dimensions, and a guess of the channels at either end."""
    kernels = [shape for shape in found.values() if len(shape) in (4, 5)]
    if not kernels:
        return {}
    dims = len(kernels[0]) - 2
    return {
        "spatial_dims": dims if dims in spec.dims else spec.dims[-1],
        "in_channels": min(64, kernels[0][1]),
        "out_channels": min(4096, kernels[-1][0]),
    }


def _full(spec: NetworkSpec, current: Arguments) -> Arguments:
    defaults: Arguments = {name: p.default for name, p in spec.parameters.items()}
    return {**defaults, **current}


def _by_names(search: _Search, free: Mapping[str, Parameter], current: Arguments) -> Arguments:
    """Change one argument at a time, or the lengths of all lists at once, as long as fewer names differ."""
    best = search.misfit(current)
    improved = True
    while improved and best > 0 and search.builds < _MAX_BUILDS:
        improved = False
        for change in _changes(search.spec, free, current):
            misfit = search.misfit({**current, **change})
            if misfit < best:
                current, best, improved = {**current, **change}, misfit, True
                break
    return current


def _changes(spec: NetworkSpec, free: Mapping[str, Parameter], current: Arguments) -> Iterator[Arguments]:
    """What may be changed: truths, choices, counts, and lengths of lists."""
    full = _full(spec, current)
    for name, parameter in free.items():
        value = full[name]
        if isinstance(value, bool):
            yield {name: not value}
        elif isinstance(value, str):
            for choice in parameter.choices:
                yield {name: choice}
    yield from _lengths(spec, free, full)
    for name, parameter in free.items():
        value = full[name]
        if isinstance(value, int) and not isinstance(value, bool) and (parameter.high or 0) <= 64:
            low = int(parameter.low or 0)
            for n in range(low, min(int(parameter.high or low), low + _MAX_COUNT) + 1):
                yield {name: n}
        elif isinstance(value, tuple) and (parameter.high or 0) <= 64:
            for k in range(len(value)):
                for step in (1, -1):
                    yield {name: (*value[:k], value[k] + step, *value[k + 1 :])}


def _lengths(spec: NetworkSpec, free: Mapping[str, Parameter], full: Arguments) -> Iterator[Arguments]:
    """All lists longer or shorter by as many items; a list of one number per level and axis by that many more."""
    lists = {name: value for name in spec.parameters if isinstance(value := full[name], tuple)}
    lists = {name: value for name, value in lists.items() if name in free or name in _SILENT}
    longest = max(map(len, lists.values()), default=0)
    for step in (*range(-1, -longest, -1), *range(1, 8)):
        yield {name: resized for name, value in lists.items() if (resized := _resized(value, step))}
    for name, value in lists.items():
        for step in (-1, 1, -2, 2):
            if resized := _resized(value, step):
                yield {name: resized}


def _resized(value: tuple[int, ...], step: int) -> tuple[int, ...]:
    return value[:step] if step < 0 else (*value, *[value[-1]] * step)


def _by_sizes(search: _Search, free: Mapping[str, Parameter], current: Arguments) -> Arguments:
    """Set every number whose change makes a size follow to what that size says."""
    full = {**_full(search.spec, current)}
    for name, parameter in free.items():
        value = full.get(name, parameter.default)
        if isinstance(value, bool) or not isinstance(value, int | tuple):
            continue
        for place in range(len(value)) if isinstance(value, tuple) else (None,):
            said = _said(search, full, name, place)
            if said is not None:
                full[name] = _put(full.get(name, value), place, said)
    return full


def _said(search: _Search, full: Arguments, name: str, place: int | None) -> int | None:
    """What the sizes say of a number: by the first size that follows it alone and is there."""
    base = search.shapes(full)
    if base is None:
        return None
    value = _at(full[name], place)
    for step in (8, 1, 2, 4, 12, 24, 48):
        changed = search.shapes({**full, name: _put(full[name], place, value + step)})
        if changed is None:
            continue
        for tensor, shape in base.items():
            other, wanted = changed.get(tensor), search.found.get(tensor)
            if other is None or wanted is None or len(wanted) != len(shape) or len(other) != len(shape):
                continue
            for a, b, want in zip(shape, other, wanted, strict=True):
                if a != b and (want - a) * step % (b - a) == 0:
                    return max(0, value + (want - a) * step // (b - a))
        if any(changed.get(tensor) != shape for tensor, shape in base.items()):
            return None
    return None


def _at(value: Any, place: int | None) -> int:
    return int(value if place is None else value[place])


def _put(value: Any, place: int | None, number: int) -> Argument:
    if place is None:
        return number
    items: Sequence[int] = value
    return (*items[:place], number, *items[place + 1 :])
