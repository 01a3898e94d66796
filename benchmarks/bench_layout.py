"""How long each network takes with channels last, beside torch's own layout: why a long run measures it.

    OMP_NUM_THREADS=1 python benchmarks/bench_layout.py

Every network of the registry that takes an image, with its default arguments and random weights, in 2D (192^2) and 3D
(48^3), in fp32 and bf16: CPU seconds of one thread, the shorter of two runs after a first, in turns. The ratios go
to results/layout.json.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: seconds are those of one thread

import torch
from short_trainings import processor

import napari_medseg as ms
from napari_medseg.architectures.layout import Layout, lay
from napari_medseg.config import Precision
from napari_medseg.inference.predictor import Predictor
from napari_medseg.inference.tuning import LAYOUTS
from napari_medseg.io.disk.memory import keep_freed

RESULTS = Path(__file__).parent / "results" / "layout.json"
SIZES = {2: (192, 192), 3: (48, 48, 48)}
RUNS = 2


def main() -> None:
    torch.set_num_threads(1)
    keep_freed()  # as the command does
    ratios: dict[str, dict[str, float]] = {}
    for name, spec in ms.networks().items():
        for dims in spec.dims if spec.takes == "image" else ():
            torch.manual_seed(0)
            network = spec.build(in_channels=1, out_channels=3, spatial_dims=dims).eval()
            window = torch.randn(1, 1, *SIZES[dims])
            found: dict[str, float] = {
                precision: ratio(Predictor(network, torch.device("cpu"), precision), window) for precision in BOTH
            }
            ratios[f"{name} {dims}D"] = found
            print(name, dims, found, flush=True)
    RESULTS.write_text(json.dumps({"processor": processor(), "ratios": ratios}, indent=1) + "\n", encoding="utf-8")


BOTH: tuple[Precision, Precision] = ("fp32", "bf16")


def ratio(predictor: Predictor, window: torch.Tensor) -> float:
    """The time with channels last over that without."""
    taken: dict[Layout, list[float]] = {layout: [] for layout in LAYOUTS}
    for _ in range(1 + RUNS):
        for layout in LAYOUTS:
            lay(predictor.network, layout)
            start = time.process_time()
            predictor(window)
            taken[layout].append(time.process_time() - start)
    usual, other = (min(taken[layout][1:]) for layout in LAYOUTS)
    return round(other / usual, 2)


if __name__ == "__main__":
    main()
