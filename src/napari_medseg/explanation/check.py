"""The check of a map: networks of random weights must give other ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_medseg.explanation.explaining import CHECK_KEY, CHECKS_KEY, explain
from napari_medseg.explanation.randomised import ALIKE
from napari_medseg.models.several import AnyModel, ModelSet
from napari_medseg.volume import Volume


@dataclass(frozen=True)
class Check:
    """How much a map is like those of the same network with random weights."""

    correlation: float
    """The mean size of the correlations: random weights may give a like map by chance, so several are drawn."""
    each: tuple[float, ...] = ()
    """Pearson's with each random network, over the voxels of the windows that were looked at; NaN without any."""

    @property
    def passed(self) -> bool:
        """Whether the map depends on what the network has learned."""
        return abs(self.correlation) < ALIKE

    @property
    def sentence(self) -> str:
        """The figure, and what it means."""
        if math.isnan(self.correlation):
            return "Check: no window was looked at, so nothing can be compared."
        means = "it depends on what the model has learned" if self.passed else "do not trust it"
        likely = "little" if self.passed else "too much"
        return (
            f"Check: the map is {likely} like those of random weights (mean correlation {self.correlation:.2f}, "
            f"below {ALIKE:g} is wanted): {means}."
        )

    @classmethod
    def of(cls, heat: Volume) -> Check | None:
        """The check that was made with a map; None where none was."""
        found, each = heat.provenance.get(CHECK_KEY), heat.provenance.get(CHECKS_KEY)
        if not isinstance(found, int | float):
            return None
        return cls(float(found), tuple(map(float, each)) if isinstance(each, list) else ())


def check_explanation(volume: Volume, model: AnyModel | ModelSet | Sequence[AnyModel], **options: Any) -> Check:
    """Explain with the weights of the model and with random ones, three times, and compare the maps.

    Source: Adebayo et al., NeurIPS 2018. The options are those of `iter_explain`, and its knob `check` is on.
    """
    made = Check.of(explain(volume, model, **{**options, "check": True}))
    assert made is not None, "the map was checked"
    return made
