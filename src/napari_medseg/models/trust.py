"""How far a model can be believed, as its validation measured it: numbers that are saved with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from napari_medseg.errors import InputError
from napari_medseg.models import checks
from napari_medseg.registry import shown

Bin = tuple[float, float, float]
"""Of a reliability diagram: (share of the voxels, their mean confidence, the fraction that is right), each 0 to 1."""
_MOST_BINS = 100
_LEAST_ML = 1e-3


@dataclass(frozen=True)
class Signs:
    """What the labels of a case look like to the model that gave them: no reference is needed."""

    soft_dice: float
    """Of the labels with the model's own probabilities."""
    volume_ml: float
    """Of all labels."""
    sure: float
    """The share of a label's voxels that the model takes for background with less than 5 %, in the mean over labels."""


@dataclass(frozen=True, kw_only=True)
class DiceLine:
    """The Dice of a case from its signs, as the validation cases have it.

    Raises InputError for numbers out of bounds.
    """

    intercept: float
    slope: float
    """Dice for a soft Dice of 1 more; 0 where it does not tell."""
    per_volume: float
    """Dice for a volume of all labels that is e times as large; 0 where it does not tell."""
    spread: float
    """Standard deviation of a case around what the others say of it."""
    cases: int
    """Validation cases that it was fitted to."""
    per_sure: float = 0.0
    """Dice for a share of sure voxels of 1 more; 0 where it does not tell, and in older files."""

    def __post_init__(self) -> None:
        for name in ("intercept", "slope", "per_volume", "spread", "per_sure"):
            object.__setattr__(self, name, checks.number(f"trust {name}", getattr(self, name)))
        object.__setattr__(self, "cases", checks.whole("trust cases", self.cases))

    def expected(self, signs: Signs) -> tuple[float, float, float]:
        """(expected Dice, lower end, upper end) of a case; a new case lies between the ends in 95 of 100 times."""
        from scipy.stats import t

        of_signs = self.slope * signs.soft_dice + self.per_volume * log_volume(signs.volume_ml)
        middle = self.intercept + of_signs + self.per_sure * signs.sure
        reach = float(t.ppf(0.975, self.cases - 1)) * self.spread
        return min(1.0, max(0.0, middle)), min(1.0, max(0.0, middle - reach)), min(1.0, max(0.0, middle + reach))

    def sentence(self, signs: Signs) -> str:
        """What is expected of a case, in words."""
        middle, low, high = self.expected(signs)
        return f"expected Dice {middle:.2f} (95 of 100 such cases: {low:.2f} to {high:.2f})"


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Raises InputError for numbers out of bounds."""

    temperature: float = 1.0
    """Logits are divided by it before they become probabilities; labels do not change."""
    dice: DiceLine | None = None
    """None where there were too few validation cases."""
    before: tuple[Bin, ...] = ()
    """The reliability of the validation with temperature 1."""
    after: tuple[Bin, ...] = ()
    """And with the temperature."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", checks.number("trust temperature", self.temperature))
        if not isinstance(self.dice, DiceLine | None):
            raise InputError(f"trust dice must be a DiceLine; got {type(self.dice).__name__}")
        for name in ("before", "after"):
            object.__setattr__(self, name, _bins(getattr(self, name)))


def log_volume(volume_ml: float) -> float:
    """The logarithm of a volume; of none, that of a mm3."""
    return math.log(max(volume_ml, _LEAST_ML))


def ece_of(bins: tuple[Bin, ...]) -> float:
    """The expected calibration error (Guo et al., ICML 2017) of a reliability diagram."""
    return sum(share * abs(accuracy - confidence) for share, confidence, accuracy in bins)


def read_trust(document: Mapping[str, Any]) -> Trust:
    """The Trust of a JSON document; InputError for unknown keys and values out of bounds."""
    _require_known("trust", document, Trust)
    line = document.get("dice")
    if line is not None:
        if not isinstance(line, dict):
            raise InputError(f"trust dice must be a JSON object; got {shown(line)}")
        _require_known("trust dice", line, DiceLine)
        missing = [f.name for f in fields(DiceLine) if f.name not in line and f.default is MISSING]
        if missing:
            raise InputError(f"trust dice lacks the key {missing[0]}")
        line = DiceLine(**line)
    return Trust(**{**document, "dice": line})


def _require_known(what: str, document: Mapping[str, Any], kind: type) -> None:
    known = [f.name for f in fields(kind)]
    for name in document:
        if name not in known:
            raise InputError(f"{what} has an unknown key {shown(name)}: known are {', '.join(known)}")


def _bins(value: object) -> tuple[Bin, ...]:
    found = value if isinstance(value, tuple | list) else None
    if found is None or len(found) > _MOST_BINS or not all(isinstance(b, tuple | list) and len(b) == 3 for b in found):
        raise InputError(f"trust needs at most {_MOST_BINS} bins of three numbers; got {shown(value)}")
    return tuple(
        (checks.number("trust share", a), checks.number("trust share", b), checks.number("trust share", c))
        for a, b, c in found
    )


PLAIN_TRUST = Trust()
"""What a model says whose validation measured nothing."""
