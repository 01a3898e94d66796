"""Model files of other programs, taken over safely: state dicts, MONAI bundles, nnU-Net v2 folders."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_medseg.errors import InputError, MedsegError, MedsegWarning, ModelFileError, NotSupportedError

if TYPE_CHECKING:
    from napari_medseg.events import Work
    from napari_medseg.foreign.asked import Asked
    from napari_medseg.foreign.imported import Imported, ImportedSet
    from napari_medseg.models.file import Model
    from napari_medseg.registry import PresetName

CHECKPOINTS = (".pt", ".pth", ".ckpt")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_REFUSED = {
    ".model": "a checkpoint of nnU-Net v1, whose network is told in a pickle beside it",
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
    from napari_medseg.foreign.monai.bundle import is_bundle
    from napari_medseg.foreign.nnunet.datasets import datasets_in
    from napari_medseg.foreign.nnunet.folder import is_results_folder, plans_of_v1

    if source.is_dir():
        is_model = is_results_folder(source) or is_bundle(source) or bool(datasets_in(source))
        return is_model or plans_of_v1(source) is not None
    return source.name.lower().endswith((*CHECKPOINTS, ".json", ".zip", *_TARS, *_REFUSED))


def holds_no_model(source: Path) -> bool:
    """Whether a path is an archive that may hold images, and surely no model: a tar, or a zip without a model's files.

    Raises ModelFileError for a damaged zip.
    """
    from napari_medseg.foreign.archive import checked_members
    from napari_medseg.foreign.checkpoint import is_checkpoint
    from napari_medseg.foreign.monai.bundle import root_of

    name = source.name.lower()
    if not name.endswith(".zip"):
        return name.endswith(_TARS)
    return source.is_file() and not is_checkpoint(source) and root_of(checked_members(source)) is None


def convert_model(
    source: str | Path,
    out: str | Path,
    *,
    network: str | None = None,
    preset: PresetName = "default",
    labels: Mapping[int, str] | None = None,
    asked: Asked | None = None,
) -> Model:
    """Write a model of another program as a model file of ours; the first of them where it is a set.

    source: a MONAI bundle (folder or zip), an nnU-Net v2 results folder, the folder of a dataset or of several that are
    parts of one, a JSON description with the weights beside it, or a .pt or .pth file with a state dict of `network`.
    network, preset, labels: for a state dict only; asked: all that can be said of one.

    Each difference from the source program is a warning of one line. Nothing in the source is run, evaluated or
    imported. Raises ModelFileError, NotSupportedError or InputError for a source that cannot be taken.
    """
    from napari_medseg.foreign.asked import Asked

    with understood(source, asked or Asked(network=network, preset=preset, labels=labels)) as found:
        written = write(found, Path(out))
    return written.models[0]


@dataclass(frozen=True)
class Written:
    """What a conversion wrote."""

    models: tuple[Model, ...]
    set_path: Path | None
    """The JSON file that makes a set of them; None for one model."""


@contextmanager
def understood(source: str | Path, asked: Asked) -> Iterator[Imported | ImportedSet]:
    """A model of another program in our terms, before anything is written.

    What was unpacked for it is there until the block ends. Raises as `convert_model`.
    """
    source = Path(source)
    with TemporaryDirectory(prefix="medseg-") as scratch, naming(source):
        found = _imported(source, Path(scratch), asked)
        yield found if asked.crop is None else _with_crop(found, asked.crop, Path(scratch))


@contextmanager
def naming(source: Path) -> Iterator[None]:
    """Name the file that the user gave in an error that does not: a ModelSpec knows none."""
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise ModelFileError(f"{source}: {error}") from error


def write(found: Imported | ImportedSet, out: Path) -> Written:
    """Write what was understood: a model file, or one for each member and the set's JSON beside them.

    Warns of each difference. Raises InputError for another suffix than .safetensors.
    """
    from napari_medseg.events import run_to_end

    return run_to_end(writing(found, out))


def writing(found: Imported | ImportedSet, out: Path) -> Work[Written]:
    """The work of `write`: a Progress per model. Closed before its end, it leaves none of the set's models."""
    from napari_medseg.events import Progress
    from napari_medseg.foreign.imported import Imported
    from napari_medseg.io.outputs import check_document
    from napari_medseg.models.naming import SUFFIX, require_model_path
    from napari_medseg.models.several import KEY

    require_model_path(out)
    _tell(found.notes)
    if isinstance(found, Imported):
        yield Progress(0, 1, "models")
        return Written((_written(out, found),), None)
    set_path = out.with_suffix(".json")
    check_document(set_path, "set of models", KEY)
    models: list[Model] = []
    try:
        for done, (name, load) in enumerate(found.loads.items()):
            yield Progress(done, len(found.loads), f"models; {name}")
            member = load()
            _tell(member.notes)
            models.append(_written(out.with_name(f"{out.stem}_{name}{SUFFIX}"), member))
        return Written(tuple(models), _write_set(found, models, set_path))
    except (GeneratorExit, MedsegError):
        for model in models:
            model.path.unlink(missing_ok=True)
        raise


def _written(out: Path, found: Imported) -> Model:
    """The model in its file. An older one is kept beside it, which a warning says."""
    from napari_medseg.io.disk.keeping import stepping_aside, warn_if_kept
    from napari_medseg.models.file import write_model

    warn_if_kept(out)
    with stepping_aside(out):
        return write_model(out, found.spec, found.tensors)


def _write_set(found: ImportedSet, models: list[Model], path: Path) -> Path:
    """The set beside its members; labels keep their ids."""
    import json

    from napari_medseg.io.disk.files import replace_bytes
    from napari_medseg.models.several import CROP, KEY

    left = iter(models)
    members: list[dict[str, object]] = []
    for group in found.members:
        own = [next(left) for _ in group]
        ids = {"labels": {str(label): label for label in own[0].spec.labels}}
        named = [[model] for model in own] if found.is_averaged else [own]
        members += [{"model": _names_of(together), **ids} for together in named]
    if found.crop is not None:
        members.append({"model": _names_of(list(left)), "role": CROP, "margin_mm": found.crop.margin_mm})
    document: dict[str, object] = {KEY: 1, "members": members}
    if found.is_averaged:
        document["combine"] = "average"
    replace_bytes(path, json.dumps(document, indent=1).encode())
    return path


def _names_of(models: list[Model]) -> str | list[str]:
    """The name of a model's file, or those of several that are averaged."""
    names = [model.path.name for model in models]
    return names[0] if len(names) == 1 else names


def _tell(notes: tuple[str, ...]) -> None:
    for note in notes:
        warnings.warn(note, MedsegWarning, stacklevel=4)


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


def _imported(source: Path, scratch: Path, asked: Asked) -> Imported | ImportedSet:
    if source.is_dir():
        return _of_folder(source)
    refuse_kind(source)
    name = source.name.lower()
    if name.endswith(".json"):
        from napari_medseg.foreign.description import import_description

        return import_description(source)
    if name.endswith(".zip") and not _is_torch_zip(source):
        from napari_medseg.foreign.monai.bundle import import_bundle, unpack

        try:
            unpack(source, scratch)
            imported = import_bundle(scratch)
        except MedsegError as error:  # name the archive that the user gave, not its unpacked copy
            raise type(error)(str(error).replace(str(scratch), str(source))) from error
        return replace(imported, notes=tuple(note.replace(str(scratch), str(source)) for note in imported.notes))
    from napari_medseg.foreign.statedict import import_state_dict

    return import_state_dict(source, asked)


def _with_crop(found: Imported | ImportedSet, crop: str, scratch: Path) -> Imported | ImportedSet:
    from napari_medseg.foreign.asked import Asked
    from napari_medseg.foreign.cropped import NO_CROP, crop_from, cropped

    if crop == NO_CROP:
        return cropped(found, None)
    own = scratch / "crop"
    own.mkdir()
    with naming(Path(crop)):
        return cropped(found, crop_from(Path(crop), lambda source: _imported(source, own, Asked())))


def _of_folder(folder: Path) -> Imported | ImportedSet:
    from napari_medseg.foreign.monai.bundle import import_bundle, is_bundle
    from napari_medseg.foreign.nnunet.datasets import datasets_in, import_datasets
    from napari_medseg.foreign.nnunet.folder import import_nnunet, is_results_folder, plans_of_v1

    if is_results_folder(folder):
        return import_nnunet(folder)
    if is_bundle(folder):
        return import_bundle(folder)
    if datasets_in(folder):
        return import_datasets(folder)
    plans = plans_of_v1(folder)
    if plans is not None:
        raise NotSupportedError(
            f"{plans}: nnU-Net v1 keeps its plans in a pickle, which is not opened, since that runs code: nnU-Net v2 "
            f"takes over its datasets (nnUNetv2_convert_old_nnUNet_dataset) and no trained models: train again there"
        )
    raise ModelFileError(
        f"{folder}: neither a MONAI bundle (configs/, models/) nor an nnU-Net v2 folder (plans.json, dataset.json)"
    )


def _is_torch_zip(path: Path) -> bool:
    from napari_medseg.foreign.checkpoint import is_checkpoint

    return zipfile.is_zipfile(path) and is_checkpoint(path)
