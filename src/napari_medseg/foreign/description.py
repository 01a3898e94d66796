"""A small JSON file beside foreign weights that says what they are: our own closed schema, every value bounded.

{"format_version": 1, "network": "vnet", "weights": "vnet.pt", "patch_size": [96, 96, 96],
 "spacing": [2.5, 0.8, 0.8], "classes": 2, "labels": {"1": "liver"}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from napari_medseg import registry
from napari_medseg.errors import ModelFileError
from napari_medseg.foreign.asked import INTENSITIES, Asked, intensities_of
from napari_medseg.foreign.documents import read_document, refuse_code
from napari_medseg.foreign.imported import Imported
from napari_medseg.foreign.statedict import import_state_dict
from napari_medseg.models.checks import MAX_LABELS, MAX_PATCH
from napari_medseg.registry import shown

FORMAT_VERSION = 1


def import_description(path: Path) -> Imported:
    """The model of a description and of the state dict that it names.

    Raises ModelFileError for unknown keys, values out of bounds, and weights that are not beside the description.
    """
    document = read_document(path)
    refuse_code(path, "it", document)
    _check(path, document)
    network, weights = document["network"], path.parent / document["weights"]
    if network not in registry.networks():
        raise ModelFileError(f"{path}: unknown network {shown(network)}: one of {', '.join(registry.networks())}")
    features = registry.network(network).parameters
    named = next((name for name in ("channels", "features", "filters") if name in features), None)
    overrides = {named: document["channels"]} if named and "channels" in document else {}
    asked = Asked(
        network=network,
        labels=labels_of(path, document),
        arguments={**overrides, **document.get("arguments", {})},
        spacing_zyx_mm=tuple(document["spacing"]) if "spacing" in document else None,
        orientation=document.get("orientation"),
        intensities=intensities_of(document["intensities"]) if "intensities" in document else None,
        modality=document.get("modality", "other"),
    )
    imported = import_state_dict(weights, asked)
    changes: dict[str, Any] = {"patch_zyx": document["patch_size"]} if "patch_size" in document else {}
    if "licence" in document:
        changes["licence"] = document["licence"]
    if document.get("classes", len(imported.spec.label_ids)) != len(imported.spec.label_ids):
        raise ModelFileError(
            f"{path}: {document['classes']} classes, but the weights have {len(imported.spec.label_ids)}"
        )
    return replace(imported, spec=replace(imported.spec, **changes))


def read_labels(path: Path) -> dict[int, str]:
    """The {id: name} of a JSON file such as {"1": "liver", "2": "tumour"}. Raises ModelFileError for others."""
    labels = labels_of(path, {"labels": read_document(path)})
    assert labels is not None, "just given"
    return labels


def labels_of(path: Path, document: Mapping[str, Any]) -> dict[int, str] | None:
    """The labels of a document, without the background; None if there are none."""
    table = document.get("labels")
    if table is None:
        return None
    if not isinstance(table, dict) or not all(
        key.isascii() and key.isdecimal() and len(key) <= 10 and isinstance(name, str) for key, name in table.items()
    ):
        raise ModelFileError(f'{path}: labels need the form {{"1": "liver", ...}}; got {shown(table)}')
    return {int(key): name for key, name in table.items() if int(key) != 0}


def _check(path: Path, document: Mapping[str, Any]) -> None:
    unknown = sorted(set(document) - set(_CHECKS))
    if unknown:
        raise ModelFileError(
            f"{path}: unknown key {shown(unknown[0])}: a description of a model holds {', '.join(_CHECKS)}; a MONAI "
            f"bundle is given as its folder or zip"
        )
    for name, value in document.items():
        fits, expected = _CHECKS[name]
        if not fits(value):
            raise ModelFileError(f"{path}: {name} {expected}; got {shown(value)}")
    missing = [name for name in ("network", "weights") if name not in document]
    if missing:
        raise ModelFileError(f"{path}: a description of a model needs the key {missing[0]}")


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _triple(low: float, high: float, kinds: tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and len(value) == 3 and all(type(v) in kinds and low <= v <= high for v in value)
    )


def _is_beside(value: Any) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 200
        and not any(c in value for c in ":\\\0")
        and not PurePosixPath(value).is_absolute()
        and ".." not in PurePosixPath(value).parts
    )


def _features(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 16 and all(type(v) is int and 1 <= v <= 2048 for v in value)


_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "format_version": (_whole(1, FORMAT_VERSION), f"must be {FORMAT_VERSION}: a newer napari-medseg may read others"),
    "network": (lambda value: isinstance(value, str) and len(value) <= 80, "must be a name in our registry"),
    "patch_size": (_triple(1, MAX_PATCH, (int,)), f"needs three whole numbers (z, y, x) from 1 to {MAX_PATCH}"),
    "spacing": (_triple(0.001, 1000, (int, float)), "needs three numbers (z, y, x) from 0.001 to 1000 mm"),
    "classes": (_whole(2, MAX_LABELS), f"must be a whole number from 2 to {MAX_LABELS}"),
    "channels": (_features, "needs 1 to 16 whole numbers from 1 to 2048, the features per level"),
    "weights": (_is_beside, "must be a path inside the folder: not absolute, not outside of it, no URL"),
    "labels": (lambda value: isinstance(value, dict), 'needs the form {"1": "liver", ...}'),
    "arguments": (lambda value: isinstance(value, dict), "needs a table of the network's arguments"),
    "orientation": (lambda value: isinstance(value, str) and len(value) == 3, "needs three letters, such as SPL"),
    "intensities": (lambda value: isinstance(value, str) and len(value) <= 200, f"is {INTENSITIES}"),
    "modality": (lambda value: value in ("CT", "MR", "other"), "is CT, MR or other"),
    "licence": (lambda value: isinstance(value, str) and len(value) <= 1000, "needs a text"),
}
"""{key: (test of its value, what the message says is expected)}."""
