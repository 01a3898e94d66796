"""Model files of other programs, taken over safely: state dicts, MONAI bundles, nnU-Net v2 folders."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_medseg.errors import InputError, MedsegError, MedsegWarning, ModelFileError, NotSupportedError

if TYPE_CHECKING:
    from napari_medseg.foreign.imported import Imported
    from napari_medseg.models.file import Model
    from napari_medseg.registry import PresetName

CHECKPOINTS = (".pt", ".pth", ".ckpt")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_REFUSED = {
    ".pkl": "a Python pickle is not opened, since opening it runs code",
    ".npy": "a numpy file, which can hold pickled objects, is not a model",
    ".npz": "a numpy file, which can hold pickled objects, is not a model",
    ".ts": "a TorchScript file is code; only weights are taken",
    ".onnx": "an ONNX graph cannot be taken",
    ".h5": "a Keras or HDF5 model cannot be taken",
    ".keras": "a Keras model cannot be taken",
}


def is_foreign(source: Path) -> bool:
    """Whether a path leads to a model of another program, judged by its suffix or the files in the folder."""
    from napari_medseg.foreign.bundle import is_bundle
    from napari_medseg.foreign.nnunet import is_results_folder

    if source.is_dir():
        return is_results_folder(source) or is_bundle(source)
    return source.name.lower().endswith((*CHECKPOINTS, ".json", ".zip", *_TARS, *_REFUSED))


def holds_no_model(source: Path) -> bool:
    """Whether a path is an archive that may hold images, and surely no model: a tar, or a zip without a model's files.

    Raises ModelFileError for a damaged zip.
    """
    from napari_medseg.foreign.archive import checked_members
    from napari_medseg.foreign.bundle import root_of
    from napari_medseg.foreign.checkpoint import is_checkpoint

    name = source.name.lower()
    if not name.endswith(".zip"):
        return name.endswith(_TARS)
    return (
        source.is_file()
        and not is_checkpoint(source)
        and root_of(checked_members(source)) is None
    )


def convert_model(
    source: str | Path,
    out: str | Path,
    *,
    network: str | None = None,
    preset: PresetName = "default",
    labels: Mapping[int, str] | None = None,
) -> Model:
    """Write a model of another program as a model file of ours.

    source: a MONAI bundle (folder or zip), an nnU-Net v2 results folder, a JSON description with the weights beside it,
    or a .pt or .pth file with a state dict of `network`. network, preset, labels: for a state dict only.

    Each difference from the source program is a warning of one line. Nothing in the source is run, evaluated or
    imported. Raises ModelFileError, NotSupportedError or InputError for a source that cannot be taken.
    """
    from napari_medseg.models.file import write_model
    from napari_medseg.models.naming import require_model_path

    source, out = Path(source), Path(out)
    with TemporaryDirectory(prefix="medseg-") as scratch:
        try:
            imported = _imported(source, Path(scratch), network, preset, labels)
        except InputError as error:  # a ModelSpec does not know the file
            if str(source) in str(error):
                raise
            raise ModelFileError(f"{source}: {error}") from error
    require_model_path(out)
    for note in imported.notes:
        warnings.warn(note, MedsegWarning, stacklevel=2)
    return write_model(out, imported.spec, imported.tensors)


def refuse_foreign_model(path: Path) -> None:
    """Raise MedsegError for a model file of another program; the message says what is wrong, or how to convert it."""
    from napari_medseg.foreign.checkpoint import check_checkpoint

    if not is_foreign(path):
        return
    refuse_kind(path)
    if path.suffix.lower() in CHECKPOINTS:
        check_checkpoint(path)
    raise NotSupportedError(
        f"{path}: weights or a model of another program without a ModelSpec: if it is one that can be taken, "
        f"`napari-medseg convert {path.name} -o model.safetensors` makes a model file of it"
    )


def refuse_kind(source: Path) -> None:
    """Raise NotSupportedError for a suffix whose files are never opened."""
    name = source.name.lower()
    if name.endswith(_TARS):
        raise NotSupportedError(
            f"{source}: tar archives are not opened, since their members can be links and paths outside of the folder: "
            f"give the unpacked folder, or a zip"
        )
    for suffix, why in _REFUSED.items():
        if name.endswith(suffix):
            raise NotSupportedError(f"{source}: {why}: give a state dict (.pt), a MONAI bundle or an nnU-Net v2 folder")


def _imported(
    source: Path, scratch: Path, network: str | None, preset: PresetName, labels: Mapping[int, str] | None
) -> Imported:
    if source.is_dir():
        return _of_folder(source)
    refuse_kind(source)
    name = source.name.lower()
    if name.endswith(".json"):
        from napari_medseg.foreign.description import import_description

        return import_description(source)
    if name.endswith(".zip") and not _is_torch_zip(source):
        from napari_medseg.foreign.bundle import import_bundle, unpack

        try:
            unpack(source, scratch)
            imported = import_bundle(scratch)
        except MedsegError as error:  # name the archive that the user gave, not its unpacked copy
            raise type(error)(str(error).replace(str(scratch), str(source))) from error
        return replace(imported, notes=tuple(note.replace(str(scratch), str(source)) for note in imported.notes))
    from napari_medseg.foreign.statedict import import_state_dict

    return import_state_dict(source, network=network, preset=preset, labels=labels)


def _of_folder(folder: Path) -> Imported:
    from napari_medseg.foreign.bundle import import_bundle, is_bundle
    from napari_medseg.foreign.nnunet import import_nnunet, is_results_folder

    if is_results_folder(folder):
        return import_nnunet(folder)
    if is_bundle(folder):
        return import_bundle(folder)
    raise ModelFileError(
        f"{folder}: neither a MONAI bundle (configs/, models/) nor an nnU-Net v2 folder (plans.json, dataset.json)"
    )


def _is_torch_zip(path: Path) -> bool:
    from napari_medseg.foreign.checkpoint import is_checkpoint

    return zipfile.is_zipfile(path) and is_checkpoint(path)
