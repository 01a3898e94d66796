"""What an entry of the table of networks is. Pure data: a network's module (and torch) is imported when it is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal, get_args

from napari_medseg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

PresetName = Literal["default", "paper"]
Supervision = Literal["halving", "equal"]
Takes = Literal["image", "image+prompts", "memory", "graph", "instances"]
Family = Literal[
    "U-Net",
    "residual and dense",
    "attention",
    "transformer",
    "hybrid",
    "light 2D",
    "interactive and graph",
    "instances",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
"""In the order in which a chooser shows them."""
PLAIN_RATE = 1e-3
"""Learning rate of AdamW that most networks bear, and a trained one."""
IMAGE_AXES = 3
"""Of a volume: a node of its graph has a place along each, beside a mean and a deviation of each channel."""
Argument = bool | int | float | str | tuple[int, ...] | None
"""What an argument of a network may be: the closed set that a model file can hold."""


def shown(value: object) -> str:
    """A value as a message shows it: its start, escaped to one line; of nested things only the type."""
    flat = isinstance(value, str | int | float | None) or (
        isinstance(value, tuple | list) and all(isinstance(v, int | float) for v in value)
    )
    text = ascii(value) if flat else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Parameter:
    """One argument of a network: its default, its meaning and its bounds (checked before anything is allocated)."""

    default: Argument
    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    shortest: int = 1
    longest: int = 16
    """Bounds on the length of a tuple."""

    def check(self, owner: str, name: str, value: object) -> Argument:
        """The value, lists made tuples; InputError where type or bounds do not fit."""
        if isinstance(value, list):
            value = tuple(value)
        where = f"{owner} argument {name}"
        if value is None and self.default is None:
            return None
        wanted = type(self.default) if self.default is not None else float
        if not _is_a(value, wanted):
            raise InputError(f"{where} must be of type {wanted.__name__}, like {self.default!r}; got {shown(value)}")
        if isinstance(value, tuple) and not self.shortest <= len(value) <= self.longest:
            raise InputError(f"{where} must hold {self.shortest} to {self.longest} numbers; got {len(value)}")
        if isinstance(value, str) and value not in self.choices:
            raise InputError(f"{where} is one of {', '.join(self.choices)}; got {shown(value)}")
        numbers = value if isinstance(value, tuple) else (value,) if isinstance(value, int | float) else ()
        low, high = -inf if self.low is None else self.low, inf if self.high is None else self.high
        if not all(low <= number <= high for number in numbers):
            raise InputError(f"{where} must lie in {self.low} to {self.high}; got {shown(value)}")
        if wanted is float and isinstance(value, int):
            return float(value)
        assert value is None or isinstance(value, bool | int | float | str | tuple)
        return value


def _is_a(value: object, wanted: type) -> bool:
    """Whether a value is of the type: whole numbers pass as float, True and False as bool only."""
    if isinstance(value, tuple):
        return wanted is tuple and all(type(v) is int for v in value)
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, int | float if wanted is float else wanted)


COMMON = {
    "in_channels": Parameter(1, "channels of the image", 1, 64),
    "out_channels": Parameter(2, "classes, the background included", 1, 4096),
    "spatial_dims": Parameter(3, "2 for slices, 3 for volumes", 2, 3),
}
"""The arguments that every network has."""
FUSION = Parameter(
    "input",
    "where the channels meet: in the first convolution, at every skip, or in the mean of a network's decisions each",
    choices=("input", "layer", "decision"),
)
"""A further argument of every network that takes an image; a model file holds it where it is not the default."""


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network by name: pure data, with the dotted path of its class, imported when built."""

    name: str
    target: str
    """Dotted path "package.module:Class" inside this project."""
    family: Family
    """The group in which a chooser shows it."""
    year: int
    """Of its publication."""
    summary: str
    """What it is, in a phrase."""
    when: str
    """When to use it, in one sentence."""
    reference: str
    """Authors, place and DOI."""
    dims: tuple[int, ...] = (2, 3)
    """The spatial dimensions that it can be built for; the default is the last."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """The network's own arguments, beside the common ones."""
    paper: Mapping[str, Argument] | None = None
    """The arguments that differ from the defaults in the published network; None where there is no paper preset."""
    parameters_paper: int | None = None
    """Trainable numbers of the paper preset: the sum of numel over its parameters; None where there is no preset."""
    counting: str = ""
    """How a published count differs from `parameters_paper`, where it does."""
    deep_supervision: bool = False
    """Whether the network can return logits of several decoder stages in training."""
    features_per_level: str = ""
    """The argument whose length is the number of levels, which a plan fits to the patch; "": the depth is fixed."""
    supervision: Supervision = "halving"
    """How the losses of those stages are weighted: each half of the one before, or all alike."""
    learning_rate: float = PLAIN_RATE
    """Peak learning rate of AdamW that it learns fastest by, where that was measured."""
    depthwise: bool = False
    """Whether most of its convolutions see one channel each: a CPU is slower at these in bf16 than in fp32."""
    takes: Takes = "image"
    """What its forward takes: an image, as training and segmenting expect; image+prompts: an image, a first
    segmentation and the user's marks; memory: slices and the masks of other slices; graph: nodes and edges; instances:
    an image, in which it finds objects one by one."""

    def arguments(self, preset: PresetName = "default", **overrides: object) -> dict[str, Argument]:
        """Every argument of the network after preset and overrides, checked: what a model file stores."""
        if preset not in ("default", "paper"):
            raise InputError(f"network {self.name}: preset is default or paper; got {shown(preset)}")
        if preset == "paper" and self.paper is None:
            raise InputError(f"network {self.name} has no paper preset: use preset='default'")
        known = {**COMMON, **self.parameters, **({"fusion": FUSION} if self.takes == "image" else {})}
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise InputError(
                f"network {self.name} has no argument {shown(unknown[0])}: its arguments are {', '.join(known)}"
            )
        chosen: dict[str, object] = {name: p.default for name, p in known.items()}
        chosen["spatial_dims"] = self.dims[-1]
        chosen.update((self.paper or {}) if preset == "paper" else {})
        chosen.update(overrides)
        checked = {name: known[name].check(f"network {self.name}", name, value) for name, value in chosen.items()}
        if (dims := checked["spatial_dims"]) not in self.dims:
            raise InputError(f"network {self.name} has spatial_dims {' or '.join(map(str, self.dims))}; got {dims}")
        if checked.get("fusion") == FUSION.default:
            del checked["fusion"]
        return checked

    def fast_in_bf16(self, device: str) -> bool:
        """Whether it gains by bf16 on a kind of device that multiplies bf16 natively."""
        return device != "cpu" or not self.depthwise

    def inputs_for(self, channels: int) -> int:
        """The argument in_channels for images of `channels` channels: of a graph, the features of a node."""
        return 2 * channels + IMAGE_AXES if self.takes == "graph" else channels

    def build(self, preset: PresetName = "default", **overrides: object) -> nn.Module:
        """The torch module. overrides: in_channels, out_channels, spatial_dims, then the network's own arguments.

        Raises InputError (a ValueError) for an unknown argument, a value out of bounds, or a missing paper preset.
        """
        return self.build_from(self.arguments(preset, **overrides))

    def build_from(self, arguments: Mapping[str, Argument]) -> nn.Module:
        """The torch module of arguments that `arguments` returned.

        Raises InputError where arguments that are each within their bounds do not go together.
        """
        module, _, name = self.target.partition(":")
        kind = getattr(importlib.import_module(module), name)
        own = {key: value for key, value in arguments.items() if key != "fusion"}
        try:
            network: nn.Module = kind(**own) if own == arguments else self._fused(kind, own, arguments["fusion"])
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"network {self.name}: these arguments do not go together: {error}") from error
        return network

    def _fused(self, kind: Callable[..., nn.Module], arguments: Mapping[str, Argument], fusion: Argument) -> nn.Module:
        fused = importlib.import_module("napari_medseg.architectures.fused").fused
        network: nn.Module = fused(kind, arguments, fusion)
        return network
