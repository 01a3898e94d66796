"""How well maps show what a label depends on, and how much they depend on the weights.

A small network learns to label a grey ball among brighter boxes and noise (tests/helpers/marked.py). For each method:
the mass of the map inside of the marked region, as a multiple of the region's share of the volume, and the correlation
with the maps of nine networks of random weights: the mean of their sizes, and each. Rows go into results/explain.json
as they are made, and a row that is there is not made again.

    OMP_NUM_THREADS=1 python benchmarks/bench_explain.py
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))


import marked
import napari_medseg as ms
from napari_medseg.explanation.methods import METHODS

RESULTS = Path(__file__).parent / "results" / "explain.json"
SEEDS = (0, 3, 6)
"""Of the random weights: a check draws three networks, from its seed on."""
STEPS = {"attention_unet": 60, "saunet": 150, "mem3d": 80}
"""Steps of the training."""
RATES = {"attention_unet": 1e-2, "saunet": 3e-3}
"""Learning rates."""
NETWORK_OF = {"shape": "saunet", "memory-read": "mem3d"}
"""{method: the network that it explains}; attention_unet for the others."""
TINY = {"width": 4, "blocks": (1, 1, 1), "key": 8, "value": 8, "decoder": 8, "aspp": False}


def main() -> None:
    torch.set_num_threads(1)
    done: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    models: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            name = NETWORK_OF.get(method, "attention_unet")
            if method in done:
                continue
            if name not in models:
                models[name] = trained(Path(folder), name)
            done[method] = row(models[name], method)
            print(method, done[method], flush=True)
            RESULTS.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


def trained(folder: Path, name: str) -> Any:
    """A model that has learned the phantom."""
    if name != "mem3d":
        return marked.trained(folder, name, steps=STEPS[name], learning_rate=RATES[name])
    cases = [marked.phantom(1000 + seed)[:2] for seed in range(8)]
    out = folder / "mem3d.safetensors"
    return ms.train(cases, out=out, scheme="memory", arguments=TINY, epochs=STEPS[name] // 8, batch_size=4, val=0)


def row(model: Any, method: str) -> dict[str, Any]:
    """The figures of one method, on a phantom that the network has not seen."""
    volume, labels, region = marked.phantom(0)
    options: dict[str, Any] = {"label": "ball", "method": method, "check": True}
    if METHODS[method].takes == "memory":
        options["labels"], region = some_slices(labels, region)
    heats = [ms.explain(volume, model, seed=seed, **options) for seed in SEEDS]
    each = [round(float(c), 3) for heat in heats for c in heat.provenance["check_correlations"]]
    return {
        "network": model.spec.network,
        "inside": round(marked.share_inside(np.asarray(heats[0].data[0]), region), 2),
        "correlation": round(float(np.abs(each).mean()), 3),
        "correlations": each,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }


def some_slices(labels: Any, region: Any) -> tuple[Any, Any]:
    """The labels in the middle slice of the ball and two slices away, and the region there."""
    data = np.asarray(labels.data)
    held = np.flatnonzero(data.any((1, 2)))
    kept = [int(held[1]), int(held[-2])]
    chosen = np.zeros_like(data)
    chosen[kept] = data[kept]
    there = np.zeros_like(region)
    there[kept] = region[kept]
    return ms.Segmentation(chosen, labels.grid, {1: "ball"}, name="slices"), there


if __name__ == "__main__":
    main()
