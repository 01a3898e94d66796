"""A bare state dict: the user names the network; the shapes of the tensors give its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import registry
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.foreign.checkpoint import check_checkpoint
from napari_medseg.foreign.imported import DEFAULT_PATCH_2D, DEFAULT_PATCH_3D, Imported, fitted, renamer
from napari_medseg.foreign.tensors import read_weights
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

if TYPE_CHECKING:
    from napari_medseg.registry import Argument, PresetName

Shapes = Mapping[str, tuple[int, ...]]
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
"""Prefixes that torch's wrappers (DataParallel, compile) add to every name."""


def import_state_dict(
    path: Path,
    *,
    network: str | None,
    preset: PresetName = "default",
    labels: Mapping[int, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Imported:
    """The model of a .pt or .pth file with a state dict of `network`, one of ours or the MONAI network it wraps.

    labels: names of the output channels 1, 2, ... by ascending id; without them "class 1", ... overrides: arguments of
    the network that are not read off the shapes. Raises ModelFileError where the tensors are not the network's.
    """
    check_checkpoint(path)
    if network is None:
        raise InputError(
            f"{path}: a state dict does not say which network it is of: name it with --network, one of "
            f"{', '.join(registry.networks())}"
        )
    spec = registry.network(network)
    weights = read_weights(path)
    tensors = {_WRAPPERS.sub("", name): tensor for name, tensor in weights.tensors.items()}
    rename = renamer(network)
    found = arguments_of(path, network, {name: tuple(t.shape) for name, t in tensors.items() if rename(name)})
    arguments = spec.arguments(preset, **{**_known(spec, found), **(overrides or {})})
    ours = fitted(path, tensors, rename, network, arguments)
    return Imported(
        _spec(path, network, arguments, labels),
        ours,
        (
            f"{path}: a state dict says nothing of intensities, spacing and orientation: images are given to the "
            f"network as they are; import a bundle to have these too",
        ),
    )


def arguments_of(path: Path, network: str, shapes: Shapes) -> dict[str, object]:
    """The arguments that the shapes of the tensors give: dimensions, channels, classes, features of known networks."""
    kernels = [shape for shape in shapes.values() if len(shape) in (4, 5)]
    if not kernels:
        raise ModelFileError(f"{path}: holds no convolution in 2D or 3D: not a network that segments images")
    found: dict[str, object] = {
        "spatial_dims": len(kernels[0]) - 2,
        "in_channels": kernels[0][1],
        "out_channels": kernels[-1][0],
    }
    if network in _FEATURES:
        found |= _FEATURES[network](shapes)
    return found


def _known(spec: registry.NetworkSpec, found: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if name in {**registry.COMMON, **spec.parameters}}


def _unet3d(shapes: Shapes) -> dict[str, object]:
    channels = _widths(shapes, r"encoder\.(\d+)\.\d+\.conv\.weight")
    heads = [name for name in shapes if re.fullmatch(r"heads\.\d+\.weight", name)]
    return {
        "channels": channels,
        "deep_supervision": len(heads) > 1,
        "out_channels": shapes[heads[0]][0] if heads else 2,
    }


def _nnunet(shapes: Shapes) -> dict[str, object]:
    heads = [name for name in shapes if re.fullmatch(r"(heads|decoder\.seg_layers)\.\d+\.weight", name)]
    return {"deep_supervision": len(heads) > 1}


def _basicunet(shapes: Shapes) -> dict[str, object]:
    def width(name: str) -> int:
        return next((s[0] for n, s in shapes.items() if n.endswith(name)), 32)

    down = [width(f"down_{k}.convs.conv_1.conv.weight") for k in (1, 2, 3, 4)]
    return {
        "features": (width("conv_0.conv_1.conv.weight"), *down, width("upcat_1.convs.conv_1.conv.weight")),
        "norm": "batch" if any("running_mean" in name for name in shapes) else "instance",
    }


def _segresnet(shapes: Shapes) -> dict[str, object]:
    filters = next((s[0] for n, s in shapes.items() if n.endswith("convInit.conv.weight")), 16)
    return {
        "init_filters": filters,
        "blocks_down": _counts(shapes, r"down_layers\.(\d+)\.(\d+)\.conv1\.conv\.weight"),
        "blocks_up": _counts(shapes, r"up_layers\.(\d+)\.(\d+)\.conv1\.conv\.weight"),
    }


def _widths(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """The features of each level, from its last convolution; the group of the pattern is the level."""
    found = {int(m[1]): shape[0] for name, shape in shapes.items() if (m := re.search(pattern, name))}
    return tuple(found[level] for level in sorted(found))


def _counts(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """The number of blocks of each level."""
    levels = [int(m[1]) for name in shapes if (m := re.search(pattern, name))]
    return tuple(levels.count(level) for level in sorted(set(levels)))


_FEATURES: dict[str, Callable[[Shapes], dict[str, object]]] = {
    "unet3d": _unet3d,
    "nnunet": _nnunet,
    "basicunet": _basicunet,
    "segresnet": _segresnet,
}


def _spec(path: Path, network: str, arguments: Mapping[str, Argument], labels: Mapping[int, str] | None) -> ModelSpec:
    inputs, outputs, dims = arguments["in_channels"], arguments["out_channels"], arguments["spatial_dims"]
    assert isinstance(inputs, int)
    assert isinstance(outputs, int)
    if outputs < 2:
        raise ModelFileError(f"{path}: one output channel is a sigmoid output: only softmax outputs are taken")
    return ModelSpec(
        network=network,
        arguments=arguments,
        channels=tuple(Channel(name=f"channel {c}", modality="other") for c in range(inputs)),
        labels=labels or {k: f"class {k}" for k in range(1, outputs)},
        patch_zyx=DEFAULT_PATCH_2D if dims == 2 else DEFAULT_PATCH_3D,
        normalisation=(Normalisation(kind="none"),) * inputs,
        mode="2d" if dims == 2 else "3d",
        deep_supervision=bool(arguments.get("deep_supervision", False)),
    )
