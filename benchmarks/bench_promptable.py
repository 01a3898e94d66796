"""A network that corrects the engine's margin, learned from synthetic shapes alone: is it good enough to be shipped?

    nice python benchmarks/bench_promptable.py train net.safetensors --minutes 20
    MEDSEG_DATA=data nice python benchmarks/bench_promptable.py measure net.safetensors --every 4

A small 3D U-Net of the registry sees what the engine sees, at half its resolution: the image, the engine's logits, the
prompts and the mask so far. It gives a residual to the logits and begins with zero, so that it begins as the engine.
It learns while a simulated user clicks on shapes of random intensities, textures and neighbours; a second `train` goes
on where the first one ended. Both are measured by the same walks on real structures. It is to be shipped only where it
wins on structures that no choice was made on. CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: seconds are those of one thread

import numpy as np
import numpy.typing as npt
import torch
from bench_interact import RESULTS, STEPS, Row, code_of, of_session, processor, walk
from interact_cases import Case, cases, next_prompt
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, binary_cross_entropy_with_logits, interpolate

import napari_medseg as ms
from napari_medseg.interactive import engine
from napari_medseg.interactive.engine import Answer, Evidence
from napari_medseg.interactive.guided.clips import shapes
from napari_medseg.interactive.kernels import Map, Mask
from napari_medseg.interactive.marks import seeds
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.scene import Frame, Scene

ENGINE_ALONE = engine.answer
CHANNELS = 5
REACH_VOXELS = 8.0
"""How far a prompt is seen in its channel."""
MOST_LOGIT = 4.0
CLICKS = 4
"""Of the simulated user on each shape."""
POOL = 400
"""Samples that are kept; the oldest goes."""
STEPS_A_SHAPE = 8
BATCH = 2
SIDE = 32
"""Voxels of a sample along each side, at half of the engine's resolution."""


def new_network() -> nn.Module:
    """The U-Net; its last layer is zero."""
    torch.manual_seed(0)
    network = ms.networks()["unet3d"].build(
        in_channels=CHANNELS, out_channels=1, spatial_dims=3, channels=(12, 24, 48), deep_supervision=False
    )
    last = [module for module in network.modules() if isinstance(module, nn.Conv3d) and module.out_channels == 1][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return network


def inputs_of(scene: Scene, prompts: Sequence[Evidence], so_far: Mask | None, found: Answer) -> npt.NDArray[np.float32]:
    """(5, Z, Y, X) image, logits of the engine, prompts for and against, mask so far."""
    image = scene.image[0]
    known = image[scene.inside]
    scored = (image - known.mean()) / (known.std() + 1e-6)
    near = []
    for positive in (True, False):
        marked = np.zeros(scene.inside.shape, dtype=bool)
        for prompt in prompts:
            if prompt.positive == positive and prompt.decides:
                marked |= prompt.seeds
        away = ndimage.distance_transform_edt(~marked) if marked.any() else np.full(marked.shape, np.inf)
        near.append(np.exp(-away / REACH_VOXELS))
    before = np.zeros(scene.inside.shape) if so_far is None else so_far
    return np.stack([scored, logits_of(found.probability), *near, before]).astype(np.float32)


def logits_of(probability: Map) -> Map:
    inner = probability.astype(np.float64).clip(1e-3, 1 - 1e-3)
    logits: Map = np.log(inner / (1 - inner)).clip(-MOST_LOGIT, MOST_LOGIT).astype(np.float32)
    return logits


def at_half(inputs: npt.NDArray[np.float32]) -> Tensor:
    """(1, C, Z, Y, X) with every side even, and then halved."""
    padded = np.pad(inputs, [(0, 0), *((0, n % 2) for n in inputs.shape[1:])], mode="edge")
    return avg_pool3d(torch.from_numpy(padded)[None], 2)


@contextmanager
def answering(answer: Any) -> Iterator[None]:
    """The engine answers in another way meanwhile."""
    engine.answer = answer
    try:
        yield
    finally:
        engine.answer = ENGINE_ALONE


class Corrected:
    """The engine's answer with the residual of a network."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval()

    def __call__(self, scene: Scene, prompts: Sequence[Evidence], background: Map, **known: Any) -> Answer:
        found = ENGINE_ALONE(scene, prompts, background, **known)
        inputs = inputs_of(scene, prompts, known.get("so_far"), found)
        with torch.no_grad():
            residual = interpolate(self._network(at_half(inputs)), scale_factor=2, mode="trilinear")[0, 0].numpy()
        z, y, x = scene.inside.shape
        probability = 1 / (1 + np.exp(-(logits_of(found.probability) + residual[:z, :y, :x])))
        nothing = np.zeros(scene.inside.shape, dtype=bool)
        yes = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if e.positive and e.decides)])
        no = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if not e.positive and e.decides)]) & ~yes
        probability[yes], probability[no] = 1, 0
        return engine.tidy(probability.astype(np.float32), scene.inside, yes, no, yes)


class Recorded:
    """The engine's answer, of which the last one is kept as a sample."""

    def __init__(self) -> None:
        self.last: tuple[Frame, npt.NDArray[np.float32]] | None = None

    def __call__(self, scene: Scene, prompts: Sequence[Evidence], background: Map, **known: Any) -> Answer:
        found = ENGINE_ALONE(scene, prompts, background, **known)
        self.last = scene.frame, inputs_of(scene, prompts, known.get("so_far"), found)
        return found


def samples(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(C, 32, 32, 32) and the truth (1, 32, 32, 32) after each click on a shape of a synthetic image."""
    volume, labels = shapes(seed)
    data, rng = np.asarray(labels.data[...]), np.random.default_rng(seed)
    label = int(rng.choice(np.unique(data[data > 0])))
    case = Case(f"shape {seed}", volume, data == label, False)
    box = (slice(0, data.shape[0]), slice(0, data.shape[1]), slice(0, data.shape[2]))
    truth = SparseMask.of(box, case.mask)
    recorded, done, found = Recorded(), list[Any](), None
    with answering(recorded):
        answer = of_session(ms.interact(volume), case)
        for _ in range(CLICKS):
            prompt = next_prompt("clicks", case, found, done)
            if prompt is None:
                return
            found = answer(prompt)
            done.append(prompt)
            assert recorded.last is not None
            frame, inputs = recorded.last
            marked = seeds(truth, frame, volume.grid.spacing).astype(np.float32)
            yield cut(torch.cat([at_half(inputs)[0], at_half(marked[None])[0]]), rng)


def cut(both: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A cube of a sample, its sides turned over at random."""
    missing = [max(0, SIDE - n) for n in both.shape[1:]]
    padded = nn.functional.pad(both, [pad for n in reversed(missing) for pad in (0, n)])
    low = [int(rng.integers(0, n - SIDE + 1)) for n in padded.shape[1:]]
    z, y, x = (slice(k, k + SIDE) for k in low)
    turned = padded[:, z, y, x].flip([axis for axis in (1, 2, 3) if rng.random() < 0.5])
    return turned[:-1], turned[-1:]


def loss_of(network: nn.Module, inputs: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy, and one minus the Dice of each sample."""
    logits = inputs[:, 1:2] + network(inputs)
    likely = logits.sigmoid()
    both = (likely * truth).sum(dim=(1, 2, 3, 4))
    overlap = (2 * both + 1) / (likely.sum(dim=(1, 2, 3, 4)) + truth.sum(dim=(1, 2, 3, 4)) + 1)
    return binary_cross_entropy_with_logits(logits, truth) + (1 - overlap).mean()


def train(path: Path, minutes: float) -> None:
    """Learn for some minutes of CPU time; from the file on where there is one."""
    network, noted = new_network(), path.with_suffix(".json")
    told = json.loads(noted.read_text()) if noted.exists() else {"shapes": 0, "steps": 0, "cpu_s": 0}
    if path.exists():
        network.load_state_dict(load_file(path))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    rng, pool, began = np.random.default_rng(told["shapes"]), list[tuple[Tensor, Tensor]](), time.process_time()
    losses: list[float] = []
    while time.process_time() - began < 60 * minutes:
        pool = [*pool, *samples(told["shapes"])][-POOL:]
        told["shapes"] += 1
        network.train()
        for _ in range(STEPS_A_SHAPE):
            chosen = [pool[int(k)] for k in rng.integers(0, len(pool), BATCH)]
            loss = loss_of(network, *(torch.stack(parts) for parts in zip(*chosen, strict=True)))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            told["steps"] += 1
        if told["shapes"] % 20 == 0:
            print(f"{told['shapes']} shapes, loss {np.mean(losses[-200:]):.3f}", flush=True)
    told["cpu_s"] = round(told["cpu_s"] + time.process_time() - began)
    save_file(network.state_dict(), path)
    noted.write_text(json.dumps(told))


def measure(path: Path, every: int) -> None:
    """The same walks with and without the network, on one of so many structures."""
    network = new_network()
    network.load_state_dict(load_file(path))
    chosen = [case for case in cases(Path(os.environ["MEDSEG_DATA"])) if case.mask.any()][::every]
    rows: dict[str, list[Row]] = {"engine": [], "engine and network": []}
    for case in chosen:
        for name, answer in (("engine", ENGINE_ALONE), ("engine and network", Corrected(network))):
            with answering(answer):
                rows[name].append(walk("clicks", case, of_session(ms.interact(case.volume), case)))
        print(case.name, {name: rows[name][-1]["dice"] for name in rows}, flush=True)
    table = {}
    for name, some in rows.items():
        scores = np.array([row["dice"] for row in some]).mean(axis=0)
        dice = {str(k): round(float(scores[k - 1]), 3) for k in STEPS["clicks"]}
        seconds = round(float(np.median([s for row in some for s in row["seconds"][1:]])), 2)
        table[name] = {"dice": dice, "later_s": seconds}
        print(name, table[name], flush=True)
    found = {
        "processor": processor(),
        "network": json.loads(path.with_suffix(".json").read_text()),
        "parameters": sum(p.numel() for p in network.parameters()),
        "structures": [case.name for case in chosen],
        "code": code_of(Path(__file__)),
        "rows": table,
    }
    RESULTS.with_name("promptable.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("path", type=Path, help="The weights.")
    parser.add_argument("--minutes", type=float, default=20, help="Of CPU time to train (default: 20).")
    parser.add_argument("--every", type=int, default=1, help="Measure on one of so many structures (default: all).")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "train":
        train(args.path, args.minutes)
    else:
        measure(args.path, args.every)


if __name__ == "__main__":
    main()
