"""Clicks in a zarr array of 21 GB, beside 128 voxels a side of it in memory: CPU seconds a click, and memory.

python benchmarks/interact_large.py ARRAY    # the clicks in the centre of one array, as JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from scipy import ndimage

import napari_medseg as ms

SHAPE = (2800, 2000, 1900)
CHUNK = 64
CENTRE = (1400, 1000, 950)
REAL = 384
"""Voxels a side of what is written around the centre; what lies outside of it is the fill value."""
PART = 128
RADIUS_VOXELS = 22
CLICKS = ((0, 0, 0, True), (15, 0, 0, True), (0, 26, 0, False), (0, 0, -15, True), (-15, 0, 0, True))
"""(z, y, x) from the centre, and the sign."""


def measure() -> dict[str, Any]:
    """Seconds of each click in both arrays, and the most memory of a process that clicks in each."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.zarr", Path(folder) / "small.npy"
        array = zarr.create_array(large, shape=SHAPE, chunks=(CHUNK,) * 3, dtype="int16", fill_value=0)
        array[tuple(slice(c - REAL // 2, c + REAL // 2) for c in CENTRE)] = _image()
        np.save(small, array[tuple(slice(c - PART // 2, c + PART // 2) for c in CENTRE)])
        # A process of its own: this one has held the image, and the most memory of a process never falls.
        found = [
            json.loads(subprocess.run([sys.executable, __file__, path], check=True, capture_output=True).stdout)
            for path in (large, small)
        ]
    gigabytes = round(float(np.prod(SHAPE, dtype=float)) * array.dtype.itemsize / 1e9, 1)
    return {"gigabytes": gigabytes, "large": found[0], "small": found[1]}


def told(row: dict[str, Any]) -> str:
    """A row in one line."""
    large, small = row["large"], row["small"]
    return (
        f"{row['gigabytes']} GB of zarr: {large['seconds']} s a click, {large['mib']} MiB; "
        f"{PART} voxels a side: {small['seconds']} s, {small['mib']} MiB"
    )


def _image() -> npt.NDArray[np.int16]:
    """A ball in noise and in a slow change of intensity, int16."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(0, 1, (REAL,) * 3).astype(np.float32), 1.0) * 300
    away = [(np.arange(REAL, dtype=np.float32) - REAL / 2) ** 2 for _ in range(3)]
    z, y, x = np.ix_(*away)
    image += 200 * (z + y + x <= RADIUS_VOXELS**2)
    return image.astype(np.int16)


def _clicks(array: Any, centre: tuple[int, ...], clicks: tuple[tuple[int, int, int, bool], ...]) -> list[float]:
    """CPU seconds of each click."""
    z, y, x = array.shape
    session = ms.interact(ms.Volume(_Channel(array), ms.Grid.from_spacing((z, y, x), (1.0, 1.0, 1.0))))
    seconds = []
    for dz, dy, dx, positive in clicks:
        a, b, c = (i + d for i, d in zip(centre, (dz, dy, dx), strict=True))
        started = time.process_time()
        session.add(ms.Point((a, b, c), label=1, positive=positive))
        seconds.append(round(time.process_time() - started, 3))
    return seconds


class _Channel:
    """A stored array (Z, Y, X) as an image of one channel."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, ...] = (1, *array.shape)
        self.dtype = array.dtype
        self.chunks = (1, *getattr(array, "chunks", array.shape))

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        _, *sides = key
        return np.asarray(self._array[tuple(sides)])[None]


def main(path: Path) -> None:
    """Click in an array, after a click elsewhere that loads and compiles what the first one needs."""
    noise = np.random.default_rng(0).normal(0, 1, (40, 40, 40)).astype(np.float32)
    _clicks(noise, (20, 20, 20), CLICKS[:1])
    array = np.load(path) if path.suffix == ".npy" else zarr.open_array(path, mode="r")
    z, y, x = (n // 2 for n in array.shape)
    seconds = _clicks(array, (z, y, x), CLICKS)
    sys.stdout.write(json.dumps({"seconds": seconds, "mib": _peak_mib()}))


def _peak_mib() -> int:
    """The most memory of this process; what getrusage tells includes that of the one that started it (Linux)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]))
