"""Lesions of multiple sclerosis in four channels: two patients train, the third is judged, in every rotation.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 nice python benchmarks/bench_lesions.py [--cpu-minutes 2]

Three patients (Lesjak et al., Neuroinformatics 2017) with FLAIR, T1, T1 with contrast agent and T2, skull-stripped, at
2 mm. Seed 0, one thread, minutes of processor time from the first step on, the last weights: with two patients no case
is left to choose by, and no setting was tuned on them. The network is that of KNOBS, with which a step takes a fraction
of a second. Lesions are connected parts (26 neighbours). F1 counts those that share more of their union than the
threshold: 0.1, as is usual for small lesions, and 0.5. Rows are written to results/lesions.json one by one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from short_trainings import Rows, trained  # first of all: it makes budgets processor time

import napari_medseg as ms  # isort: skip
from napari_medseg.cases import Case
from napari_medseg.metrics import match_instances

CHANNELS = ("FLAIR", "T1", "T1POST", "T2")
KNOBS: dict[str, Any] = {
    "network": "unet3d",
    "arguments": {"channels": (16, 32, 64, 128)},
    "patch_zyx": (32, 32, 32),
    "mirror": "all",
}
THRESHOLDS = (0.1, 0.5)
ROWS = Rows("lesions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-minutes", type=float, default=2.0)
    args = parser.parse_args()
    cases = patients()
    for case in cases:
        if ROWS.lacks(case.name, {"cpu_minutes": args.cpu_minutes}):
            others = [other for other in cases if other is not case]
            with tempfile.TemporaryDirectory() as folder:
                model, steps = trained(others, Path(folder) / "lesions.safetensors", minutes=args.cpu_minutes, **KNOBS)
                ROWS.keep(case.name, {**judged(case, model), "steps": steps, "cpu_minutes": args.cpu_minutes})


def patients() -> list[Case]:
    """The cases, in name order."""
    folders = sorted(p for p in (Path(os.environ["MEDSEG_DATA"]) / "ms_lesions_mr").iterdir() if p.is_dir())
    return [
        Case(
            name=folder.name,
            images=tuple(folder / f"{name}.nii.gz" for name in CHANNELS),
            channels=CHANNELS,
            labels=folder / "lesions.nii.gz",
        )
        for folder in folders
    ]


def judged(case: Case, model: ms.Model) -> dict[str, Any]:
    """The scores of a patient whom the model has not seen."""
    volume, reference = case.load()
    found = ms.segment(volume, model, device="cpu")
    row = next(iter(ms.evaluate(prediction=found, reference=reference).rows))
    lesions = match_instances(prediction=found, reference=reference, iou=THRESHOLDS).rows
    return {
        "dice": round(row.dice, 4),
        "reference_mm3": round(row.voxels_reference * volume.grid.voxel_volume_mm3),
        "prediction_mm3": round(row.voxels_prediction * volume.grid.voxel_volume_mm3),
        "lesions": lesions[0].instances_reference,
        "found_parts": lesions[0].instances_prediction,
        **{f"f1_{one.iou_above:g}": round(one.f1, 4) for one in lesions},
        **{f"recall_{one.iou_above:g}": round(one.recall, 4) for one in lesions},
    }


if __name__ == "__main__":
    main()
