"""MONAI bundles: a folder or zip with configs/metadata.json, configs/inference.json and models/model.pt.

The two documents are read as JSON. ConfigParser, which imports and evaluates what they name, is never used: the network
must be in our table, and the preprocessing a list of transforms that we know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_medseg.errors import ModelFileError, NotSupportedError
from napari_medseg.foreign.archive import checked_members, extract
from napari_medseg.foreign.documents import read_document, refuse_code, resolved
from napari_medseg.foreign.imported import DEFAULT_PATCH_2D, DEFAULT_PATCH_3D, Imported, fitted, renamer
from napari_medseg.foreign.monai_networks import network_of
from napari_medseg.foreign.monai_transforms import Preprocessing, preprocessing_of
from napari_medseg.foreign.tensors import read_weights
from napari_medseg.models.spec import Channel, ModelSpec
from napari_medseg.registry import Argument

METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.pt"
_MEMBERS = (METADATA, INFERENCE, WEIGHTS)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a MONAI bundle."""
    return (folder / "configs").is_dir() and (folder / "models").is_dir()


def unpack(archive: Path, folder: Path) -> None:
    """Put the three files of a zipped bundle into `folder`; nothing else of the archive is inflated.

    Raises ModelFileError for an unsafe archive, and one that is not a bundle.
    """
    members = checked_members(archive)
    roots = [name.removesuffix(METADATA) for name in members if name.endswith(METADATA)]
    if len(roots) != 1:
        raise ModelFileError(f"{archive}: a zip archive that is neither a PyTorch file nor a MONAI bundle ({METADATA})")
    for name in _MEMBERS:
        if roots[0] + name not in members:
            raise ModelFileError(f"{archive}: a MONAI bundle without {name}")
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        extract(archive, members[roots[0] + name], target)


def import_bundle(folder: Path) -> Imported:
    """The model of a bundle. Raises ModelFileError or NotSupportedError, naming what cannot be taken."""
    for name in _MEMBERS:
        if not (folder / name).is_file():
            raise ModelFileError(f"{folder}: a MONAI bundle needs {name}; a YAML config or TorchScript is not taken")
    where, document = folder / INFERENCE, read_document(folder / INFERENCE)
    metadata = read_document(folder / METADATA)
    network, arguments = network_of(where, _plain(where, document, "network_def"))
    steps = _plain(where, document, "preprocessing")
    prepared = preprocessing_of(where, steps.get("transforms") if isinstance(steps, dict) else None)
    _require_softmax(where, document)
    spec = _spec(folder, network, arguments, prepared, metadata, _patch(document, arguments))
    weights = read_weights(folder / WEIGHTS)
    tensors = fitted(weights.path, weights.tensors, renamer(network), network, arguments)
    notes = prepared.notes
    if prepared.orientation is None:
        notes += ("the bundle takes images in the axis order of their file; here they are brought to RAS",)
    return Imported(spec, tensors, tuple(f"{folder}: {note}" for note in notes))


def _plain(where: Path, document: Mapping[str, Any], key: str) -> Any:
    """One part of a document, with its references resolved. Raises ModelFileError if it is missing or an expression."""
    if key not in document:
        raise ModelFileError(f"{where}: it has no {key}")
    part = document[key]
    if key == "preprocessing" and isinstance(part, dict):
        listed = part.get("transforms")
        part = {
            "transforms": [_without_keys(t) for t in listed if isinstance(t, dict)] if isinstance(listed, list) else 0
        }
    part = resolved(where, document, part)
    refuse_code(where, key, part)
    return part


def _without_keys(transform: dict[str, Any]) -> dict[str, Any]:
    """A transform without its keys and device, which bundles often refer to or compute."""
    dropped = {"device", "allow_missing_keys", *(() if transform.get("keys") in ("label", ["label"]) else ("keys",))}
    return {name: value for name, value in transform.items() if name not in dropped}


def _require_softmax(where: Path, document: Mapping[str, Any]) -> None:
    after = document.get("postprocessing")
    transforms = after.get("transforms", []) if isinstance(after, dict) else []
    for transform in transforms if isinstance(transforms, list) else []:
        if isinstance(transform, dict) and transform.get("sigmoid"):
            raise NotSupportedError(
                f"{where}: the network's outputs are overlapping regions (sigmoid), which cannot be taken: only one "
                f"label per voxel"
            )


def _patch(document: Mapping[str, Any], arguments: Mapping[str, Argument]) -> tuple[int, int, int]:
    inferer = document.get("inferer")
    roi = inferer.get("roi_size") if isinstance(inferer, dict) else None
    if arguments["spatial_dims"] == 2:
        return (1, roi[0], roi[1]) if isinstance(roi, list) and len(roi) == 2 else DEFAULT_PATCH_2D
    return (roi[0], roi[1], roi[2]) if isinstance(roi, list) and len(roi) == 3 else DEFAULT_PATCH_3D


def _spec(
    folder: Path,
    network: str,
    arguments: Mapping[str, Argument],
    prepared: Preprocessing,
    metadata: Mapping[str, Any],
    patch: tuple[int, int, int],
) -> ModelSpec:
    inputs, outputs = arguments["in_channels"], arguments["out_channels"]
    assert isinstance(inputs, int)
    assert isinstance(outputs, int)
    if outputs < 2:
        raise NotSupportedError(f"{folder}: one output channel (sigmoid) cannot be taken: only softmax outputs")
    formats = _table(metadata, "network_data_format")
    image = next(iter(_tables(_table(formats, "inputs"))), {})
    answer = next(iter(_tables(_table(formats, "outputs"))), {})
    modality = {"CT": "CT", "MR": "MR", "MRI": "MR"}.get(str(image.get("modality", "")).upper(), "other")
    return ModelSpec(
        network=network,
        arguments=arguments,
        channels=tuple(
            Channel(name=_name(image, c, f"channel {c}"), modality=modality)  # type: ignore[arg-type]  # of the dict
            for c in range(inputs)
        ),
        labels={k: _name(answer, k, f"class {k}") for k in range(1, outputs)},
        patch_zyx=patch,
        spacing_zyx_mm=prepared.spacing_mm,
        orientation=prepared.orientation or "RAS",
        normalisation=(prepared.normalisation,) * inputs,
        mode="2d" if arguments["spatial_dims"] == 2 else "3d",
        deep_supervision=False,
        licence=_text(metadata, "copyright")[:1000],
        citation=_lines(metadata, "references")[:20_000],
        description=_text(metadata, "description"),
    )


def _name(format_: Mapping[str, Any], channel: int, otherwise: str) -> str:
    name = _table(format_, "channel_def").get(str(channel))
    return name if isinstance(name, str) and name else otherwise


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key, "")
    return value if isinstance(value, str) else ""


def _lines(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return "\n".join(line for line in value if isinstance(line, str)) if isinstance(value, list) else ""


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    return value if isinstance(value, dict) else {}


def _tables(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [value for value in table.values() if isinstance(value, dict)]
