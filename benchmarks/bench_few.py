"""Five labelled hippocampus cases: training from scratch beside fine-tuning a model of another contrast.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 nice python benchmarks/bench_few.py [--cpu-minutes 2] [--base-minutes 5]

The base model learns from the first 120 cases with their intensities turned over (light is dark) and bent by a power of
2, as another sequence might show them. Cases 121 to 160 are those of the new contrast: five of them are labelled, every
eighth from the number of the seed on. The last 40 are judged once, and choose nothing; no setting was tuned. Both ways
have the same minutes of processor time from the first step on, one thread, default settings, and the last weights. The
time of the base model is not counted: it is there already. Rows are written to results/few.json one by one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from short_trainings import Rows, dice_of, trained  # first of all: it makes budgets processor time

import numpy as np  # isort: skip

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders

BASE, FIRST, JUDGED, EVERY = 120, 160, 40, 8
POWER = 2.0
ROWS = Rows("few")


@dataclass(frozen=True)
class OtherContrast:
    """The image of a case, turned over and bent."""

    case: Case

    def read(self) -> ms.Volume:
        volume = self.case.volume()
        data = np.asarray(volume.data[...], np.float32)
        low, high = np.percentile(data, [0.1, 99.9])
        part = ((data - low) / max(float(high - low), 1e-6)).clip(0, 1)
        return replace(volume, data=1000 * (1 - part) ** POWER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=2.0)
    parser.add_argument("--base-minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    cases = cases_from_folders([data / "images"], data / "labels")
    settings = {"cpu_minutes": args.cpu_minutes, "base_minutes": args.base_minutes}
    wanted = [f"{way}:{seed}" for seed in range(args.seeds) for way in ("scratch", "fine-tuned")]
    missing = [name for name in ("base", *wanted) if ROWS.lacks(name, settings)]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        base, steps = trained(turned(cases[:BASE]), Path(folder) / "base.safetensors", minutes=args.base_minutes)
        if "base" in missing:
            ROWS.keep("base", {**judged(cases[-JUDGED:], base), "steps": steps, **settings})
        for name in missing:
            if name != "base":
                way, seed = name.split(":")
                init = {"init": base} if way == "fine-tuned" else {}
                out = Path(folder) / f"{way}{seed}.safetensors"
                five = cases[BASE:FIRST][int(seed) :: EVERY]
                model, steps = trained(five, out, minutes=args.cpu_minutes, seed=int(seed), **init)
                ROWS.keep(name, {**judged(cases[-JUDGED:], model), "steps": steps, "cases": len(five), **settings})


def turned(cases: list[Case]) -> list[Case]:
    """The cases in another contrast."""
    return [replace(case, images=(OtherContrast(case),)) for case in cases]


def judged(cases: list[Case], model: ms.Model) -> dict[str, Any]:
    """The mean Dice over cases and labels, and of each label."""
    mean = np.mean([dice_of(case, model) for case in cases], axis=0)
    return {"dice": round(float(mean.mean()), 4), "labels": [round(float(value), 4) for value in mean]}


if __name__ == "__main__":
    main()
