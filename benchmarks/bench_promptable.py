"""A network that corrects the engine's margin, learned from synthetic worlds alone: is it good enough to be shipped?

    nice python benchmarks/bench_promptable.py collect clicks.pt --worlds 500
    nice python benchmarks/bench_promptable.py train net.safetensors --samples clicks.pt --minutes 10
    MEDSEG_DATA=data nice python benchmarks/bench_interact.py clicks --network residual=net.safetensors

The network (`residual_network.py`) learns from the frames of a simulated user who clicks in synthetic worlds: they are
kept once, and seen turned, mirrored and in other intensities many times. A sample that it makes worse counts more. It
is to be shipped only where it wins on structures that no choice was made on. CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: seconds are those of one thread

import numpy as np
import torch
from bench_interact import of_session
from interact_cases import Case, next_prompt
from residual_network import CLICKS, ENGINE_ALONE, LOGITS, Residual, answering, halved, inputs_of
from safetensors.torch import save_file
from synthetic_worlds import world
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import napari_medseg as ms
from napari_medseg.interactive.engine import Answer, Evidence
from napari_medseg.interactive.kernels import Map
from napari_medseg.interactive.marks import seeds
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.scene import Frame, Scene

BATCH = 4
RATE = 2e-3
MOST_SIDE = 40
"""Voxels of a sample along each side, at most."""
WORSE = 0.5
"""How much more the loss counts by which the network is worse than the engine."""
RESIDUAL = 0.005
"""The weight of the residual's square."""
AVERAGED = 0.99
"""Of the weights so far in the moving average that is kept."""


class Recorded:
    """The engine's answers, each kept with what the network would see of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Frame, Tensor]] = []

    def __call__(self, scene: Scene, prompts: Sequence[Evidence], background: Map, **known: Any) -> Answer:
        found = ENGINE_ALONE(scene, prompts, background, **known)
        self.calls.append((scene.frame, inputs_of(scene, prompts, background, known.get("so_far"), found)))
        return found


def samples(seed: int, clicks: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and truth (Z, Y, X) of a world, float16: after each click, and of a scale that the first one tried."""
    made, rng = world(seed), np.random.default_rng(seed)
    case = Case(f"{made.kind} {seed}", made.volume, made.mask, False)
    z, y, x = (slice(0, n) for n in made.mask.shape)
    truth = SparseMask.of((z, y, x), made.mask)
    done, found = list[Any](), None
    answer = of_session(ms.interact(made.volume), case)
    for click in range(clicks):
        prompt = next_prompt("clicks", case, found, done)
        if prompt is None:
            return
        recorded = Recorded()
        with answering(recorded):
            found = answer(prompt)
        done.append(prompt)
        calls = recorded.calls
        tried = [calls[int(rng.integers(len(calls) - 1))]] if click == 0 and len(calls) > 2 else []
        for frame, inputs in (calls[-1], *tried):
            marked = halved(seeds(truth, frame, made.volume.grid.spacing))
            yield inputs.half(), torch.from_numpy(marked).half()


def collect(path: Path, worlds: int, first: int, clicks: int) -> None:
    """Keep the samples of some worlds, in each of which the simulated user clicks some times."""
    held: list[tuple[Tensor, Tensor]] = []
    for seed in range(first, first + worlds):
        held += samples(seed, clicks)
        if (seed - first) % 50 == 49:
            print(f"{seed - first + 1} worlds, {len(held)} samples, {time.process_time():.0f} s", flush=True)
    torch.save(held, path)


def varied(inputs: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of one sample with its axes in another order and direction, and other intensities."""
    both = torch.cat([inputs.float(), truth.float()[None]]).permute(0, *(1 + rng.permutation(3)))
    both = both.flip([axis for axis in (1, 2, 3) if rng.random() < 0.5])
    both[0] = both[0] * float(rng.uniform(0.8, 1.2) * rng.choice([-1, 1])) + float(0.2 * rng.normal())
    low = [int(rng.integers(0, max(1, n - MOST_SIDE + 1))) for n in both.shape[1:]]
    z, y, x = (slice(k, k + MOST_SIDE) for k in low)
    return both[None, :-1, z, y, x], both[None, -1:, z, y, x]


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy, and one minus the Dice."""
    likely = logits.sigmoid()
    overlap = (2 * (likely * truth).sum() + 1) / (likely.sum() + truth.sum() + 1)
    return binary_cross_entropy_with_logits(logits, truth) + 1 - overlap


def train(path: Path, kept: Sequence[Path], minutes: float) -> None:
    """Learn from the samples of some files for some minutes of CPU time."""
    held = [sample for file in kept for sample in torch.load(file)]
    network, rng = Residual(), np.random.default_rng(1)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    began, steps, order = time.process_time(), 0, list[int]()
    losses: list[float] = []
    while (done := (time.process_time() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (steps + 1) / 100) * (0.52 + 0.5 * np.cos(np.pi * done))
        optimiser.zero_grad()
        for _ in range(BATCH):
            order = order or list(rng.permutation(len(held)))
            seen, marked = held[order.pop()]
            inputs, truth = varied(seen, marked, rng)
            with torch.autocast("cpu", torch.bfloat16):
                residual = network(inputs)
            logits, residual = inputs[:, LOGITS : LOGITS + 1], residual.float()
            loss = loss_of(logits + residual, truth)
            timid = torch.relu(loss - loss_of(logits, truth))
            ((loss + WORSE * timid + RESIDUAL * residual.square().mean()) / BATCH).backward()
            losses.append(float(loss.detach()))
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        steps += 1
        weight = 1 - min(AVERAGED, 1 - 1 / (steps + 1))
        for name, value in network.state_dict().items():
            average[name].lerp_(value, weight)
        if steps % 100 == 0:
            print(f"{steps} steps, loss {np.mean(losses[-400:]):.3f}", flush=True)
    save_file(average, path)
    told = {"samples": len(held), "steps": steps, "cpu_s": round(time.process_time() - began)}
    path.with_suffix(".json").write_text(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "train"])
    parser.add_argument("path", type=Path, help="The samples to collect; else the weights.")
    parser.add_argument("--worlds", type=int, default=500, help="To collect samples from (default: 500).")
    parser.add_argument("--first", type=int, default=0, help="The seed of the first one (default: 0).")
    parser.add_argument("--clicks", type=int, default=CLICKS, help=f"Of a walk, that count (default: {CLICKS}).")
    parser.add_argument("--samples", type=Path, nargs="*", default=[], help="What to train on.")
    parser.add_argument("--minutes", type=float, default=10, help="Of CPU time to train (default: 10).")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "collect":
        collect(args.path, args.worlds, args.first, args.clicks)
    else:
        train(args.path, args.samples, args.minutes)


if __name__ == "__main__":
    main()
