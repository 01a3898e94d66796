"""nnU-Net v2's plans.json: one configuration of it as arguments of our network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_medseg import registry
from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.geometry import Triple
from napari_medseg.models.pipeline import Method
from napari_medseg.registry import Argument, shown

_RESIDUAL = {"PlainConvUNet": False, "ResidualEncoderUNet": True}
_PACKAGE = "dynamic_network_architectures.architectures."
_DIMENSIONS = {f"torch.nn.modules.conv.Conv{n}d": n for n in (2, 3)}
_NORMS = {
    **{f"torch.nn.modules.instancenorm.InstanceNorm{n}d": "instance" for n in (2, 3)},
    **{f"torch.nn.modules.batchnorm.BatchNorm{n}d": "batch" for n in (2, 3)},
    **{f"torch.nn.BatchNorm{n}d": "batch" for n in (2, 3)},
}
_ACTIVATIONS = {"torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"}
_MAX_INHERITED = 8


@dataclass(frozen=True)
class Configuration:
    """One configuration ("3d_fullres") of the plans."""

    arguments: dict[str, Argument]
    """Of the network nnunet."""
    patch_zyx: tuple[int, int, int]
    spacing_zyx_mm: Triple
    """In mm, as patch_zyx in the axis order after transpose_forward; for 2D slices the median distance comes first."""
    normalisation: tuple[str, ...]
    """The scheme of each channel, by nnU-Net's name."""
    use_mask: tuple[bool, ...]
    """Whether a channel is normalised over its nonzero voxels only."""
    method: Method | None
    """How images are resampled; None: not at all."""
    notes: tuple[str, ...] = ()


def configuration_of(path: Path, plans: Mapping[str, Any], name: str, in_channels: int, classes: int) -> Configuration:
    """The configuration of that name in a plans.json.

    Raises ModelFileError for plans out of their form or bounds, NotSupportedError for architectures other than
    PlainConvUNet and ResidualEncoderUNet.
    """
    table = _inherited(path, plans, name)
    method, notes = _resampling(path, table)
    try:
        arguments = _arguments(path, table)
        arguments |= {"in_channels": in_channels, "out_channels": classes, "deep_supervision": True}
        checked = registry.network("nnunet").arguments(**arguments)
        patch, spacing = _integers(table["patch_size"]), [float(v) for v in table["spacing"]]
        if checked["spatial_dims"] == 2:
            patch, spacing = [1, *patch], [float(plans["original_median_spacing_after_transp"][0]), *spacing]
        (pz, py, px), (sz, sy, sx) = patch, spacing
        schemes = tuple(str(s) for s in table["normalization_schemes"])
        masks = tuple(bool(m) for m in table.get("use_mask_for_norm", ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(f"{path}: configuration {shown(name)} cannot be used: {what[:200]}") from None
    return Configuration(checked, (pz, py, px), (sz, sy, sx), schemes, masks, method, notes)


def _resampling(path: Path, table: Mapping[str, Any]) -> tuple[Method | None, tuple[str, ...]]:
    """How images are resampled, and what differs here."""
    name = table.get("resampling_fn_data", "resample_data_or_seg_to_shape")
    given = table.get("resampling_fn_data_kwargs", {})
    given = given if isinstance(given, dict) else {}
    if name == "no_resampling_data_or_seg_to_shape":
        return None, ()
    if name == "resample_torch_fornnunet":
        return "extent", ()
    if name not in ("resample_data_or_seg_to_shape", "resample_torch_simple"):
        raise NotSupportedError(f"{path}: the resampling {shown(name)} cannot be taken")
    if name == "resample_torch_simple":
        return "extent", ()
    if given.get("order", 3) == 1 and given.get("force_separate_z") is False:
        return "extent", ()
    usual = given.get("order", 3) == 3 and given.get("order_z", 0) == 0 and given.get("force_separate_z") is None
    return "cubic", () if usual else (
        "the plans resample with other orders; here with splines, and thick slices apart",
    )


def _inherited(path: Path, plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration, completed by those that it inherits from."""
    configurations: Any = plans.get("configurations")
    merged: dict[str, Any] = {}
    current: Any = name
    for _ in range(_MAX_INHERITED):
        known = isinstance(configurations, dict) and isinstance(current, str)
        table = configurations.get(current) if known else None
        if not isinstance(table, dict):
            raise ModelFileError(f"{path}: it has no configuration {shown(current)}")
        merged = {**table, **merged}
        current = table.get("inherits_from")
        if current is None:
            return merged
    raise ModelFileError(f"{path}: configuration {shown(name)} inherits in a circle")


def _arguments(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the network, from plans of nnU-Net 2.4 and later, or of older ones."""
    if "architecture" not in table:
        return _older(path, table)
    architecture = table["architecture"]
    residual = _residual(path, str(architecture["network_class_name"]).removeprefix(_PACKAGE).rsplit(".", 1)[-1])
    chosen = architecture["arch_kwargs"]
    for key, taken in (
        ("conv_op", _DIMENSIONS),
        ("norm_op", _NORMS),
        ("nonlin", _ACTIVATIONS),
        ("dropout_op", {None}),
        ("nonlin_first", {False}),
        ("norm_op_kwargs", None),
        ("nonlin_kwargs", None),
    ):
        value = chosen.get(key, False if key == "nonlin_first" else None)
        if taken is None:
            usual = ({"eps": 1e-05, "affine": True}, {"affine": True}, {"inplace": True}, {"negative_slope": 0.01})
            ok = value in usual
        else:
            ok = isinstance(value, str | bool | None) and value in taken
        if not ok:
            raise NotSupportedError(f"{path}: {key} {shown(value)} cannot be taken")
    return {
        "spatial_dims": _DIMENSIONS[chosen["conv_op"]],
        "residual": residual,
        "features": _integers(chosen["features_per_stage"]),
        "kernel_sizes": _flat(chosen["kernel_sizes"]),
        "strides": _flat(chosen["strides"]),
        "blocks": _integers(chosen["n_blocks_per_stage" if residual else "n_conv_per_stage"]),
        "decoder_blocks": _integers(chosen["n_conv_per_stage_decoder"]),
        "bias": chosen.get("conv_bias", False),
        "norm": _NORMS[chosen["norm_op"]],
    }


def _older(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    residual = _residual(path, str(table["UNet_class_name"]))
    blocks = _integers(table["n_conv_per_stage_encoder"])
    base, most = table["UNet_base_num_features"], table["unet_max_num_features"]
    return {
        "spatial_dims": len(table["patch_size"]),
        "residual": residual,
        "features": [min(base * 2 ** min(k, 20), most) for k in range(len(blocks))],
        "kernel_sizes": _flat(table["conv_kernel_sizes"]),
        "strides": _flat(table["pool_op_kernel_sizes"]),
        "blocks": blocks,
        "decoder_blocks": _integers(table["n_conv_per_stage_decoder"]),
        "bias": True,
    }


def _residual(path: Path, architecture: str) -> bool:
    if architecture not in _RESIDUAL:
        raise NotSupportedError(
            f"{path}: the network {shown(architecture)} cannot be taken: {' and '.join(_RESIDUAL)} can"
        )
    return _RESIDUAL[architecture]


def _integers(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(v) is int for v in value):
        raise ValueError(f"a list of whole numbers is expected; got {shown(value)}")
    return value


def _flat(value: Any) -> list[int]:
    """[[1, 3, 3], [3, 3, 3]] -> [1, 3, 3, 3, 3, 3]."""
    if isinstance(value, list) and value and all(isinstance(level, list) for level in value):
        return _integers([n for level in value for n in level])
    return _integers(value)
