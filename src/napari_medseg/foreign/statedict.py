"""A bare state dict: the user names the network; the names and shapes of the tensors give its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg import registry
from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.foreign.asked import Asked
from napari_medseg.foreign.checkpoint import check_checkpoint
from napari_medseg.foreign.imported import DEFAULT_PATCH_2D, DEFAULT_PATCH_3D, Imported, fitted, renamer, unwrapped
from napari_medseg.foreign.shapes import read_off, shapes_of
from napari_medseg.foreign.tensors import read_weights
from napari_medseg.models.pipeline import PLAIN_OUTPUT, Output, Region
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

if TYPE_CHECKING:
    from napari_medseg.registry import Argument


def import_state_dict(path: Path, asked: Asked) -> Imported:
    """The model of a .pt or .pth file with a state dict of a network of ours, or of the MONAI network it wraps.

    Raises ModelFileError where the tensors are not the network's.
    """
    check_checkpoint(path)
    if asked.network is None:
        raise InputError(
            f"{path}: a state dict does not say which network it is of: name it with --network, one of "
            f"{', '.join(registry.networks())}"
        )
    spec = registry.network(asked.network)
    if spec.takes != "image":
        raise InputError(f"{path}: {asked.network} takes more than an image, and cannot segment by itself")
    weights = read_weights(path)
    if not any(tensor.ndim in (4, 5) for tensor in weights.tensors.values()):
        raise ModelFileError(f"{path}: holds no convolution in 2D or 3D: not a network that segments images")
    rename = renamer(asked.network)
    tensors = unwrapped(weights.tensors, rename, shapes_of(spec, {}) or {})
    known = _known(spec, asked)
    found = read_off(spec, {name: tuple(t.shape) for name, t in tensors.items()}, rename, known)
    arguments = spec.arguments(**found)  # type: ignore[arg-type]  # no preset among them
    ours = fitted(path, tensors, rename, asked.network, arguments)
    note = (
        f"{path}: a state dict says nothing of intensities, spacing and orientation: images are given to the network "
        f"as they are; say them, or import a bundle to have these too"
    )
    return Imported(_spec(path, asked, arguments), ours, (note,) if asked.says_nothing_of_images else ())


def _known(spec: registry.NetworkSpec, asked: Asked) -> dict[str, Argument]:
    """The arguments that are given; a preset gives all of them but the channels."""
    overrides = dict(asked.arguments or {})
    checked = spec.arguments(asked.preset, **overrides)
    if asked.preset == "default":
        return {name: checked[name] for name in overrides}
    return {name: value for name, value in checked.items() if name in spec.parameters or name in overrides}


def _spec(path: Path, asked: Asked, arguments: Mapping[str, Argument]) -> ModelSpec:
    inputs, outputs, dims = arguments["in_channels"], arguments["out_channels"], arguments["spatial_dims"]
    assert isinstance(inputs, int)
    assert isinstance(outputs, int)
    assert asked.network is not None, "asked before"
    if asked.labels is not None and len(asked.labels) != max(1, outputs - 1):
        raise ModelFileError(
            f"{path}: {outputs} output channels, but {len(asked.labels)} labels: give {max(1, outputs - 1)}"
        )
    named = dict(asked.labels or {k: f"class {k}" for k in range(1, max(2, outputs))})
    output = PLAIN_OUTPUT
    if outputs == 1:  # sigmoid: one region, above a half or not
        (label, name), *_ = named.items()
        output = Output(regions=(Region(name=name, label=label, rank=1),))
    return ModelSpec(
        network=asked.network,
        arguments=arguments,
        channels=tuple(Channel(name=f"channel {c}", modality=asked.modality) for c in range(inputs)),
        labels=named,
        output=output,
        patch_zyx=DEFAULT_PATCH_2D if dims == 2 else DEFAULT_PATCH_3D,
        spacing_zyx_mm=asked.spacing_zyx_mm,
        orientation=asked.orientation,
        normalisation=(asked.intensities or Normalisation(kind="none"),) * inputs,
        mode="2d" if dims == 2 else "3d",
        deep_supervision=bool(arguments.get("deep_supervision", False)),
    )
