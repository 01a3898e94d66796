"""A row of bench_engine.py: a CT end to end, beside nnunetv2's own predictor and export.

The CT is the chest CT, enlarged to 137 x 512 x 512. The model is nnU-Net's, with random weights: see nnunet_chest.py.
`convert` brings it in. Each side reads the image from a file, and writes the labels into one; ours is set up as the
command line is. CPU time is that of the process and of those that it waited for; memory is the peak of all of them
together (proportional set size, sampled once a second) above what they held once the model was loaded. A side that
FOLDER has figures of is not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import napari_medseg as ms
from napari_medseg.io.disk.memory import keep_freed

SHAPE = (137, 512, 512)
SIDES = ("balanced", "exact", "nnunet")
_INTERVAL_S = 1.0


def measure(folder: Path, peer: Path | None) -> dict[str, Any]:
    """The row; where nnunetv2 has to run and no Python has it, a reason."""
    folder.mkdir(parents=True, exist_ok=True)
    if peer is None and not (folder / "nnunet.json").is_file():
        return {"skipped": "--peer names no Python that has nnunetv2"}
    _prepare(folder, peer)
    for side in SIDES:
        if not (folder / f"{side}.json").is_file():
            (folder / f"{side}.json").write_text(json.dumps(_run(side, folder, peer)))
    found = {side: json.loads((folder / f"{side}.json").read_text()) for side in SIDES}
    labels = {side: np.asarray(ms.read_segmentation(_labels(side, folder)).data) for side in SIDES}
    theirs = found["nnunet"]
    ratios = {side: found[side]["cpu_s"] / theirs["cpu_s"] for side in SIDES}
    added = {side: found[side]["added_mib"] / theirs["added_mib"] for side in SIDES}
    return {
        "reached": ratios["balanced"],
        "beside": [
            {"what": "the same, exact", "at_most": 0.55, "reached": ratios["exact"]},
            {"what": "the same, added memory, balanced", "at_most": 0.15, "reached": added["balanced"]},
            {"what": "the same, added memory, exact", "at_most": 0.15, "reached": added["exact"]},
        ],
        "equal_voxels": {side: float((labels[side] == labels["nnunet"]).mean()) for side in SIDES[:2]},
        "sides": found,
    }


def _prepare(folder: Path, peer: Path | None) -> None:
    image, model = folder / "chest_0000.nii.gz", folder / "ours.safetensors"
    if not image.is_file():
        source = ms.read(Path(os.environ["MEDSEG_DATA"]) / "chest_ct" / "chest_ct.nii.gz")
        data = np.asarray(source.data)[0]
        factors = np.divide(SHAPE, data.shape)
        large = ndimage.zoom(data.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
        spacing = tuple(np.divide(source.grid.spacing, factors).tolist())
        ms.write(image, ms.Volume(np.rint(large).astype(np.int16)[None], ms.Grid.from_spacing(SHAPE, spacing)))
    if not model.is_file():
        assert peer is not None, "measure looked"
        subprocess.run(
            [peer, Path(__file__).with_name("nnunet_chest.py"), folder, "make"], env=_told(folder), check=True
        )
        subprocess.run(
            [sys.executable, "-m", "napari_medseg.cli", "convert", folder / "model", "-o", model], check=True
        )


def _told(folder: Path) -> dict[str, str]:
    """The environment of nnunetv2, whose Python must not see ours."""
    told = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return told | {name: str(folder) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}


def _labels(side: str, folder: Path) -> Path:
    return folder / "nnunet" / "chest.nii.gz" if side == "nnunet" else folder / f"{side}.nii.gz"


def _run(side: str, folder: Path, peer: Path | None) -> dict[str, float]:
    """One side in a process of its own, whose memory is watched."""
    if side == "nnunet":
        assert peer is not None, "measure looked"
        command = [peer, Path(__file__).with_name("nnunet_chest.py"), folder, "predict"]
    else:
        command = [sys.executable, "-W", "ignore", __file__, folder, side]
    environment = _told(folder) if side == "nnunet" else dict(os.environ)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                raise RuntimeError(f"{side} did not become ready")
        before = most = tree_mib(process.pid)
        while process.poll() is None:
            most = max(most, tree_mib(process.pid))
            time.sleep(_INTERVAL_S)
        told: dict[str, float] = json.loads(process.stdout.read().splitlines()[-1])
    return {**told, "before_mib": before, "peak_mib": most, "added_mib": most - before}


def tree_mib(pid: int) -> float:
    """The proportional set size of a process and of all below it."""
    total = 0
    for one in _tree(pid):
        with suppress(OSError, StopIteration):  # it has ended
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _ours(folder: Path, preset: Any) -> None:
    import torch

    torch.set_num_threads(1)
    keep_freed()
    model = ms.load_model(folder / "ours.safetensors")
    model.load_network()
    print("ready", flush=True)
    before, began = os.times(), time.monotonic()
    volume = ms.read(folder / "chest_0000.nii.gz")
    labels = ms.segment(volume, model, device="cpu", precision="fp32", preset=preset)
    ms.write(_labels(preset, folder), labels)
    after = os.times()
    print(json.dumps({"cpu_s": sum(after[:4]) - sum(before[:4]), "wall_s": time.monotonic() - began}))


if __name__ == "__main__":
    _ours(Path(sys.argv[1]), sys.argv[2])
