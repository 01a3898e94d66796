"""The one table of networks. Pure data: a network's module (and torch) is imported only when it is built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

from napari_medseg.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

PresetName = Literal["default", "paper"]
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


#: the arguments that every network has
COMMON = {
    "in_channels": Parameter(1, "channels of the image", 1, 64),
    "out_channels": Parameter(2, "classes, the background included", 1, 4096),
    "spatial_dims": Parameter(3, "2 for slices, 3 for volumes", 2, 3),
}


@dataclass(frozen=True)
class NetworkSpec:
    """A network by name: pure data, with the dotted path of its class, imported when built."""

    name: str
    target: str
    """Dotted path "package.module:Class" inside this project."""
    summary: str
    citation: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """The network's own arguments, beside the common ones."""
    paper: Mapping[str, Argument] | None = None
    """The arguments that differ from the defaults in the published network; None where there is no paper preset."""
    deep_supervision: bool = False
    """Whether the network can return logits of several scales in training."""

    def arguments(self, preset: PresetName = "default", **overrides: object) -> dict[str, Argument]:
        """Every argument of the network after preset and overrides, checked: what a model file stores."""
        if preset not in ("default", "paper"):
            raise InputError(f"network {self.name}: preset is default or paper; got {shown(preset)}")
        if preset == "paper" and self.paper is None:
            raise InputError(f"network {self.name} has no paper preset: use preset='default'")
        known = {**COMMON, **self.parameters}
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise InputError(
                f"network {self.name} has no argument {shown(unknown[0])}: its arguments are {', '.join(known)}"
            )
        chosen: dict[str, object] = {name: p.default for name, p in known.items()}
        chosen.update((self.paper or {}) if preset == "paper" else {})
        chosen.update(overrides)
        return {name: known[name].check(f"network {self.name}", name, value) for name, value in chosen.items()}

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
        try:
            network: nn.Module = kind(**arguments)
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"network {self.name}: these arguments do not go together: {error}") from error
        return network


_DROPOUT = Parameter(0.0, "probability of dropping a feature in training", 0, 0.95)
_NORM = Parameter("instance", "normalisation after each convolution", choices=("instance", "instance_plain", "batch"))
_NETWORKS = (
    NetworkSpec(
        name="unet3d",
        target="napari_medseg.networks.unet3d:UNet3D",
        summary="U-Net: strided, instance norm, deep supervision; as published: pooling, batch norm",
        citation="Çiçek et al., MICCAI 2016, doi:10.1007/978-3-319-46723-8_49",
        parameters={
            "channels": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=2, longest=8
            ),
            "norm": Parameter("instance", "normalisation after each convolution", choices=("instance", "batch")),
            "activation": Parameter("leakyrelu", "what follows the normalisation", choices=("leakyrelu", "relu")),
            "down": Parameter("stride", "how the size is halved", choices=("stride", "maxpool")),
            "bias": Parameter(False, "whether the 3^n convolutions have biases, which the normalisation undoes"),
            "narrow_first": Parameter(False, "half the features in the first convolution of each encoder level"),
            "wide_up": Parameter(False, "up-convolutions keep the features of the coarser level"),
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        paper={
            "channels": (64, 128, 256, 512),
            "norm": "batch",
            "activation": "relu",
            "down": "maxpool",
            "bias": True,
            "narrow_first": True,
            "wide_up": True,
            "deep_supervision": False,
        },
        deep_supervision=True,
    ),
    NetworkSpec(
        name="vnet",
        target="napari_medseg.networks.vnet:VNet",
        summary="V-Net: 5^n convolutions in residual stages, batch norm, ELU",
        citation="Milletari et al., 3DV 2016, doi:10.1109/3DV.2016.79",
        parameters={
            "dropout": Parameter(0.0, "probability of dropping a whole feature map in the two deepest levels", 0, 0.95),
        },
        paper={},
    ),
    NetworkSpec(
        name="nnunet",
        target="napari_medseg.networks.nnunet:NnUNet",
        summary="The U-Net that nnU-Net plans: kernels and strides per level and axis, plain or residual encoder",
        citation="Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z",
        parameters={
            "features": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=2, longest=10
            ),
            "kernel_sizes": Parameter(
                (3, 3, 3, 3, 3), "odd kernel sizes, one per level or per level and axis", 1, 7, shortest=2, longest=30
            ),
            "strides": Parameter(
                (1, 2, 2, 2, 2),
                "steps into each level, one per level or per level and axis",
                1,
                8,
                shortest=2,
                longest=30,
            ),
            "blocks": Parameter((2, 2, 2, 2, 2), "convolutions (or residual blocks) per level", 1, 16, shortest=2),
            "decoder_blocks": Parameter((2, 2, 2, 2), "convolutions per decoder level, the coarsest first", 1, 16),
            "residual": Parameter(False, "residual encoder"),
            "bias": Parameter(True, "whether convolutions have biases"),
            "deep_supervision": Parameter(True, "logits of every decoder level in training"),
        },
        deep_supervision=True,
    ),
    NetworkSpec(
        name="basicunet",
        target="napari_medseg.networks.ready:BasicUNet",
        summary="MONAI's BasicUNet: two convolutions per level, max-pooling, five levels",
        citation="Falk et al., Nature Methods 2019, doi:10.1038/s41592-018-0261-2",
        parameters={
            "features": Parameter(
                (32, 32, 64, 128, 256, 32), "features of five levels and of the output", 1, 2048, shortest=6, longest=6
            ),
            "norm": _NORM,
            "upsample": Parameter("deconv", "how the size is doubled", choices=("deconv", "nontrainable")),
            "dropout": _DROPOUT,
        },
    ),
    NetworkSpec(
        name="stridedunet",
        target="napari_medseg.networks.ready:StridedUNet",
        summary="MONAI's UNet: strided residual units, PReLU",
        citation="Kerfoot et al., STACOM 2018, doi:10.1007/978-3-030-12029-0_40",
        parameters={
            "channels": Parameter((16, 32, 64, 128, 256), "features per level", 1, 2048, shortest=2, longest=8),
            "strides": Parameter((2, 2, 2, 2), "steps between the levels", 1, 4, longest=7),
            "num_res_units": Parameter(2, "convolutions in a residual unit; 0: plain convolutions", 0, 8),
            "kernel_size": Parameter(3, "kernel of the convolutions", 1, 7),
            "up_kernel_size": Parameter(3, "kernel of the up-convolutions", 1, 7),
            "norm": _NORM,
            "activation": Parameter("PRELU", "what follows the normalisation", choices=("PRELU", "RELU", "LEAKYRELU")),
            "dropout": _DROPOUT,
            "bias": Parameter(True, "whether convolutions have biases"),
        },
    ),
    NetworkSpec(
        name="dynunet",
        target="napari_medseg.networks.ready:DynUNet",
        summary="MONAI's DynUNet, after nnU-Net: kernels and strides per level and axis",
        citation="Isensee et al., Nature Methods 2021, doi:10.1038/s41592-020-01008-z",
        parameters={
            "filters": Parameter(
                (32, 64, 128, 256, 320), "features per level, the finest first", 1, 2048, shortest=3, longest=10
            ),
            "kernel_sizes": Parameter(
                (3, 3, 3, 3, 3), "odd kernel sizes, one per level or per level and axis", 1, 7, shortest=3, longest=30
            ),
            "strides": Parameter(
                (1, 2, 2, 2, 2),
                "steps into each level, one per level or per level and axis",
                1,
                8,
                shortest=3,
                longest=30,
            ),
            "norm": _NORM,
            "res_block": Parameter(False, "residual blocks"),
            "trans_bias": Parameter(False, "whether up-convolutions have biases"),
            "dropout": _DROPOUT,
        },
    ),
    NetworkSpec(
        name="segresnet",
        target="napari_medseg.networks.ready:SegResNet",
        summary="MONAI's SegResNet: residual encoder with group norm, additive skips",
        citation="Myronenko, BrainLes 2018, doi:10.1007/978-3-030-11726-9_28",
        parameters={
            "init_filters": Parameter(16, "features of the finest level, a multiple of 8", 8, 512),
            "blocks_down": Parameter((1, 2, 2, 4), "residual blocks per encoder level", 1, 16, shortest=2, longest=8),
            "blocks_up": Parameter(
                (1, 1, 1), "residual blocks per decoder level, the coarsest first", 1, 16, longest=7
            ),
            "dropout": _DROPOUT,
        },
    ),
    NetworkSpec(
        name="attentionunet",
        target="napari_medseg.networks.ready:AttentionUNet",
        summary="MONAI's Attention U-Net: additive gates on the skips",
        citation="Oktay et al., MIDL 2018, doi:10.48550/arXiv.1804.03999",
        parameters={
            "channels": Parameter((64, 128, 256, 512, 1024), "features per level", 2, 2048, shortest=2, longest=8),
            "strides": Parameter((2, 2, 2, 2), "steps between the levels", 1, 4, longest=8),
            "kernel_size": Parameter(3, "kernel of the convolutions", 1, 7),
            "up_kernel_size": Parameter(3, "kernel of the up-convolutions", 1, 7),
            "dropout": _DROPOUT,
        },
    ),
)
_TABLE = {spec.name: spec for spec in _NETWORKS}


def networks() -> dict[str, NetworkSpec]:
    """Every network by name; no torch is loaded."""
    return dict(_TABLE)


def network(name: str) -> NetworkSpec:
    """The network of that name; UnknownNameError lists the choices."""
    if name not in _TABLE:
        raise UnknownNameError(f"unknown network {shown(name)}: choose one of {', '.join(sorted(_TABLE))}")
    return _TABLE[name]
