"""A flag made from a knob of a config class: its help is the text under the field, its default the field's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from napari_medseg.config import knobs_of

if TYPE_CHECKING:
    from argparse import _ActionsContainer

_PARSERS: dict[object, tuple[Callable[[str], Any], str]] = {
    int: (int, "N"),
    float: (float, "F"),
    int | None: (int, "N"),
    float | None: (float, "F"),
    str: (str, "NAME"),
}
"""{type of the knob: (what argparse calls with the text of a value, how help names the value)}."""


def add_knob(
    parser: _ActionsContainer, config: type, name: str, *, flag: str | None = None, metavar: str | None = None
) -> None:
    """Add a flag for the knob of that name. A Literal gives the choices; help shows no empty default. A bool that is
    off by default gives a flag without a value.
    """
    knob = knobs_of(config)[name]
    text = knob.doc.replace("%", "%%")
    flag = flag or f"--{name.replace('_', '-')}"
    if knob.default not in (None, ""):
        text += " (default: %(default)s)"
    if get_origin(knob.kind) is Literal:
        choices = get_args(knob.kind)
        parser.add_argument(flag, dest=name, type=type(choices[0]), choices=choices, default=knob.default, help=text)
        return
    if knob.kind is bool:
        parser.add_argument(flag, dest=name, action="store_true", help=knob.doc.replace("%", "%%"))
        return
    parse, letter = _PARSERS[knob.kind]
    parser.add_argument(flag, dest=name, type=parse, default=knob.default, metavar=metavar or letter, help=text)


def add_merge(parser: _ActionsContainer, purpose: str) -> None:
    """Add --merge "liver=1,2", which may come several times. purpose: what it does, for the help."""
    parser.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=ID,...",
        help=f"A region, such as liver=1,2: {purpose}; several times for several regions.",
    )
