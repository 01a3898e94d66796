"""Segmentation, by torch and by OpenVINO, beside MONAI's sliding_window_inference: CPU time, added memory, voxels.

    python benchmarks/bench_segment.py IMAGE [--classes 24] [--window 64]

IMAGE is any volume. It is first converted to an OME-Zarr of 64^3 chunks, which both read. The network has random
weights. Each run has its own process and one thread. Memory is the peak above the resident memory after the model is
loaded; OpenVINO's run converts the network too. Linux only: the peak is read from /proc and reset there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUNS = ("monai", "ours", "lower half", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--classes", type=int, default=24)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(measure(args.run, args.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(args.image, Path(folder), args.classes, args.window)
        results = {
            run: json.loads(
                subprocess.run(
                    [sys.executable, __file__, str(args.image), "--run", run, "--folder", folder],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.splitlines()[-1]
            )
            for run in RUNS
        }
        report(results, Path(folder))


def prepare(image: Path, folder: Path, classes: int, window: int) -> None:
    """The image and its lower half as OME-Zarr, and a model of random weights."""
    import torch

    import napari_medseg as ms
    from napari_medseg.models.file import write_model
    from napari_medseg.models.spec import Channel, ModelSpec, Normalisation

    volume = ms.read(image)
    ms.write(folder / "whole.zarr", volume)
    half = volume.grid.shape[0] // 2
    lower = ms.Grid((half, *volume.grid.shape[1:]), volume.grid.affine)
    ms.write(folder / "half.zarr", ms.Volume(np.asarray(volume.data[:, :half]), lower))
    network = ms.networks()["unet3d"]
    torch.manual_seed(0)
    arguments = network.arguments(in_channels=1, out_channels=classes, channels=(16, 32, 64, 128))
    spec = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels={k: f"class {k}" for k in range(1, classes)},
        patch_zyx=(window, window, window),
        normalisation=(Normalisation(kind="clip_zscore", low=-1000, high=1000, mean=0, std=400),),
        deep_supervision=True,
    )
    write_model(folder / "model.safetensors", spec, network.build_from(arguments).state_dict())


def measure(run: str, folder: Path) -> dict[str, float]:
    """One run: its CPU seconds and the MiB that it added at the peak. It leaves its labels in the folder."""
    import torch

    import napari_medseg as ms

    torch.set_num_threads(1)
    model = ms.load_model(folder / "model.safetensors")
    network = model.load_network()
    volume = ms.read(folder / ("half.zarr" if run == "lower half" else "whole.zarr"))
    warm_up(network, model.spec.patch_zyx)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), time.process_time()
    logits = None
    if run == "monai":
        logits = with_monai(volume, model, network)
        np.save(folder / "monai.npy", logits.argmax(0).to(torch.uint8).numpy())
    else:
        backend = "openvino" if run == "openvino" else "torch"
        ms.segment(volume, model, out=folder / f"{run}.zarr", device="cpu", precision="fp32", backend=backend)
    result = {"seconds": time.process_time() - began, "mib": resident("VmHWM") - before}
    if logits is not None:
        margins = [plane.topk(2, dim=0).values.diff(dim=0).abs()[0].numpy() for plane in logits.unbind(1)]
        np.save(folder / "margin.npy", np.stack(margins))
    return result


def warm_up(network, window) -> None:  # type: ignore[no-untyped-def]
    """Run one window through the network, so that what it allocates once counts for neither side."""
    import torch

    with torch.no_grad():
        network(torch.zeros((1, 1, *window)))


def with_monai(volume, model, network):  # type: ignore[no-untyped-def]
    """The peer: the whole image is normalised in memory, and the logits (K, Z, Y, X) are those of the whole image."""
    import torch
    from monai.inferers import sliding_window_inference

    data = np.asarray(volume.data[...]).astype(np.float32)
    rule = model.spec.normalisation[0]
    values = (data.clip(rule.low, rule.high) - np.float32(rule.mean)) / np.float32(rule.std)
    with torch.no_grad():
        return sliding_window_inference(
            torch.from_numpy(values)[None], model.spec.patch_zyx, 1, network, overlap=0.5, mode="gaussian"
        )[0]


def resident(key: str) -> float:
    """MiB of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(key)


def report(results: dict[str, dict[str, float]], folder: Path) -> None:
    """The table, the ratios, and how many voxels differ."""
    import napari_medseg as ms

    ours = np.asarray(ms.read_segmentation(folder / "ours.zarr").data[...])
    differs = ours != np.load(folder / "monai.npy")
    margin = float(np.load(folder / "margin.npy")[differs].max(initial=0))
    print(f"{'run':12} {'CPU s':>8} {'added MiB':>10} {'time ratio':>11} {'memory ratio':>13}")
    peer = results["monai"]
    for run, result in results.items():
        print(
            f"{run:12} {result['seconds']:8.1f} {result['mib']:10.0f} "
            f"{result['seconds'] / peer['seconds']:11.2f} {result['mib'] / peer['mib']:13.2f}"
        )
    print(
        f"memory of the whole over that of the lower half: {results['ours']['mib'] / results['lower half']['mib']:.3f}"
    )
    by_openvino = np.asarray(ms.read_segmentation(folder / "openvino.zarr").data[...]) != np.load(folder / "monai.npy")
    print(f"voxels by OpenVINO that differ from MONAI: {int(by_openvino.sum())} of {ours.size}")
    print(
        f"voxels that differ from MONAI: {int(differs.sum())} of {ours.size}; the largest difference between the two "
        f"largest logits there: {margin:.1e}"
    )


if __name__ == "__main__":
    main()
