"""The names of foreign tensors in our networks."""

from __future__ import annotations

import re

from napari_medseg.foreign.imported import Rename

#: our networks that hold a network of MONAI, under this name
_HOLDERS = {"basicunet": "net", "monai_unet": "net", "segresnet": "net", "monai_attention_unet": "net"}
_NNUNET = (
    (r"encoder\.stem\.convs\.0\.", "stem."),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", r"encoder.\1.\2."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.", r"encoder.\1.\2."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.\2."),
    (r"decoder\.transpconvs\.(\d+)\.", r"up.\1."),
    (r"decoder\.seg_layers\.(\d+)\.", r"heads.\1."),
)


def renamer(network: str) -> Rename:
    """How the tensors of a foreign network are called in ours; names that are ours already stay."""
    if network in _HOLDERS:
        holder = f"{_HOLDERS[network]}."
        return lambda name: name if name.startswith(holder) else holder + name
    return {"vnet": _vnet, "dynunet": _dynunet, "nnunet": _nnunet}.get(network, lambda name: name)


def _vnet(name: str) -> str:
    if name.startswith("stages."):
        return name
    return f"stages.{name.replace('in_tr.conv_block', 'in_tr.convolution')}"


def _dynunet(name: str) -> str | None:
    """MONAI's lists every tensor of skip_layers a second time, and we build none of the supervised scales."""
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
