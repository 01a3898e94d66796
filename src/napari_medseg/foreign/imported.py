"""The result of every importer: a ModelSpec, the tensors under our names, and notes on what differs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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
"""The name of a foreign tensor -> ours; None for a copy of another tensor, or one that segmenting does not use."""

_HELD = frozenset(
    (
        *("basicunet", "basicunetplusplus", "monai_unet", "segresnet", "segresnetds", "monai_attention_unet"),
        *("highresnet", "mednext", "ahnet", "flexibleunet", "dints", "unetr", "swinunetr"),
    )
)
"""Our networks that hold one of MONAI, as `net`."""
_UNUSED = (".norm_cross_attn.", ".cross_attn.", "patch_embedding.cls_token", "n_averaged")
"""Tensors that MONAI's transformers and torch's averages have, and segmenting has no use for."""
PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "network.")
"""What the wrappers of training programs put before every name."""
_MAX_WRAPPERS = 6
_NNUNET = (
    (r"encoder\.stem\.convs\.0\.", "stem."),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", r"encoder.\1.\2."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", r"encoder.\1.\2."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.\2."),
    (r"decoder\.transpconvs\.(\d+)\.", r"up.\1."),
    (r"decoder\.seg_layers\.(\d+)\.", r"heads.\1."),
)


@dataclass(frozen=True)
class Imported:
    """A foreign model in our terms."""

    spec: ModelSpec
    tensors: Mapping[str, torch.Tensor]
    notes: tuple[str, ...] = ()
    """How the model differs from that of the source program, one line each."""


Group = Mapping[str, Callable[[], Imported]]
"""Models of the same labels, which are averaged where they are several: {what a file's name ends with: the model}."""


@dataclass(frozen=True)
class ImportedCrop:
    """What looks at the whole image first, so that the others see the box around its labels."""

    name: str
    """As the user knows it."""
    models: Group
    margin_mm: float


@dataclass(frozen=True)
class ImportedSet:
    """Several foreign models that belong together; each is read when it is its turn."""

    members: tuple[Group, ...]
    """The parts of one labelling; one part, where all are averaged."""
    notes: tuple[str, ...] = ()
    crop: ImportedCrop | None = None

    @property
    def loads(self) -> Group:
        """All models, the crop's last."""
        groups = (*self.members, *((self.crop.models,) if self.crop else ()))
        return {name: load for group in groups for name, load in group.items()}

    @property
    def is_averaged(self) -> bool:
        """Whether all models have the same labels, and see all of the image."""
        return len(self.members) == 1 and self.crop is None


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
    for name, tensor in unwrapped(tensors, rename, expected).items():
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


def unwrapped(
    tensors: Mapping[str, torch.Tensor], rename: Rename, expected: Mapping[str, object]
) -> Mapping[str, torch.Tensor]:
    """The tensors without the prefixes of wrappers, in any nesting: as few as it takes to fit best."""
    return max(_shorter(tensors), key=lambda named: _fitting(named, rename, expected))


def _shorter(tensors: Mapping[str, torch.Tensor]) -> Iterator[Mapping[str, torch.Tensor]]:
    """The tensors, then with one prefix less each time, as long as most of them share one."""
    yield tensors
    for _ in range(_MAX_WRAPPERS):
        shared = (p for p in PREFIXES if sum(name.startswith(p) for name in tensors) * 2 > len(tensors))
        prefix = next(shared, None)
        if prefix is None:
            return
        shorter = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if len(shorter) < len(tensors):
            return
        tensors = shorter
        yield tensors


def _fitting(tensors: Mapping[str, object], rename: Rename, expected: Mapping[str, object]) -> int:
    return sum(rename(name) in expected for name in tensors)


def renamer(network: str) -> Rename:
    """The function that gives foreign tensors their names in our network; names of ours stay."""
    holder = held_by(network)
    if holder:

        def held(name: str) -> str | None:
            if any(part in f".{name}" for part in _UNUSED):
                return None
            return name if name.startswith(holder) else holder + name

        return held
    return {"vnet": _vnet, "dynunet": _dynunet, "nnunet": _nnunet}.get(network, lambda name: name)


def held_by(network: str) -> str:
    """What the names of our network have before those of MONAI's: "net.", or nothing."""
    return "net." if network in _HELD else ""


def _vnet(name: str) -> str:
    if name.startswith("stages."):
        return name
    return f"stages.{name.replace('in_tr.conv_block', 'in_tr.convolution')}"


def _dynunet(name: str) -> str | None:
    """MONAI lists every tensor a second time under skip_layers; our network has no supervised scales."""
    name = name.removeprefix("net.")
    copies = ("input_block.", "downsamples.", "bottleneck.", "upsamples.", "deep_supervision_heads.")
    if name.startswith(copies) or ".super_head." in name:
        return None
    return f"net.{name}"


def _nnunet(name: str) -> str | None:
    """nnU-Net lists every convolution also under all_modules, and the encoder also in the decoder."""
    if name.startswith("decoder.encoder.") or ".all_modules." in name:
        return None
    for pattern, ours in _NNUNET:
        name, count = re.subn(f"^{pattern}", ours, name)
        if count:
            return re.sub(r"\.norm\.(?=\w+$)", ".adn.N.", name)
    return name
