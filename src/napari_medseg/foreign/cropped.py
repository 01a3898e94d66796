"""Models that look inside of a box, and the model that finds it, whatever program it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.errors import InputError
from napari_medseg.foreign.imported import Imported, ImportedCrop, ImportedSet
from napari_medseg.foreign.nnunet.datasets import crop_of, datasets_in
from napari_medseg.foreign.nnunet.folder import is_results_folder
from napari_medseg.models.naming import is_model_path
from napari_medseg.models.several import CROP, MARGIN_MM

if TYPE_CHECKING:
    from napari_medseg.models.file import Model

NO_CROP = "none"
"""What leaves a crop out that is found by itself."""


def cropped(found: Imported | ImportedSet, crop: ImportedCrop | None) -> Imported | ImportedSet:
    """The models with this crop in place of theirs; None: they look at all of the image."""
    if isinstance(found, ImportedSet):
        return replace(found, crop=crop)
    return found if crop is None else ImportedSet(({"model": lambda: found},), crop=crop)


def crop_from(source: Path, understand: Callable[[Path], Imported | ImportedSet]) -> ImportedCrop:
    """The crop that a model file, or a model of another program, becomes.

    understand: reads the latter. Raises InputError for a set of models of several labels.
    """
    if is_model_path(source):
        from napari_medseg.models.file import load_model

        model = load_model(source)
        return ImportedCrop(source.name, {CROP: lambda: _imported(model)}, MARGIN_MM)
    if datasets_in(source) == [source] or is_results_folder(source):
        return crop_of(source)
    found = understand(source)
    if isinstance(found, Imported):
        return ImportedCrop(source.name, {CROP: lambda: found}, MARGIN_MM)
    if not found.is_averaged:
        raise InputError(f"{source}: a crop is one model, or one that is averaged; this is a set of several")
    return ImportedCrop(source.name, {f"{CROP}_{name}": load for name, load in found.loads.items()}, MARGIN_MM)


def _imported(model: Model) -> Imported:
    """A model file of ours, to be written beside the others."""
    import safetensors.torch

    return Imported(model.spec, safetensors.torch.load_file(model.path))
