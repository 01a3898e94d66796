"""The MONAI networks that can be taken: a closed table from their names and arguments to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_medseg import registry
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.registry import Argument, shown

_PACKAGE = "monai.networks.nets."
Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Counterpart:
    """A network of ours that can hold the weights of a network of MONAI."""

    name: str
    """In our registry."""
    arguments: Mapping[str, tuple[str, Convert]] = field(default_factory=dict)
    """{MONAI's argument: (ours, the function that converts its value)}."""
    defaults: Mapping[str, Argument] = field(default_factory=dict)
    """Arguments whose default differs in MONAI, with MONAI's value."""
    ignored: frozenset[str] = frozenset()
    """Arguments of MONAI that change nothing in segmenting."""
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """{argument: the values that can be taken}."""


def network_of(path: Path, definition: Any) -> tuple[str, dict[str, Argument]]:
    """(name in our registry, all its arguments) of a bundle's network_def, which must be plain JSON.

    Raises ModelFileError for a network or an argument that is not in the table.
    """
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        raise ModelFileError(f"{path}: network_def needs a _target_, the name of a MONAI network")
    target = definition["_target_"]
    kind = target.rsplit(".", 1)[-1] if target.startswith(_PACKAGE) else target
    if kind not in _TABLE:
        raise ModelFileError(f"{path}: the target {shown(target)} is not allowed: taken are {', '.join(_TABLE)}")
    counterpart = _TABLE[kind]
    chosen: dict[str, Any] = dict(counterpart.defaults)
    for name, value in definition.items():
        if name == "_target_" or name in counterpart.ignored:
            continue
        if name in counterpart.fixed:
            if value not in counterpart.fixed[name]:
                raise ModelFileError(f"{path}: {kind} with {name} = {shown(value)} cannot be taken")
        elif name in counterpart.arguments:
            ours, convert = counterpart.arguments[name]
            try:
                chosen[ours] = convert(value)
            except (TypeError, ValueError) as error:
                raise ModelFileError(f"{path}: {kind} argument {name}: {error}") from None
        else:
            raise ModelFileError(f"{path}: unknown argument {shown(name)} of {kind}")
    try:
        return counterpart.name, registry.network(counterpart.name).arguments(**chosen)
    except InputError as error:
        raise ModelFileError(f"{path}: {kind}: {error}") from None


def _same(value: Any) -> Any:
    return value


def _one(value: Any) -> Any:
    """A size given once, or the same for every axis."""
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        return value[0]
    if isinstance(value, list):
        raise ValueError(f"only one size for all axes is taken; got {shown(value)}")
    return value


def _flat(value: Any) -> Any:
    """Sizes per level, or per level and axis, one after the other."""
    if isinstance(value, list) and any(isinstance(v, list) for v in value):
        if not all(isinstance(v, list) for v in value):
            raise ValueError("either one size per level or one per level and axis is taken")
        return [n for level in value for n in level]
    return value


def _norm(value: Any) -> str:
    name, options = value if isinstance(value, list) and len(value) == 2 else (value, {})
    kind = str(name).lower()
    if kind == "batch" and options in ({}, {"affine": True}):
        return "batch"
    if kind == "instance" and options in ({}, {"affine": False}, {"affine": True}):
        return "instance" if options == {"affine": True} else "instance_plain"
    raise ValueError(f"the normalisation {shown(name)} with these options cannot be taken")


def _activation(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("an activation with options cannot be taken")
    return value.upper()


def _dropout(value: Any) -> Any:
    return 0.0 if value is None else value


_COMMON: dict[str, tuple[str, Convert]] = {
    name: (name, _same) for name in ("spatial_dims", "in_channels", "out_channels")
} | {"dropout": ("dropout", _dropout)}
_SIZES: dict[str, tuple[str, Convert]] = {
    "channels": ("channels", _same),
    "strides": ("strides", _same),
    "kernel_size": ("kernel_size", _one),
    "up_kernel_size": ("up_kernel_size", _one),
}
_ATTENTION = Counterpart("monai_attention_unet", {**_COMMON, **_SIZES})
_DYNUNET = Counterpart(
    "dynunet",
    {
        **_COMMON,
        "filters": ("filters", _same),
        "kernel_size": ("kernel_sizes", _flat),
        "strides": ("strides", _flat),
        "norm_name": ("norm", _norm),
        "res_block": ("res_block", _same),
        "trans_bias": ("trans_bias", _same),
    },
    ignored=frozenset({"deep_supervision", "deep_supr_num", "upsample_kernel_size"}),
    fixed={"act_name": (["leakyrelu", {"inplace": True, "negative_slope": 0.01}],)},
)
_TABLE: Mapping[str, Counterpart] = {
    "UNet": Counterpart(
        "monai_unet",
        {
            **_COMMON,
            **_SIZES,
            "num_res_units": ("num_res_units", _same),
            "norm": ("norm", _norm),
            "act": ("activation", _activation),
            "bias": ("bias", _same),
        },
        defaults={"num_res_units": 0, "norm": "instance_plain"},
        fixed={"adn_ordering": ("NDA",)},
    ),
    "BasicUNet": Counterpart(
        "basicunet",
        {**_COMMON, "features": ("features", _same), "norm": ("norm", _norm), "upsample": ("upsample", _same)},
        fixed={"bias": (True,), "act": (["LeakyReLU", {"negative_slope": 0.1, "inplace": True}],)},
    ),
    "VNet": Counterpart(
        "vnet",
        _COMMON,
        defaults={"out_channels": 1},
        ignored=frozenset({"dropout_prob", "dropout_prob_down", "dropout_prob_up", "dropout_dim"}),
        fixed={"act": ("elu", ["elu", {"inplace": True}]), "bias": (False,)},
    ),
    "SegResNet": Counterpart(
        "segresnet",
        {
            **_COMMON,
            "init_filters": ("init_filters", _same),
            "blocks_down": ("blocks_down", _same),
            "blocks_up": ("blocks_up", _same),
            "dropout_prob": ("dropout", _dropout),
        },
        defaults={"init_filters": 8},
        fixed={
            "act": ("RELU", "relu", ["RELU", {"inplace": True}]),
            "norm": (["GROUP", {"num_groups": 8}],),
            "norm_name": ("",),
            "num_groups": (8,),
            "use_conv_final": (True,),
            "upsample_mode": ("nontrainable",),
        },
    ),
    "DynUNet": _DYNUNET,
    "DynUnet": _DYNUNET,
    "AttentionUnet": _ATTENTION,
    "AttentionUNet": _ATTENTION,
}
