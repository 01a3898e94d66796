"""Reading whole volumes side by side with nibabel and with zarr-python's default pipeline: CPU time.

    python benchmarks/bench_read.py [--shape 300 512 512] [--repeats 5]

The volume is int16: smooth tissue with noise, so that the codecs have work. Each reading has its own process. The CPU
time of all its threads counts, from opening the file to the array in memory. A small file of the same kind is read
before, so that the libraries are loaded. The smallest of the repeats is printed: it was disturbed least by the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_medseg as ms

WANTED = {"image.nii.gz": 1.0, "ours.zarr": 0.5, "zstd.zarr": 0.0, "blosc-zstd.zarr": 0.0, "shards.zarr": 0.0}
"""{file: the largest ratio of our time to that of the peer}; 0 for no limit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 512, 512))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", nargs=3, metavar=("WHO", "FILE", "SMALL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        who, file, small = args.run
        reader = READERS[who, file.endswith(".gz")]
        reader(Path(small))
        print(cpu_seconds(reader, Path(file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        write_all(small, phantom((20, 20, 20)))
        write_all(large, phantom(tuple(args.shape)))
        print(f"{'file':16} {'peer s':>8} {'ours s':>8} {'ratio':>6}  wanted")
        for name, wanted in WANTED.items():
            peer, ours = (least(who, large / name, small / name, args.repeats) for who in ("peer", "ours"))
            print(f"{name:16} {peer:8.3f} {ours:8.3f} {ours / peer:6.2f}  {f'<= {wanted}' if wanted else '-'}")


def phantom(shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Air, fat and soft tissue in smooth shapes, with shading and noise of 12 HU."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(0, 9, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    smooth = np.sin(z + 0.7 * x) + np.sin(y - 0.3 * z) * np.cos(x)
    tissue = np.where(smooth > 0.3, 60, np.where(smooth < -0.6, -950, -80))
    return (tissue + 20 * smooth + rng.normal(0, 12, shape)).astype(np.int16)


def write_all(folder: Path, voxels: np.ndarray[Any, np.dtype[np.int16]]) -> None:
    """NIfTI and OME-Zarr as we write them, and arrays as other programs write them."""
    import zarr
    from zarr.codecs import BloscCodec, ZstdCodec

    folder.mkdir()
    volume = ms.Volume(voxels[None], ms.Grid(voxels.shape, np.diag([1.0, 0.7, 0.7, 1.0])))
    ms.write(folder / "image.nii.gz", volume)
    ms.write(folder / "ours.zarr", volume)
    chunks = (64, 64, 64)
    zarr.create_array(folder / "zstd.zarr", data=voxels, chunks=chunks, compressors=ZstdCodec(level=3))
    zarr.create_array(folder / "blosc-zstd.zarr", data=voxels, chunks=chunks, compressors=BloscCodec(cname="zstd"))
    zarr.create_array(
        folder / "shards.zarr", data=voxels, chunks=chunks, shards=(128, 128, 128), compressors=ZstdCodec(level=3)
    )


def read_ours(path: Path) -> Any:
    return np.asarray(ms.read(path).data[...])


def read_nibabel(path: Path) -> Any:
    import nibabel

    return np.asanyarray(nibabel.load(path).dataobj)


def read_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path / "0" if (path / "0").exists() else path, mode="r")[...]


READERS = {
    ("ours", True): read_ours,
    ("ours", False): read_ours,
    ("peer", True): read_nibabel,
    ("peer", False): read_zarr,
}


def cpu_seconds(reader: Any, path: Path) -> float:
    began = time.process_time()
    array = reader(path)
    assert array.size > 0
    return time.process_time() - began


def least(who: str, file: Path, small: Path, repeats: int) -> float:
    command = [sys.executable, __file__, "--run", who, str(file), str(small)]
    runs = (subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repeats))
    return min(float(run.stdout) for run in runs)


if __name__ == "__main__":
    main()
