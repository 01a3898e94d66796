"""Draw how the engine grows, from benchmarks/results/scaling.json: `python docs/scaling.py` writes a picture.

The picture is docs/images/engine-scaling.svg; docs/generate.py writes the same figures as a table.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
PICTURE = ROOT / "docs" / "images" / "engine-scaling.svg"
Figures = dict[str, Any]


def figures() -> dict[str, Figures]:
    """What was measured, by its name; nothing before."""
    found: dict[str, Figures] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return found


def added(one: Figures) -> float:
    """The MiB that a run added."""
    return float(one["peak_mib"] - one["before_mib"])


def draw() -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    table = figures()
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    time, memory, classes = figure.subplots(1, 3)
    for kind in ("dense", "sparse"):
        found = [one for name, one in table.items() if name.startswith(kind)]
        voxels = [math.prod(one["shape"]) for one in found]
        time.loglog(voxels, [one["cpu_s"] for one in found], "o-", label=kind)
        memory.semilogx(voxels, [added(one) for one in found], "o-", label=kind)
    large = [one for name, one in table.items() if name.startswith("large")]
    voxels = [math.prod(one["shape"]) for one in large]
    time.loglog(voxels, [one["cpu_s"] for one in large], "k^", label="sparse, fast, 3 GiB allowed")
    memory.semilogx(voxels, [added(one) for one in large], "k^", label="sparse, fast, 3 GiB allowed")
    for preset in ("exact", "fast"):
        found = [one for name, one in table.items() if name.startswith("classes") and one["preset"] == preset]
        classes.plot([one["classes"] for one in found], [one["cpu_s"] for one in found], "o-", label=preset)
    for axes, title, what, unit in (
        (time, "time", "voxels", "CPU s"),
        (memory, "memory", "voxels", "added MiB"),
        (classes, "classes, 128 x 128 x 128", "classes", "CPU s"),
    ):
        axes.set(title=title, xlabel=what, ylabel=unit)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
