"""What the user says of a source: of a state dict, which says little itself, and where its models look. Frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from napari_medseg.errors import InputError, ModelFileError
from napari_medseg.foreign.documents import read_document, refuse_code
from napari_medseg.geometry import Triple
from napari_medseg.models.spec import Modality, Normalisation
from napari_medseg.registry import PresetName, shown

INTENSITIES = "none, zscore, or LOW,HIGH,MEAN,STD"
"""How intensities are written in one word."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Everything is optional but the network of a state dict."""

    network: str | None = None
    """A name in our registry."""
    preset: PresetName = "default"
    labels: Mapping[int, str] | None = None
    """{id: name} of the output channels from 1 on."""
    arguments: Mapping[str, object] | None = None
    """Of the network; the others are read off the shapes."""
    spacing_zyx_mm: Triple | None = None
    orientation: str | None = None
    intensities: Normalisation | None = None
    """How every channel is normalised."""
    modality: Modality = "other"
    crop: str | None = None
    """Path of the model that looks first, so that the source's see a box; "none": none; None: as the source has it."""

    @property
    def says_nothing_of_images(self) -> bool:
        """Whether neither spacing nor intensities are given."""
        return self.spacing_zyx_mm is None and self.intensities is None


def intensities_of(text: str) -> Normalisation:
    """The normalisation of a text such as "zscore" or "-175,250,37,106": clipped, then (x - mean) / std."""
    word = text.strip().lower()
    if word in ("none", "zscore"):
        return Normalisation(kind="none" if word == "none" else "zscore")
    try:
        low, high, mean, std = (float(part) for part in word.split(","))
    except ValueError:
        raise InputError(f"intensities are {INTENSITIES}; got {shown(text)}") from None
    return Normalisation(kind="clip_zscore", low=low, high=high, mean=mean, std=std)


def read_arguments(path: Path) -> Mapping[str, object]:
    """The arguments of a network in a JSON file such as {"channels": [16, 32, 64]}. Raises ModelFileError."""
    document = read_document(path)
    refuse_code(path, "it", document)
    for name, value in document.items():
        flat = value if isinstance(value, list) else [value]
        if len(name) > 80 or not all(isinstance(item, bool | int | float | str | None) for item in flat):
            raise ModelFileError(
                f"{path}: the argument {shown(name)} must be a number, a text, a truth or a list of them"
            )
    return cast("Mapping[str, Any]", document)
