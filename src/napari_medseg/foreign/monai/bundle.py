"""MONAI bundles: a folder or zip with configs/metadata, configs/inference (JSON or YAML) and weights in models/.

ConfigParser, which imports and evaluates what a config names, is never used: the network must be in our table, the
preprocessing a list of transforms that we know, and an expression one that our own evaluator takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_medseg.errors import InputError, ModelFileError, NotSupportedError, UnknownNameError
from napari_medseg.foreign.archive import checked_members, extract
from napari_medseg.foreign.documents import Resolver, read_document
from napari_medseg.foreign.expressions import FromFile
from napari_medseg.foreign.imported import DEFAULT_PATCH_2D, DEFAULT_PATCH_3D, Imported, fitted, renamer
from napari_medseg.foreign.monai.export import SPEC_KEY
from napari_medseg.foreign.monai.networks import network_of
from napari_medseg.foreign.monai.outputs import output_of, postprocessing_of, sliding_of
from napari_medseg.foreign.monai.transforms import Preprocessing, preprocessing_of
from napari_medseg.foreign.tensors import read_tables, read_weights
from napari_medseg.models.pipeline import Sliding, Step
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.registry import shown

if TYPE_CHECKING:
    import torch

    from napari_medseg.registry import Argument

METADATA, INFERENCE, WEIGHTS = "configs/metadata", "configs/inference", "models/model.pt"
SUFFIXES = (".json", ".yaml", ".yml")
_WEIGHT_SUFFIXES = (".pt", ".pth")
_MAX_CODE = 100_000
"""Numbers of a table that a network is built by."""


@dataclass(frozen=True)
class _Bundle:
    """The documents of a bundle."""

    folder: Path
    where: Path
    """The inference config, for messages."""
    document: Mapping[str, Any]
    metadata: Mapping[str, Any]
    resolver: Resolver


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a MONAI bundle."""
    return (folder / "configs").is_dir() and (folder / "models").is_dir()


def root_of(names: Mapping[str, object]) -> str | None:
    """The folder in an archive that is a bundle, "" or with a slash at its end; None without or with several."""
    found = {
        name[: -len(METADATA + suffix)] for name in names for suffix in SUFFIXES if name.endswith(METADATA + suffix)
    }
    return next(iter(found)) if len(found) == 1 else None


def unpack(archive: Path, folder: Path) -> None:
    """Put the configs and the weights of a zipped bundle into `folder`; nothing else of the archive is inflated.

    Raises ModelFileError for an unsafe archive, and one that is not a bundle.
    """
    members = checked_members(archive)
    root = root_of(members)
    if root is None:
        raise ModelFileError(
            f"{archive}: a zip archive that is neither a PyTorch file nor a MONAI bundle ({METADATA}): unpack it "
            f"if it holds images"
        )
    taken = [base + suffix for base in (METADATA, INFERENCE) for suffix in SUFFIXES]
    for name, entry in members.items():
        inner = name.removeprefix(root) if name.startswith(root) else ""
        is_weights = PurePosixPath(inner).parent.name == "models" and inner.endswith(_WEIGHT_SUFFIXES)
        if inner in taken or (is_weights and inner.count("/") == 1):
            target = folder / inner
            target.parent.mkdir(exist_ok=True)
            extract(archive, entry, target)


def import_bundle(folder: Path) -> Imported:
    """The model of a bundle. Raises ModelFileError or NotSupportedError, naming what cannot be taken."""
    bundle = _opened(folder)
    if SPEC_KEY in bundle.metadata:
        return _ours(bundle)
    definition = _network(bundle)
    network, arguments = network_of(bundle.where, definition)
    prepared = preprocessing_of(bundle.where, _transforms(bundle, "preprocessing"), bundle.resolver)
    path = _weights_path(bundle)
    sources = arguments["in_channels"]
    if prepared.images is not None:
        arguments = {**arguments, "in_channels": prepared.images}
    spec, notes = _spec(bundle, network, arguments, prepared)
    weights = read_weights(path)
    tensors = weights.tensors
    if prepared.images is not None:
        tensors = _without_clicks(tensors, sources, prepared.images)
    ours = fitted(weights.path, tensors, renamer(network), network, arguments)
    return Imported(spec, ours, tuple(f"{folder}: {note}" for note in notes))


def _ours(bundle: _Bundle) -> Imported:
    """The model of a bundle that we exported: its ModelSpec is in the metadata."""
    try:
        spec = ModelSpec.from_json(json.dumps(bundle.metadata[SPEC_KEY]))
    except (InputError, UnknownNameError) as error:
        raise ModelFileError(f"{bundle.folder}: its ModelSpec is refused: {error}") from None
    weights = read_weights(_weights_path(bundle))
    tensors = fitted(weights.path, weights.tensors, renamer(spec.network), spec.network, spec.arguments)
    return Imported(spec, tensors)


def _opened(folder: Path) -> _Bundle:
    paths = {}
    for base in (METADATA, INFERENCE):
        found = [folder / (base + suffix) for suffix in SUFFIXES if (folder / (base + suffix)).is_file()]
        if not found:
            raise ModelFileError(
                f"{folder}: a MONAI bundle needs {base}.json or .yaml; one that is only TorchScript is not taken"
            )
        paths[base] = found[0]
    where = paths[INFERENCE]
    document = {**read_document(where), "bundle_root": "."}
    return _Bundle(folder, where, document, read_document(paths[METADATA]), Resolver(where, document))


def _network(bundle: _Bundle) -> Any:
    """The network's definition, resolved; the tables that it takes from files are lists."""
    kinds = {key: bundle.document.get(key) for key in ("network_def", "network", "net")}
    key = next((key for key, part in kinds.items() if isinstance(part, dict) or (part and key == "network_def")), None)
    if key is None:
        raise ModelFileError(f"{bundle.where}: it has no network_def")
    return _resolved(bundle, key, bundle.document[key], {})


def _resolved(bundle: _Bundle, key: str, value: Any, files: dict[str, Mapping[str, torch.Tensor]]) -> Any:
    """A part of the network's definition, without its device. files: those that were read already."""
    value = bundle.resolver.shallow(key, value)
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name not in ("device", "_requires_", "_disabled_")}
        return {name: _resolved(bundle, key, inner, files) for name, inner in kept.items()}
    if isinstance(value, list):
        return [_resolved(bundle, key, inner, files) for inner in value]
    return _table_of(bundle, value, files) if isinstance(value, FromFile) else value


def _table_of(bundle: _Bundle, source: FromFile, files: dict[str, Mapping[str, torch.Tensor]]) -> Any:
    """A small table of numbers from a file of the bundle, as nested lists."""
    path = _inside(bundle, source.path)
    if path.name not in files:
        files[path.name] = read_tables(path)
    table = files[path.name].get(source.key)
    if table is None or table.numel() > _MAX_CODE:
        raise ModelFileError(f"{path}: it has no small table {shown(source.key)}, which {bundle.where.name} takes")
    return table.tolist()


def _inside(bundle: _Bundle, name: str) -> Path:
    """The file of the bundle that a path leads to; an absolute path leads to models/ of the bundle."""
    pure = PurePosixPath(name)
    if pure.is_absolute():
        pure = PurePosixPath("models") / pure.name
    if ".." in pure.parts or "\\" in name or ":" in name or "\0" in name:
        raise ModelFileError(f"{bundle.where}: the path {shown(name)} leads outside of the bundle")
    return bundle.folder / pure


def _weights_path(bundle: _Bundle) -> Path:
    """The file that the config loads weights from; models/model.pt where it says nothing that can be read."""
    loaders = [bundle.document.get("checkpointloader"), *_listed(bundle.document.get("handlers"))]
    for loader in loaders:
        if isinstance(loader, dict) and str(loader.get("_target_", "")).endswith("CheckpointLoader"):
            try:
                named = bundle.resolver.deep("load_path", loader.get("load_path"))
            except ModelFileError:
                break  # computed from what is not known here: the usual name remains
            if isinstance(named, str):
                path = _inside(bundle, named)
                if path.is_file():
                    return path
    path = bundle.folder / WEIGHTS
    if not path.is_file():
        raise ModelFileError(f"{bundle.folder}: a MONAI bundle needs its weights, {WEIGHTS}: put the file there")
    return path


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _transforms(bundle: _Bundle, key: str) -> Any:
    """The list of transforms under a name, which a Compose may hold."""
    part = bundle.resolver.part(key)
    if isinstance(part, dict):
        part = bundle.resolver.shallow(key, part.get("transforms"))
    if part is None and key == "preprocessing":
        raise ModelFileError(f"{bundle.where}: it has no {key}")
    return part


def _without_clicks(tensors: Mapping[str, torch.Tensor], inputs: Argument, images: int) -> dict[str, torch.Tensor]:
    """The weights for the image's channels only: those of clicks, which are 0 without a click, add nothing."""
    return {
        name: tensor[:, :images] if tensor.ndim > 3 and tensor.shape[1] == inputs else tensor
        for name, tensor in tensors.items()
    }


def _spec(
    bundle: _Bundle, network: str, arguments: Mapping[str, Argument], prepared: Preprocessing
) -> tuple[ModelSpec, tuple[str, ...]]:
    inputs, outputs, dims = (arguments[name] for name in ("in_channels", "out_channels", "spatial_dims"))
    assert isinstance(inputs, int)
    assert isinstance(outputs, int)
    assert isinstance(dims, int)
    inferer = bundle.resolver.part("inferer")
    if isinstance(inferer, dict):
        kept = {name: value for name, value in inferer.items() if name not in ("device", "sw_device")}
        inferer = bundle.resolver.deep("inferer", kept)
    sliding, roi, axis, notes = sliding_of(bundle.where, inferer)
    after = postprocessing_of(bundle.where, bundle.resolver, _transforms(bundle, "postprocessing"))
    formats = _table(bundle.metadata, "network_data_format")
    image = next(iter(_tables(_table(formats, "inputs"))), {})
    answer = next(iter(_tables(_table(formats, "outputs"))), {})
    try:
        labels, output = output_of(after, _names_of(answer), outputs)
        modality = {"CT": "CT", "MR": "MR", "MRI": "MR"}.get(str(image.get("modality", "")).upper(), "other")
        spec = ModelSpec(
            network=network,
            arguments=arguments,
            channels=tuple(
                Channel(name=_channel(image, prepared, c), modality=modality)  # type: ignore[arg-type]  # of the dict
                for c in range(inputs)
            ),
            labels=labels,
            normalisation=(Normalisation(kind="none"),) * inputs,
            output=output,
            mode="2d" if dims == 2 else "3d",
            deep_supervision=bool(arguments.get("deep_supervision", False)),
            licence=(_text(bundle.metadata, "license") or _text(bundle.metadata, "copyright"))[:1000],
            citation=_lines(bundle.metadata, "references")[:20_000],
            description=_text(bundle.metadata, "description")[:20_000],
            **_place(prepared, sliding, roi, dims, 2 if axis is None else axis),
        )
    except InputError as error:
        raise ModelFileError(f"{bundle.where}: {error}") from None
    except NotSupportedError as error:
        raise NotSupportedError(f"{bundle.where}: {error}") from None
    told = (*prepared.notes, *after.notes, *notes)
    if prepared.orientation is None and dims == 3:
        told += ("the bundle takes images in the axis order of their file, and so does the model",)
    return spec, told


def _place(prepared: Preprocessing, sliding: Sliding, roi: list[int] | None, dims: int, across: int) -> dict[str, Any]:
    """Orientation, spacing, size, patch, steps and sliding. across: MONAI's axis across the slices of a 2D network."""
    order = [0, 1, 2] if dims == 3 else [across, *(axis for axis in range(3) if axis != across)]
    letters = prepared.orientation or "xyz"
    size = prepared.sized(dims)
    steps = tuple(_reordered(step, order) for step in prepared.steps)
    if dims == 2 and any(step.kind == "resample" for step in steps):
        steps = tuple(
            replace(step, kept_axes=tuple(sorted({0, *step.kept_axes}))) if step.kind == "resample" else step
            for step in steps
        )
    spacing = prepared.spacing_mm and tuple(prepared.spacing_mm[axis] for axis in order)
    return {
        "orientation": "".join(letters[axis] for axis in order),
        "spacing_zyx_mm": spacing,
        "size_zyx": size,
        "patch_zyx": _patch(roi, size, dims, across),
        "steps": steps,
        "sliding": sliding,
    }


def _reordered(step: Step, order: list[int]) -> Step:
    """A step with its axes in the order of the model."""
    if not step.kept_axes:
        return step
    return replace(step, kept_axes=tuple(sorted(order.index(axis) for axis in step.kept_axes)))


def _patch(roi: list[int] | None, size: tuple[int, int, int] | None, dims: int, across: int) -> tuple[int, ...]:
    """The window: the bundle's, or the whole of a fixed size, or the usual one."""
    if dims == 2:
        if roi is not None and len(roi) == 3:
            roi = [n for axis, n in enumerate(roi) if axis != across]
        if roi is not None and len(roi) == 2:
            return (1, *roi)
        return (1, *size[1:]) if size is not None and all(size[1:]) else DEFAULT_PATCH_2D
    if roi is not None and len(roi) == 3:
        return tuple(roi)
    return size if size is not None and all(size) else DEFAULT_PATCH_3D


def _names_of(answer: Mapping[str, Any]) -> dict[int, str]:
    """{channel: name} of the outputs, as the metadata say."""
    table = {**_table(answer, "label_def"), **_table(answer, "channel_def")}
    return {
        int(key): name[:200]
        for key, name in table.items()
        if isinstance(name, str) and name and key.isascii() and key.isdecimal() and len(key) < 6
    }


def _channel(image: Mapping[str, Any], prepared: Preprocessing, channel: int) -> str:
    if channel < len(prepared.merged):
        return prepared.merged[channel][:200] or f"channel {channel}"
    name = _table(image, "channel_def").get(str(channel))
    return name[:200] if isinstance(name, str) and name else f"channel {channel}"


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
