"""How long the window waits while the plugin is used: the main job, the Metrics panel, and a large image.

    python benchmarks/bench_window.py [--repeats 5] [--wanted 300] [--walk job|metrics|large]

The main job goes from the sample over segmentation, editing, training and measuring to undo. The Metrics panel compares
a real pair of 41 organs. The large image is a chest CT of 275 x 512 x 512 voxels in a store, whose segmentation is
cancelled and resumed. Each walk is one of tests/helpers and checks what it sees; each repeat is a napari of its own
on the screen that DISPLAY names (under Xvfb: `xvfb-run -a python ...`), in which nothing was shown before.

A timer ticks every 20 ms. Printed is the longest gap between two ticks in each part of a walk, by the clock; how much
of it the window's own thread computed; and how much of it Python's collector of garbage and napari's drawing of the
canvas took, which every program in napari pays. In the first part of the main job napari shows its first layers
without the plugin: that part is printed, and counts in no longest gap of a run.

The peer of "open the sample" and of "open the image" is napari alone: in a process of its own it shows the same
arrays, made before, as layers without our metadata. The last line of a run names the longest gap, and the longest that
is left where what the collector and the canvas took, or the peer's median in its part, is not counted: that one has the
bound. The pair and the CT are where the tests look for it, $MEDSEG_DATA or else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

NAPARIS_OWN = "napari's first layers"
"""The part of tests/helpers/job_walk.py in which nothing of the plugin runs."""
ALONE = {"job": "open the sample", "large": "open the image"}
"""{walk: its part whose peer is napari alone}"""
WALKS = ("job", "metrics", "large")
COLUMNS = ("of work", "collector", "painting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wanted", type=float, default=300, help="the longest gap allowed, in ms")
    parser.add_argument("--walk", choices=WALKS, help="one of the walks")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(gaps_ms(args.walk, alone=args.alone)))
        return
    for walk in [args.walk] if args.walk else WALKS:
        runs = [run("--walk", walk) for _ in range(args.repeats)]
        part = ALONE.get(walk)
        peers = [run("--alone", "--walk", walk)[part][0] for _ in range(args.repeats)] if part else []
        report(walk, runs, {part: statistics.median(peers)} if part else {}, args.wanted)


def report(walk: str, runs: list[dict[str, list[float]]], alone: dict[str, float], wanted_ms: float) -> None:
    """A line per part: the median and the longest of its gaps over the runs, and what the longest consists of.

    alone: {part: napari's own gap in it, in ms}
    """
    print(f"{walk + ', ms':32} {'median gap':>10} {'longest':>8}" + "".join(f" {name:>10}" for name in COLUMNS))
    for part in runs[0]:
        gaps = [run[part] for run in runs]
        seconds, *shares = max(gaps)
        print(
            f"{part:32} {statistics.median(gap[0] for gap in gaps):10.0f} {seconds:8.0f}"
            + "".join(f" {share:10.0f}" for share in shares)
        )
    for part, peer in alone.items():
        ratio = statistics.median(run[part][0] for run in runs) / peer
        print(f"{part}: napari alone {peer:.0f} ms; the plugin takes {ratio:.2f} times as long")

    def ours(part: str, gap: list[float]) -> float:
        seconds, _work, collector, painting = gap
        return seconds - alone.get(part, collector + painting)

    for number, run_ in enumerate(runs, 1):
        parts = {name: gap for name, gap in run_.items() if name != NAPARIS_OWN}
        part = max(parts, key=lambda name: parts[name][0])
        _seconds, *shares = parts[part]
        told = ", ".join(f"{name} {share:.0f}" for name, share in zip(COLUMNS, shares, strict=True))
        left = max(parts, key=lambda name: ours(name, parts[name]))
        print(
            f"run {number}: longest {parts[part][0]:.0f} ms ({part}; {told}); "
            f"without napari's own and the collector {ours(left, parts[left]):.0f} ({left}), wanted <= {wanted_ms:.0f}"
        )
    print()


def run(*flags: str) -> dict[str, list[float]]:
    """A walk in a process of its own."""
    command = [sys.executable, __file__, "--once", *flags]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def gaps_ms(walk: str | None, *, alone: bool) -> dict[str, list[float]]:
    """{part of the walk: its longest gap, and of it the work of the window's thread, collector and painting}"""
    import napari
    from heartbeat import Heartbeat
    from qtpy.QtCore import QCoreApplication, QEvent

    from job_walk import show_sample_alone, walk_job
    from large_walk import show_image_alone, walk_large
    from metrics_walk import Pair, walk_metrics

    heart = Heartbeat()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDSEG_MODELS"] = str(Path(folder, "models"))
        os.environ["NAPARI_CONFIG"] = str(Path(folder, "settings.yaml"))  # no choices of an earlier run
        window = napari.Viewer()
        window.window._qt_window.resize(1400, 900)
        with heart.watching():
            data = Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data")
            if walk == "job":
                (show_sample_alone if alone else partial(walk_job, folder=Path(folder)))(window, during=heart.during)
            elif walk == "metrics":
                walk_metrics(window, Pair.read(data), Path(folder), during=heart.during)
            else:
                source = data / "chest_ct" / "chest_ct.nii.gz"
                (show_image_alone if alone else walk_large)(window, source, Path(folder), during=heart.during)
        window.close()
        # No event loop follows that would delete the window: the interpreter's exit would, in any order.
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()
    return {
        part: [1000 * value for value in (gap.seconds, gap.work, gap.collector, gap.painting)]
        for part, gap in heart.longest.items()
    }


if __name__ == "__main__":
    main()
