"""A flag made from a field of a config class: its help is the text under the field, its default the field's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from napari_medseg.config import field_docs

if TYPE_CHECKING:
    from argparse import _ActionsContainer

#: what argparse calls with the text of a value, and how help names it, by the field's type
_PARSERS: dict[object, tuple[Callable[[str], Any], str]] = {
    int: (int, "N"),
    float: (float, "F"),
    int | None: (int, "N"),
    float | None: (float, "F"),
    str: (str, "NAME"),
}


def add_knob(
    parser: _ActionsContainer, config: type, name: str, *, flag: str | None = None, metavar: str | None = None
) -> None:
    """Add a flag for the field of that name; a Literal field takes its choices, an empty default is not shown."""
    kind = get_type_hints(config)[name]
    default = next(f.default for f in fields(config) if f.name == name)
    text = field_docs(config)[name].replace("%", "%%")
    flag = flag or f"--{name.replace('_', '-')}"
    if default not in (None, ""):
        text += " (default: %(default)s)"
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        parser.add_argument(flag, dest=name, type=type(choices[0]), choices=choices, default=default, help=text)
        return
    parse, letter = _PARSERS[kind]
    parser.add_argument(flag, dest=name, type=parse, default=default, metavar=metavar or letter, help=text)
