"""The bounds of what a model may say of itself, in one table, and the checks that raise InputError beyond them.

They hold for a spec that Python code builds (numpy's numbers are taken) and for one that a file claims.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from napari_medseg.errors import InputError
from napari_medseg.geometry import AXIS_LETTERS, triple_of
from napari_medseg.registry import shown
from napari_medseg.volume import MAX_LABEL

MAX_CHANNELS = 64
MAX_LABELS = 4096
MAX_PATCH = 1024
"""Voxels of a patch along an axis."""
MAX_ROWS = 4 * MAX_LABELS
"""Rows of a table of the training record."""
_INTENSITY = (-1e12, 1e12)
_ANY = (-1e300, 1e300)
_NAME, _LONG_NAME, _PROSE = (1, 200), (0, 1000), (0, 20_000)

BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        # numbers: lowest and highest value
        "label id": (1, MAX_LABEL),
        "margin_mm": (0, 1000),
        "normalisation low": _INTENSITY,
        "normalisation high": _INTENSITY,
        "normalisation mean": _INTENSITY,
        "normalisation std": _INTENSITY,
        "patch_zyx": (1, MAX_PATCH),
        "refining features": (0, 4096),
        "refining halvings": (0, 4),
        "refining overlap": (0.05, 0.95),
        "refining share": (0, 1),
        "region label": (0, MAX_LABEL),
        "region rank": (0, MAX_LABELS),
        "size_zyx": (0, MAX_PATCH),
        "sliding overlap": (0, 0.95),
        "spacing_zyx_mm": (0.001, 1000),
        "step channel": (0, MAX_CHANNELS - 1),
        "region channel": (0, MAX_CHANNELS - 1),
        "step margin": (0, MAX_PATCH),
        "step value": _INTENSITY,
        "training cases": (0, 10**9),
        "training epochs": (0, 1e9),
        "training fingerprint": _ANY,
        "training minutes": (0, 1e9),
        "training presets": (0, 1),
        "training seed": (0, 2**63 - 1),
        "training intensity": _INTENSITY,
        "training spacing": (0.0001, 100_000),
        "training extent": (0.0001, 10_000_000),
        "training validation": _ANY,
        "trust cases": (3, 10**9),
        "trust intercept": (-10_000, 10_000),
        "trust per_volume": (-100, 100),
        "trust per_sure": (-100, 100),
        "trust share": (0, 1),
        "trust slope": (-100, 100),
        "trust spread": (0, 1),
        "trust temperature": (0.01, 100),
        # texts: shortest and longest
        "channel name": _NAME,
        "citation": _PROSE,
        "description": _PROSE,
        "label name": _NAME,
        "licence": _LONG_NAME,
        "network": _NAME,
        "refining layer": (0, 200),
        "refining model": (0, 64),
        "row name": _NAME,
        "training versions": (0, 200),
    }
)
"""{what a message calls the value: (least, most)}."""


def text(what: str, value: object, bounds: str = "") -> str:
    """The value, a text without control characters. bounds: the row of BOUNDS, where it is not `what`."""
    shortest, longest = BOUNDS[bounds or what]
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        raise InputError(f"{what} must be a text of {shortest} to {longest} characters; got {shown(value)}")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c != "\n" for c in value):
        raise InputError(f"{what} must hold no control characters; got {shown(value)}")
    return value


def number(what: str, value: object, bounds: str = "") -> float:
    """The value as a float. bounds: as for `text`."""
    low, high = BOUNDS[bounds or what]
    found = _as_float(value)
    if not low <= found <= high:
        raise InputError(f"{what} must be a number from {low:g} to {high:g}; got {shown(value)}")
    return found


def whole(what: str, value: object) -> int:
    """The value as an int."""
    low, high = BOUNDS[what]
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InputError(f"{what} must be a whole number from {low} to {high}; got {shown(value)}")
    return int(value)


def flag(what: str, value: object) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise InputError(f"{what} must be true or false; got {shown(value)}")


def choice(what: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{what} is one of {', '.join(choices)}; got {shown(value)}")


def items(what: str, value: object, kind: type) -> tuple[Any, ...]:
    """The value as a tuple of instances of a class, one per channel."""
    found = tuple(value) if isinstance(value, tuple | list) else ()
    if not 1 <= len(found) <= MAX_CHANNELS or not all(isinstance(item, kind) for item in found):
        raise InputError(
            f"{what} must hold 1 to {MAX_CHANNELS} of {getattr(kind, '__name__', kind)}; got {shown(value)}"
        )
    return found


def labels(value: object) -> Mapping[int, str]:
    """A read-only copy of {label id: name}, by ascending id."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_LABELS:
        raise InputError(f"labels must hold 1 to {MAX_LABELS} names by id; got {shown(value)}")
    found = {whole("label id", label): name for label, name in value.items()}
    for label, name in found.items():
        text(f"name of label {label}", name, "label name")
    return MappingProxyType(dict(sorted(found.items())))


def table(what: str, value: object, check: Callable[[str, object, str], Any]) -> Mapping[str, Any]:
    """A read-only copy of {name: checked value}. check: `text` or `number`, with the bounds of the table."""
    if not isinstance(value, Mapping) or len(value) > MAX_ROWS:
        raise InputError(f"{what} must be a table of at most {MAX_ROWS} rows; got {shown(value)}")
    for key in value:
        text(f"name in {what}", key, "row name")
    return MappingProxyType({key: check(f"{what} {key}", item, what) for key, item in value.items()})


def pair(what: str, value: object, check: Callable[[str, object], Any]) -> tuple[Any, Any]:
    """The value as two checked ones, low and high."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InputError(f"{what} needs two values, low and high; got {shown(value)}")
    low, high = (check(what, v) for v in value)
    return low, high


def triple(what: str, value: object, check: Callable[[str, object], Any]) -> tuple[Any, Any, Any]:
    """The value as three checked numbers (z, y, x). check: `number` or `whole`."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise InputError(f"{what} needs three numbers (z, y, x); got {shown(value)}")
    return triple_of(check(what, v) for v in value)


def orientation(value: object) -> None:
    """Refuse anything but None, three letters, one of each axis, and the stored axes z, y, x in some order."""
    letters = [{positive, negative} for positive, negative in AXIS_LETTERS]
    if value is None or (isinstance(value, str) and sorted(value) == ["x", "y", "z"]):
        return
    if not (isinstance(value, str) and len(value) == 3 and all(sum(c in pair for c in value) == 1 for pair in letters)):
        raise InputError(
            f"orientation needs one letter each of S/I, P/A and L/R, such as SPL, or z, y and x in some order for the "
            f"axes as they are stored; got {shown(value)}"
        )


def _as_float(value: object) -> float:
    """NaN for anything but a number, so that no bounds hold; JSON's whole numbers can be longer than any float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
