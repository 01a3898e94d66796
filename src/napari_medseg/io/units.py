"""The units of length that files name, in millimetres."""

from __future__ import annotations

from collections.abc import Mapping

_PREFIXES = {
    "yocto": -24, "zepto": -21, "atto": -18, "femto": -15, "pico": -12, "nano": -9, "micro": -6, "milli": -3,
    "centi": -2, "deci": -1, "": 0, "hecto": 2, "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18,
    "zetta": 21, "yotta": 24,
}  # fmt: skip
"""{prefix: its power of ten}: those that OME-Zarr allows."""
_MICROMETRE = ("um", "µm", "μm", "micron", "microns")
"""The sign of "µm" is that of Latin-1, that of "μm" the Greek letter."""
_MILLIMETRES: Mapping[str, float] = {
    f"{prefix}{metre}": float(f"1e{power + 3}")
    for prefix, power in _PREFIXES.items()
    for metre in ("meter", "meters", "metre", "metres")
} | {
    **dict.fromkeys(_MICROMETRE, 1e-3),
    "pm": 1e-9,
    "nm": 1e-6,
    "mm": 1.0,
    "cm": 10.0,
    "dm": 100.0,
    "m": 1000.0,
    "km": 1e6,
    **dict.fromkeys(("angstrom", "angstroms", "å"), 1e-7),
    **dict.fromkeys(("inch", "inches", "in"), 25.4),
    **dict.fromkeys(("foot", "feet", "ft"), 304.8),
    **dict.fromkeys(("yard", "yards"), 914.4),
    **dict.fromkeys(("mile", "miles"), 1_609_344.0),
}


def millimetres(name: str) -> float | None:
    """The length of a unit in mm, by its name or its sign in any case; None for what is no unit of length."""
    return _MILLIMETRES.get(name.strip().replace("\\u00B5", "µ").lower())
