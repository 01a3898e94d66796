"""JSON documents of unknown origin: small, read whole; nothing in them is evaluated, imported or followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_medseg import strictjson
from napari_medseg.errors import ModelFileError
from napari_medseg.io.disk.files import check_regular
from napari_medseg.registry import shown

MAX_BYTES = 64 * 2**20
_MAX_HOPS = 8
_MAX_VALUES = 100_000


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelFileError for anything else."""
    if check_regular(path) > MAX_BYTES:
        raise ModelFileError(f"{path}: a JSON file of this size is not a description of a model")
    try:
        document = strictjson.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFileError(f"{path}: not JSON with plain, finite numbers: {str(error)[:160]}") from None
    if not isinstance(document, dict):
        raise ModelFileError(f"{path}: expected a JSON object; got {shown(document)}")
    return document


def refuse_code(path: Path, where: str, value: Any) -> None:
    """Raise ModelFileError where a part of a document is an expression, which MONAI would evaluate."""
    for text in _texts(value):
        if text.startswith("$"):
            raise ModelFileError(
                f"{path}: {where} holds the expression {shown(text)}: expressions are not allowed, because evaluating "
                f"one runs code; write the plain value there"
            )


def resolved(path: Path, document: Mapping[str, Any], value: Any) -> Any:
    """A value with MONAI's references to other plain values ("@name", "@name#inner") replaced by them.

    Raises ModelFileError for references that lead nowhere, in a circle, or to more than a config can hold.
    """
    return _Resolver(path, document).resolve(value, 0)


class _Resolver:
    """Follows references, a bounded number of steps deep and of values in all."""

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._path = path
        self._document = document
        self._left = _MAX_VALUES

    def resolve(self, value: Any, hops: int) -> Any:
        self._left -= 1
        if hops > _MAX_HOPS or self._left < 0:
            raise ModelFileError(
                f"{self._path}: references lead too far: more than {_MAX_HOPS} steps, or {_MAX_VALUES} values"
            )
        if isinstance(value, str) and value.startswith("@"):
            return self.resolve(_referred(self._path, self._document, value[1:]), hops + 1)
        if isinstance(value, dict):
            return {name: self.resolve(inner, hops + 1) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner, hops + 1) for inner in value]
        return value


def _referred(path: Path, document: Mapping[str, Any], name: str) -> Any:
    value: Any = document
    for part in name.replace("::", "#").split("#"):
        if not isinstance(value, Mapping) or part not in value:
            raise ModelFileError(f"{path}: the reference {shown('@' + name)} leads to nothing in the document")
        value = value[part]
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
