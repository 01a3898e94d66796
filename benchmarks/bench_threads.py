"""Threads that wait briefly: what a window costs alone, and where each core has two threads.

    python benchmarks/bench_threads.py

The peer is torch as it is: its threads count for milliseconds before they sleep, and hold the core that another thread
needs. Ours count for some ten microseconds. Each row is a network on windows of 64^3, on as many threads as there are
cores: one process of them, then two at once, as with two workers or beside another program; and two that share the
cores, each with half of the threads. Wall seconds a window, the least of three turns; nothing else may run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from short_trainings import processor

from napari_medseg.io.disk.own import WAITING, granted_cores

RESULTS = Path(__file__).parent / "results" / "threads.json"
NETWORKS = (("unet3d", "fp32"), ("unet3d", "bf16"))
WINDOWS, TURNS = 6, 3
LOADING_S = 9
"""In which all processes have loaded the network."""


def main() -> None:
    cores = granted_cores()
    rows = []
    for network, precision in NETWORKS:
        row: dict[str, object] = {"network": network, "precision": precision}
        for name, processes, threads, waiting in (
            ("alone", 1, cores, {}),
            ("alone, ours", 1, cores, WAITING),
            ("two", 2, cores, {}),
            ("two, ours", 2, cores, WAITING),
            ("two that share the cores", 2, max(1, cores // 2), WAITING),
        ):
            turns = [seconds_of(network, precision, processes, threads, waiting) for _ in range(TURNS)]
            row[name] = round(min(turns), 3)
        rows.append(row)
        print(row, flush=True)
    RESULTS.write_text(json.dumps({"processor": processor(), "cores": cores, "rows": rows}, indent=1) + "\n")


def seconds_of(network: str, precision: str, processes: int, threads: int, waiting: dict[str, str]) -> float:
    """The seconds of a window in the slowest of some processes that begin at once."""
    env = {**os.environ, **waiting, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, network, precision, str(time.time() + LOADING_S)]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return max(float(process.communicate()[0]) for process in running)


def work(network: str, precision: str, begin: float) -> None:
    """In a process: print the seconds of a window."""
    import torch

    import napari_medseg as ms

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    net = ms.networks()[network].build(in_channels=1, out_channels=3, spatial_dims=3).eval().to(kind)
    window = torch.randn(1, 1, 64, 64, 64).to(kind)
    with torch.inference_mode():
        net(window)
        time.sleep(max(0.0, begin - time.time()))
        start = time.time()
        for _ in range(WINDOWS):
            net(window)
        print((time.time() - start) / WINDOWS)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        work(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    else:
        main()
