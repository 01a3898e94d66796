"""The MONAI networks that can be taken: a closed table from their names and arguments to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_medseg import registry
from napari_medseg.errors import InputError, ModelFileError, NotSupportedError
from napari_medseg.registry import Argument, shown

_PACKAGES = ("monai.networks.nets.", "scripts.networks.unest.", "scripts.networks.unest_base_patch_4.")
Convert = Callable[[Any], Any]
_OUTSIDE: Mapping[str, str] = {
    "VISTA3D": "a network that waits for prompts",
    "VISTA2D": "a network that waits for prompts",
    "vista3d132": "a network that waits for prompts",
    "CellSamWrapper": "a network that waits for prompts",
    "RetinaNet": "a network that detects boxes",
    "RetinaNetDetector": "a network that detects boxes",
    "HoVerNet": "a network of several outputs",
    "AutoencoderKL": "a network that generates images",
    "DiffusionModelUNet": "a network that generates images",
    "DiffusionModelUNetMaisi": "a network that generates images",
    "TorchVisionFCModel": "a network that classifies images",
    "DenseNet121": "a network that classifies images",
}
"""{network: what it is}: no segmentation by itself."""
_MOST_BLOCKS = 64
"""Blocks, or depths, of a searched network: a file may claim any number."""


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
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """MONAI's arguments, before they are looked up; ValueError for those that do not go together."""


def network_of(path: Path, definition: Any) -> tuple[str, dict[str, Argument]]:
    """(name in our registry, all its arguments) of a bundle's network_def, with its references resolved.

    Raises ModelFileError for a network or an argument that is not in the table, NotSupportedError for a network that
    does not segment by itself.
    """
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        raise ModelFileError(f"{path}: network_def needs a _target_, the name of a MONAI network")
    kind = _kind(definition["_target_"])
    if kind in _OUTSIDE:
        raise NotSupportedError(f"{path}: {kind} is {_OUTSIDE[kind]}: taken are {', '.join(_TABLE)}")
    if kind not in _TABLE:
        raise ModelFileError(
            f"{path}: the target {shown(definition['_target_'])} is not allowed: taken are {', '.join(_TABLE)}"
        )
    counterpart = _TABLE[kind]
    chosen: dict[str, Any] = dict(counterpart.defaults)
    try:
        given = counterpart.prepare({k: v for k, v in definition.items() if k != "_target_"})
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ModelFileError(f"{path}: {kind}: {_line(error)}") from None
    for name, value in given.items():
        _take(path, kind, counterpart, chosen, name, value)
    try:
        return counterpart.name, registry.network(counterpart.name).arguments(**chosen)
    except InputError as error:
        raise ModelFileError(f"{path}: {kind}: {error}") from None


def _take(path: Path, kind: str, counterpart: Counterpart, chosen: dict[str, Any], name: str, value: Any) -> None:
    """Add one argument of MONAI to those chosen for ours."""
    if name in counterpart.ignored:
        return
    if name in counterpart.fixed:
        if value not in counterpart.fixed[name]:
            raise ModelFileError(f"{path}: {kind} with {name} = {shown(value)} cannot be taken")
    elif name in counterpart.arguments:
        ours, convert = counterpart.arguments[name]
        try:
            chosen[ours] = convert(value)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ModelFileError(f"{path}: {kind} argument {name}: {_line(error)}") from None
    else:
        raise ModelFileError(f"{path}: unknown argument {shown(name)} of {kind}")


def _line(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:200]


def _kind(target: str) -> str:
    package = next((package for package in _PACKAGES if target.startswith(package)), None)
    if package is None:
        return target
    return target.rsplit(".", 1)[-1]


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
    """Sizes per level, or per level and axis, one after the other; a level of one size has it along every axis."""
    if not isinstance(value, list) or not any(isinstance(v, list) for v in value):
        return value
    axes = next(len(v) for v in value if isinstance(v, list))
    return [n for level in value for n in (level if isinstance(level, list) else [level] * axes)]


def _norm(value: Any) -> str:
    name, options = value if isinstance(value, list) and len(value) == 2 else (value, {})
    kind = str(name).lower()
    options = options if isinstance(options, dict) else {"": options}
    if kind == "batch" and options in ({}, {"affine": True}):
        return "batch"
    if kind == "instance" and options in ({}, {"affine": False}, {"affine": True}):
        return "instance" if options == {"affine": True} else "instance_plain"
    if kind == "group" and {**options, "affine": True} == {"num_groups": options.get("num_groups"), "affine": True}:
        return f"group{options['num_groups']}"
    raise ValueError(f"the normalisation {shown(name)} with these options cannot be taken")


def _activation(value: Any) -> str:
    name, options = value if isinstance(value, list) and len(value) == 2 else (value, {})
    if not isinstance(name, str) or not isinstance(options, dict) or set(options) - {"inplace"}:
        raise ValueError("an activation with options cannot be taken")
    return name.upper()


def _dropout(value: Any) -> Any:
    return 0.0 if value is None else value


def _positions(value: Any) -> int:
    size = _one(value)
    if type(size) is not int or size % 16:
        raise ValueError(f"a size that is a multiple of 16 is expected; got {shown(size)}")
    return size // 16


def _with_filters(given: dict[str, Any]) -> dict[str, Any]:
    """MONAI's DynUNet: features double from 32 on, to at most 320 in 3D, and the up-convolutions undo the strides."""
    strides, dims = given.get("strides"), given.get("spatial_dims", 3)
    if not isinstance(strides, list):
        raise ValueError(f"strides must be a list; got {shown(strides)}")
    if type(dims) is not int or dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3; got {shown(dims)}")
    if given.get("filters") is None:
        given["filters"] = [min(2 ** (5 + k), 320 if dims == 3 else 512) for k in range(len(strides[:16]))]
    up = given.pop("upsample_kernel_size", strides[1:])
    if _expanded(up, dims) != _expanded(strides[1:], dims):
        raise ValueError("upsample_kernel_size must be the strides from the second on")
    return given


def _expanded(sizes: Any, dims: Any) -> Any:
    return [s if isinstance(s, list) else [s] * dims for s in sizes] if isinstance(sizes, list) else sizes


def _dints(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the searched space beside those of the network; the codes are lists of numbers."""
    space = given.pop("dints_space")
    if not isinstance(space, dict) or str(space.get("_target_", "")).rsplit(".", 1)[-1] != "TopologyInstance":
        raise ValueError("dints_space must be a TopologyInstance")
    codes = space.get("arch_code")
    if not isinstance(codes, list) or len(codes) != 2:
        raise ValueError("arch_code must hold two tables")
    known = ("num_blocks", "num_depths", "channel_mul", "use_downsample")
    given |= {name: space[name] for name in known if name in space} | {"paths": codes[0], "operations": codes[1]}
    for name in ("spatial_dims", "act_name", "norm_name"):
        if name in space and name in given and space[name] != given[name]:
            raise ValueError(f"{name} of the network and of dints_space differ")
    rows = given["paths"]
    if given.get("node_a") is None:
        blocks, depths = given.get("num_blocks", 6), given.get("num_depths", 3)
        if not all(type(count) is int and 0 < count <= _MOST_BLOCKS for count in (blocks, depths)):
            raise ValueError(f"num_blocks and num_depths must be whole numbers from 1 to {_MOST_BLOCKS}")
        given["node_a"] = [1] * ((blocks + 1) * depths)
    if not isinstance(rows, list):
        raise ValueError("arch_code must hold numbers")
    return given


def _whole_numbers(value: Any) -> list[int]:
    """A table of numbers, row after row, as whole numbers."""
    if isinstance(value, list):
        return [n for row in value for n in (_whole_numbers(row) if isinstance(row, list) else [_whole(row)])]
    raise ValueError(f"a table of numbers is expected; got {shown(value)}")


def _whole(value: Any) -> int:
    if isinstance(value, bool | int | float) and value == int(value):
        return int(value)
    raise ValueError(f"a whole number is expected; got {shown(value)}")


_COMMON: dict[str, tuple[str, Convert]] = {
    name: (name, _same) for name in ("spatial_dims", "in_channels", "out_channels")
} | {"dropout": ("dropout", _dropout)}
_SIZES: dict[str, tuple[str, Convert]] = {
    "channels": ("channels", _same),
    "strides": ("strides", _flat),
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
    ignored=frozenset({"deep_supervision", "deep_supr_num"}),
    fixed={"act_name": (["leakyrelu", {"inplace": True, "negative_slope": 0.01}], "leakyrelu")},
    prepare=_with_filters,
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
            "upsample_mode": ("upsample", _same),
        },
        defaults={"init_filters": 8},
        fixed={
            "act": ("RELU", "relu", ["RELU", {"inplace": True}], ["relu", {"inplace": True}]),
            "norm": (["GROUP", {"num_groups": 8}], ["group", {"num_groups": 8}]),
            "norm_name": ("", "group"),
            "num_groups": (8,),
            "use_conv_final": (True,),
        },
    ),
    "DynUNet": _DYNUNET,
    "DynUnet": _DYNUNET,
    "AttentionUnet": _ATTENTION,
    "AttentionUNet": _ATTENTION,
    "SwinUNETR": Counterpart(
        "swinunetr",
        {
            **_COMMON,
            "feature_size": ("feature_size", _same),
            "depths": ("depths", _same),
            "num_heads": ("num_heads", _same),
            "window_size": ("window_size", _one),
            "norm_name": ("norm", _norm),
            "use_v2": ("residual_merging", _same),
        },
        defaults={"norm": "instance_plain"},
        ignored=frozenset(
            {"img_size", "drop_rate", "attn_drop_rate", "dropout_path_rate", "use_checkpoint"}  # training, or old
        ),
        fixed={
            "patch_size": (2,),
            "qkv_bias": (True,),
            "mlp_ratio": (4, 4.0),
            "normalize": (True,),
            "patch_norm": (False,),
            "downsample": ("merging",),
        },
    ),
    "UNETR": Counterpart(
        "unetr",
        {
            **_COMMON,
            "img_size": ("positions", _positions),
            "feature_size": ("feature_size", _same),
            "hidden_size": ("hidden_size", _same),
            "mlp_dim": ("mlp_dim", _same),
            "num_heads": ("num_heads", _same),
            "dropout_rate": ("dropout", _dropout),
            "norm_name": ("norm", _norm),
        },
        defaults={"feature_size": 16, "hidden_size": 768, "mlp_dim": 3072, "num_heads": 12, "norm": "instance_plain"},
        ignored=frozenset({"save_attn"}),
        fixed={
            "proj_type": ("conv", "perceptron"),
            "pos_embed": ("conv", "perceptron"),
            "conv_block": (True,),
            "res_block": (True,),
            "qkv_bias": (False,),
        },
    ),
    "FlexibleUNet": Counterpart(
        "flexibleunet",
        {
            **_COMMON,
            "backbone": ("backbone", _same),
            "decoder_channels": ("decoder_channels", _same),
            "pre_conv": ("upsample_widths", lambda value: {"default": "projected", None: "kept"}[value]),
        },
        defaults={"spatial_dims": 2, "norm": "batch"},
        ignored=frozenset({"pretrained", "is_pad"}),  # of training, and of sizes that ours never gives it
        fixed={
            "norm": (["batch", {"eps": 1e-3, "momentum": 0.1}],),
            "act": (["relu", {"inplace": True}], "relu"),
            "decoder_bias": (False,),
            "upsample": ("nontrainable",),
            "interp_mode": ("nearest",),
        },
    ),
    "DiNTS": Counterpart(
        "dints",
        {
            **_COMMON,
            "num_classes": ("out_channels", _same),
            "num_blocks": ("blocks", _same),
            "num_depths": ("depths", _same),
            "channel_mul": ("channel_mul", float),
            "use_downsample": ("downsample", _same),
            "paths": ("paths", _whole_numbers),
            "operations": ("operations", _whole_numbers),
            "node_a": ("nodes", _whole_numbers),
        },
        defaults={"blocks": 6, "depths": 3},
        fixed={
            "act_name": ("RELU", "relu"),
            "norm_name": (["INSTANCE", {"affine": True}], ["instance", {"affine": True}]),
        },
        prepare=_dints,
    ),
    "UNesT": Counterpart(
        "unest",
        {
            **_COMMON,
            "feature_size": ("feature_size", _same),
            "depths": ("depths", _same),
            "num_heads": ("num_heads", _same),
        },
        ignored=frozenset({"img_size", "window_size", "dropout_rate", "conv_block"}),
        fixed={
            "norm_name": ("instance",),
            "res_block": (True,),
            "patch_size": (4,),
            "embed_dim": ([128, 256, 512],),
        },
    ),
}
