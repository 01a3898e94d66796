"""Documents of unknown origin, JSON and YAML: small, read whole; nothing in them is imported, called or followed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_medseg import strictjson
from napari_medseg.errors import ModelFileError
from napari_medseg.foreign.expressions import ExpressionError, evaluate
from napari_medseg.io.disk.files import check_regular
from napari_medseg.registry import shown

MAX_BYTES = 64 * 2**20
_MAX_YAML_BYTES = 2**18
"""A thousand lines and more of config; a parser in Python takes seconds for a megabyte."""
_MAX_HOPS = 16
_MAX_VALUES = 100_000
_COST = 20
"""Values that an expression counts as, by the time that it takes."""
YAML_SUFFIXES = (".yaml", ".yml")


def read_document(path: Path) -> dict[str, Any]:
    """The object in a JSON or YAML file. Raises ModelFileError for anything else."""
    is_yaml = path.suffix.lower() in YAML_SUFFIXES
    if check_regular(path) > (_MAX_YAML_BYTES if is_yaml else MAX_BYTES):
        raise ModelFileError(f"{path}: a {'YAML' if is_yaml else 'JSON'} file of this size describes no model")
    try:
        text = path.read_text(encoding="utf-8")
        document = _yaml(text) if is_yaml else strictjson.parse(text)
    except ValueError as error:
        kind = "YAML" if is_yaml else "JSON"
        reason = " ".join(str(error).split())[:160]
        raise ModelFileError(f"{path}: not {kind} with plain, finite numbers: {reason}") from None
    if not isinstance(document, dict):
        raise ModelFileError(f"{path}: expected an object with names; got {shown(document)}")
    return document


def _yaml(text: str) -> Any:
    """The document of a YAML text. Raises ValueError for tags, anchors, several documents and what JSON has not."""
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]  # yaml comes without types
        """Refuses anchors, which make a small text large, and a name that is there twice."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent) or getattr(self.peek_event(), "anchor", None):
                raise ValueError("anchors and aliases are not allowed")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), None) if len(names) < _MAX_VALUES else None
            if twice is not None:
                raise ValueError(f"the name {shown(twice)} is there twice")
            return super().construct_mapping(node, deep)

    try:
        return _as_json(yaml.load(text, Loader=Plain))  # a SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or type(error).__name__
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{problem}{f' in line {mark.line + 1}' if mark else ''}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, OverflowError, AttributeError, LookupError) as error:  # such as "!!int" of nothing
        raise ValueError(f"a value is of no known kind ({type(error).__name__})") from None


def _as_json(value: Any) -> Any:
    """The value, if JSON could hold it; names become texts."""
    if isinstance(value, dict):
        return {str(name): _as_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a {type(value).__name__} is no plain value")


def refuse_code(path: Path, where: str, value: Any) -> None:
    """Raise ModelFileError where a part of a document is an expression, which MONAI would evaluate."""
    for text in _texts(value):
        if text.startswith("$"):
            raise ModelFileError(
                f"{path}: {where} holds the expression {shown(text)}: expressions are not allowed here, because "
                f"evaluating one runs code; write the plain value there"
            )


class Resolver:
    """Follows MONAI's references ("@name", "@name#inner") and evaluates its expressions ("$..."), a bounded number.

    Every method raises ModelFileError for references that lead nowhere, in a circle, or to more than a config can
    hold, and for expressions that are not evaluated; where: what a message calls the part.
    """

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        self._path = path
        self._document = document
        self._left = _MAX_VALUES

    def deep(self, where: str, value: Any) -> Any:
        """A value with everything in it resolved."""
        return self._deep(where, value, 0)

    def shallow(self, where: str, value: Any) -> Any:
        """A value itself resolved, and not what is in it."""
        return self._shallow(where, value, 0)

    def part(self, key: str) -> Any:
        """The value of the document under a name, itself resolved; None where it is missing."""
        return self.shallow(key, self._document.get(key))

    def _deep(self, where: str, value: Any, hops: int) -> Any:
        value = self._shallow(where, value, hops)
        if isinstance(value, dict):
            return {name: self._deep(where, inner, hops + 1) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._deep(where, inner, hops + 1) for inner in value]
        return value

    def _shallow(self, where: str, value: Any, hops: int) -> Any:
        while isinstance(value, str) and value[:1] in ("@", "$", "%"):
            self._count(hops)
            hops += 1
            if value.startswith("%"):
                raise ModelFileError(f"{self._path}: {where} takes {shown(value)} from another file: not followed")
            if value.startswith("@"):
                value = self._referred(where, value[1:], hops)
            else:
                return self._evaluated(where, value, hops)
        self._count(hops)
        return value

    def _count(self, hops: int) -> None:
        self._left -= 1
        if hops > _MAX_HOPS or self._left < 0:
            raise ModelFileError(
                f"{self._path}: references lead too far: more than {_MAX_HOPS} steps, or {_MAX_VALUES} values"
            )

    def _evaluated(self, where: str, text: str, hops: int) -> Any:
        self._left -= _COST
        try:
            return evaluate(text[1:], lambda name: self._shallow(where, f"@{name}", hops))
        except ExpressionError as error:
            raise ModelFileError(
                f"{self._path}: {where} holds the expression {shown(text)}, which is not allowed: {error}"
            ) from None

    def _referred(self, where: str, name: str, hops: int) -> Any:
        value: Any = self._document
        for part in name.replace("::", "#").split("#"):
            value = value if value is self._document else self._shallow(where, value, hops)
            if isinstance(value, list) and part.isdecimal() and len(part) < 6 and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, Mapping) and part in value:
                value = value[part]
            else:
                raise ModelFileError(
                    f"{self._path}: the reference {shown('@' + name)} leads to nothing in the document"
                )
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
