"""A search over plans on phantoms: the plan that it finds beside the plan of the cases.

    OMP_NUM_THREADS=1 nice python benchmarks/bench_search.py [--search 2] [--cpu-minutes 0.75]

Abdomens made of formulas with six labels, in MR at 7.5 x 5 x 5 mm. Ten are given, of which the last four judge the
search; six others are judged at the end. Seed 0, one thread, minutes of processor time from the first step on, the last
weights.
planned: the plan of the cases. searched: a search, then as long a training of what it found. longer: the plan of the
cases, with the minutes of the search as well. Rows are written to results/search.json one by one, with what the search
said.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from short_trainings import Rows, dice_of, trained  # first of all: it makes budgets processor time

import numpy as np  # isort: skip

from napari_medseg.cases import Case
from napari_medseg.sample import phantom

GIVEN, JUDGED, VAL = 10, 6, 0.4
SHAPE, SPACING = (32, 48, 64), (7.5, 5.0, 5.0)
ROWS = Rows("search")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", type=float, default=2.0)
    parser.add_argument("--cpu-minutes", type=float, default=0.75)
    args = parser.parse_args()
    settings = {"cpu_minutes": args.cpu_minutes, "search_minutes": args.search}
    ways: dict[str, dict[str, Any]] = {
        "planned": {"minutes": args.cpu_minutes},
        "searched": {"minutes": args.cpu_minutes, "search": args.search},
        "longer": {"minutes": args.cpu_minutes + args.search},
    }
    cases = [phantom_case(seed) for seed in range(GIVEN + JUDGED)]
    for way, knobs in ways.items():
        if ROWS.lacks(way, settings):
            with tempfile.TemporaryDirectory() as folder:
                said: list[str] = []
                out = Path(folder) / "model.safetensors"
                model, steps = trained(cases[:GIVEN], out, said, val=VAL, validations=0, **knobs)
                mean = np.mean([dice_of(case, model) for case in cases[GIVEN:]], axis=0)
                row = {
                    "dice": round(float(mean.mean()), 4),
                    "labels": [round(float(value), 4) for value in mean],
                    "steps": steps,
                    "patch": list(model.spec.patch_zyx),
                    "channels": list(model.spec.arguments["channels"]),  # type: ignore[arg-type]  # those of unet3d
                    "said": [line for line in said if line.startswith("search")],
                }
                ROWS.keep(way, {**row, **settings})


def phantom_case(seed: int) -> Case:
    volume, labels = phantom("mr", seed=seed, shape_zyx=SHAPE, spacing_zyx_mm=SPACING)
    return Case(name=f"phantom {seed:02}", images=(volume,), labels=labels)


if __name__ == "__main__":
    main()
