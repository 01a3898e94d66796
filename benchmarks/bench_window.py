"""How long the window waits while every control of the Metrics panel is used on a real pair of 41 organs.

    python benchmarks/bench_window.py [--repeats 5] [--wanted 200]

Each repeat is a fresh napari on the screen that DISPLAY names (under Xvfb: `xvfb-run -a python ...`). A timer ticks
every 20 ms. For each part of the walk the longest gap between two ticks is printed, by the clock, and how much of it
the thread of the window computed. The walk is that of tests/widgets/measuring/test_window.py, and checks what the panel
shows. The data is where the tests look for it: $MEDSEG_DATA, or else ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wanted", type=float, default=200, help="the longest gap allowed, in ms")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(gaps_ms()))
        return
    runs = [run() for _ in range(args.repeats)]
    print(f"{'part':18} {'median gap ms':>13} {'longest':>8} {'of work':>8}")
    for part in runs[0]:
        gaps, works = zip(*(run[part] for run in runs), strict=True)
        print(f"{part:18} {statistics.median(gaps):13.0f} {max(gaps):8.0f} {max(works):8.0f}")
    longest = [max(gap for gap, _ in run.values()) for run in runs]
    print(f"longest of each run: {', '.join(f'{gap:.0f}' for gap in longest)} ms; wanted <= {args.wanted:.0f}")


def run() -> dict[str, tuple[float, float]]:
    """A walk in a process of its own."""
    command = [sys.executable, __file__, "--once"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def gaps_ms() -> dict[str, tuple[float, float]]:
    """Part of the walk -> the longest gap, and the longest work of the window's thread in a gap."""
    import napari

    from metrics_walk import Pair, walk

    data = Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[2] / "shared" / "data")
    window = napari.Viewer()
    window.window._qt_window.resize(1400, 900)
    with tempfile.TemporaryDirectory() as folder:
        heart = walk(window, Pair.read(data), Path(folder))
    window.close()
    return {part: (1000 * max(gaps), 1000 * max(heart.busy[part])) for part, gaps in heart.gaps.items()}


if __name__ == "__main__":
    main()
