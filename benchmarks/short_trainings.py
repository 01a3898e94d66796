"""What the benchmarks of short trainings share: budgets in processor time, rows kept one by one, the Dice of a case.

Import it before anything of the package: budgets in minutes are processor time then.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of the package

import numpy as np

import napari_medseg as ms
from napari_medseg.cases import Case
from napari_medseg.events import Finished, Notice, TrainProgress
from napari_medseg.metrics.pairwise.overlap import dice_per_label

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Rows:
    """The rows of a benchmark in results/NAME.json, each written at once, so that a stopped one goes on."""

    name: str

    @property
    def path(self) -> Path:
        return RESULTS / f"{self.name}.json"

    def done(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())["rows"] if self.path.exists() else {}

    def lacks(self, key: str, settings: Mapping[str, Any]) -> bool:
        """Whether there is no row of these settings."""
        found = self.done().get(key)
        return found is None or not settings.items() <= found.items()

    def keep(self, key: str, row: Mapping[str, Any]) -> None:
        content = {"processor": processor(), "rows": {**self.done(), key: row}}
        self.path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        print(key, row, flush=True)


def processor() -> str:
    """The name of the processor."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def trained(
    cases: Iterable[Case | tuple[ms.Volume, ms.Segmentation]], out: Path, said: list[str] | None = None, **knobs: Any
) -> tuple[ms.Model, int]:
    """The model with the last weights and its steps: no case validates, and no state is saved along the way.

    said: gets what the training says. knobs: others than these.
    """
    fixed = {"checkpoint_minutes": 1000, "val": 0, "device": "cpu", "report": False}
    model, steps = None, 0
    for event in ms.iter_train(cases, out=out, **{**fixed, **knobs}):
        if isinstance(event, TrainProgress):
            steps = event.step
        elif isinstance(event, Notice):
            print(event.message, file=sys.stderr, flush=True)
            if said is not None:
                said.append(event.message)
        elif isinstance(event, Finished):
            model = event.result
    assert model is not None, "a training ends with its model"
    return model, steps


def dice_of(case: Case, model: ms.Model) -> list[float]:
    """The Dice of each label in one case."""
    volume, reference = case.load()
    found = ms.segment(volume, model, device="cpu")
    scores = dice_per_label(np.asarray(found.data[...]), np.asarray(reference.data[...]), tuple(model.spec.labels))
    return [scores[label] for label in sorted(scores)]
