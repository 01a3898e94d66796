"""What every importer hands over: a ModelSpec, the tensors under our names, and what could not be carried over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medseg import registry
from napari_medseg.errors import ModelFileError
from napari_medseg.registry import shown

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from napari_medseg.models.spec import ModelSpec
    from napari_medseg.registry import Argument

DEFAULT_PATCH_3D, DEFAULT_PATCH_2D = (96, 96, 96), (1, 256, 256)

Rename = Callable[[str], str | None]
"""A foreign tensor's name -> ours, or None for one that is a copy of another or plays no part in segmenting."""


@dataclass(frozen=True)
class Imported:
    """A foreign model in our terms."""

    spec: ModelSpec
    tensors: Mapping[str, torch.Tensor]
    notes: tuple[str, ...] = ()
    """What is not the same as in the program it comes from."""


def fitted(
    path: Path, tensors: Mapping[str, torch.Tensor], rename: Rename, network: str, arguments: Mapping[str, Argument]
) -> dict[str, torch.Tensor]:
    """The tensors under our names.

    Raises ModelFileError, naming the first tensor, unless they are exactly those of the network.
    """
    import torch

    with torch.device("meta"):
        expected = registry.network(network).build_from(arguments).state_dict()
    ours: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        own = rename(name)
        if own is None:
            continue
        if own not in expected:
            raise ModelFileError(f"{path}: does not fit network {network}: tensor {shown(name)} is not one of its")
        want, found = list(expected[own].shape), list(tensor.shape)
        if want != found or expected[own].is_floating_point() != tensor.is_floating_point():
            raise ModelFileError(
                f"{path}: does not fit network {network}: tensor {shown(name)}: expected shape {want}, found {found}"
            )
        if own in ours:
            raise ModelFileError(f"{path}: does not fit network {network}: tensor {shown(name)} is there twice")
        ours[own] = tensor.float() if tensor.is_floating_point() else tensor
    missing = next((name for name in expected if name not in ours), None)
    if missing is not None:
        raise ModelFileError(f"{path}: does not fit network {network}: it has no tensor for {missing}")
    return ours
