"""Arguments of MONAI's classes: those that are read, and those that are taken only where they change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_medseg.registry import shown

OFF = (False, None, "False", "false")
"""Values of a switch that is off, as bundles write it."""
_NEVER = frozenset(
    {"keys", "disabled", "dtype", "device", "allow_missing_keys", "meta_keys", "meta_key_postfix", "lazy"}
)
"""Arguments that change no value here, and that bundles often compute: of lazy transforms, one alone resamples."""


@dataclass(frozen=True)
class Arguments:
    """What is known of the arguments of one class."""

    known: frozenset[str]
    """Those that are read, or that change nothing."""
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """{argument that is not read: the values, such as MONAI's default, at which it changes nothing}."""

    @classmethod
    def of(cls, known: str = "", **neutral: tuple[Any, ...]) -> Arguments:
        """From the names in a text."""
        return cls(frozenset(known.split()), neutral)

    def given(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """What a config gives, without what MONAI's parser reads itself and what changes nothing anywhere."""
        return {k: v for k, v in table.items() if not k.startswith("_") and k not in _NEVER}

    def refuse_others(self, given: Mapping[str, Any]) -> None:
        """Raise ValueError for an argument that is not known and would change something."""
        for name in sorted(set(given) - self.known):
            values = given[name] if isinstance(given[name], list) and given[name] else [given[name]]
            if given[name] not in self.neutral.get(name, ()) and not all(
                v in self.neutral.get(name, ()) for v in values
            ):
                raise ValueError(f"{name} {shown(str(given[name]))} changes what is not changed here: leave it out")
