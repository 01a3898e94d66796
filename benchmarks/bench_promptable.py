"""A network that corrects the engine's margin, learned from synthetic worlds alone: is it good enough to be shipped?

    nice python benchmarks/bench_promptable.py collect clicks.pt --worlds 500
    nice python benchmarks/bench_promptable.py train net.safetensors --samples clicks.pt --minutes 10
    MEDSEG_DATA=data nice python benchmarks/bench_promptable.py measure net.safetensors

A small 3D U-Net of the registry sees what the engine sees, at half its resolution: the image, the engine's logits and
distances, the prompts, which one is new, what each voxel looks like beside them, and the mask so far. It gives a
residual to the logits and begins with zero, so that it begins as the engine; a sample that it makes worse counts more.
What it learns from are the frames of a simulated user who clicks in synthetic worlds: they are kept once, and seen
turned, mirrored and in other intensities many times. Both are measured by the same walks on real structures. It is to
be shipped only where it wins on structures that no choice was made on. CPU seconds, one thread.
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
from bench_interact import CASES, ENGINE, RESULTS, STEPS, Results, Row, code_of, of_session, walk
from bench_interact import engine as engine_alone
from interact_cases import Case, cases, next_prompt
from safetensors.torch import load_file, save_file
from scipy import ndimage
from synthetic_worlds import world
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, binary_cross_entropy_with_logits, interpolate, leaky_relu, pad

import napari_medseg as ms
from napari_medseg.interactive import engine
from napari_medseg.interactive.engine import Answer, Evidence
from napari_medseg.interactive.kernels import Map, Mask
from napari_medseg.interactive.marks import seeds
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.scene import Frame, Scene

ENGINE_ALONE = engine.answer
WORLDS = Path(__file__).with_name("synthetic_worlds.py")
CHANNELS = 11
LOGITS = 1
"""The channel of the engine's logits."""
REACH, REACH_OF_NEW = 4.0, 6.0
"""How far a prompt is seen in its channels, in voxels at half of the engine's resolution."""
MOST_LOGIT = 4.0
FARTHEST = 1000.0
"""The largest distance that the network is told of, in noise."""
UNLIKE_ALL = 50.0
"""How unlike a prompt is what has none to be like, in noise."""
FACTOR, CLICKS = 0.5, 5
"""Of the residual, and how many clicks the network learns from and corrects: later the engine is better alone.

Chosen on synthetic worlds that were not learned from and on 12 real structures (`measure --choose`)."""
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


class Residual(nn.Module):
    """(N, 1, Z, Y, X) the residual of inputs (N, 11, Z, Y, X) of any size; the U-Net works at half their resolution.

    Each of its voxels gives eight of the residual. The last layer begins with zero.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 96)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv3d(CHANNELS, channels[0], 4, 2, 1)
        self.unet = ms.networks()["unet3d"].build(
            in_channels=channels[0], out_channels=8, spatial_dims=3, channels=channels, deep_supervision=False
        )
        head = [module for module in self.unet.modules() if isinstance(module, nn.Conv3d)][-1]
        for weight in head.parameters():
            nn.init.zeros_(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        z, y, x = inputs.shape[2:]
        padded = pad(inputs, [p for n in (x, y, z) for p in (0, -n % 8)], mode="replicate")
        eight = self.unet(leaky_relu(self.down(padded)))
        parts = eight.unflatten(1, (2, 2, 2)).permute(0, 4, 1, 5, 2, 6, 3)
        whole = parts.flatten(1, 2).flatten(2, 3).flatten(3, 4)
        residual: Tensor = whole[:, None, :z, :y, :x]
        return residual


def halved(values: npt.NDArray[Any]) -> Map:
    """(Z, Y, X) at half the resolution; an odd side is carried on by a voxel."""
    whole = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    half: Map = avg_pool3d(pad(whole, [p for n in reversed(values.shape) for p in (0, n % 2)], mode="replicate"), 2)[
        0, 0
    ].numpy()
    return half


def inputs_of(scene: Scene, prompts: Sequence[Evidence], background: Map, so_far: Mask | None, found: Answer) -> Tensor:
    """(11, Z, Y, X), at half the resolution of the scene.

    The image; the engine's logits; how far label and background are; the prompts for and against; the new one; how
    unlike the prompts for and against a voxel is; the mask so far; the volume.
    """
    nowhere = np.zeros(scene.inside.shape, dtype=bool)
    image, known = halved(scene.image[0]), scene.image[0][scene.inside]
    near = np.minimum.reduce(
        [np.full(nowhere.shape, FARTHEST, np.float32), *(e.distance for e in prompts if e.positive)]
    )
    far = np.minimum.reduce([background.clip(0, FARTHEST), *(e.distance for e in prompts if not e.positive)])
    seen, unlike = [], []
    for positive in (True, False):
        own = [e.seeds for e in prompts if e.positive == positive and e.decides and e.seeds.any()]
        seen.append(_nearness(np.logical_or.reduce([nowhere, *own]), REACH))
        apart = [np.abs(image - np.median(scene.image[0][marked])) for marked in own]
        unlike.append(np.log1p(np.minimum.reduce([np.full(image.shape, UNLIKE_ALL), *apart])) / 2)
    sign = 1 if prompts[-1].positive else -1
    channels = [
        (image - known.mean()) / (known.std() + 1e-6),
        halved(logits_of(found.probability)),
        np.log1p(halved(near)) / 3,
        np.log1p(halved(far)) / 3,
        *seen,
        sign * _nearness(prompts[-1].seeds, REACH_OF_NEW),
        *unlike,
        halved(nowhere if so_far is None else so_far),
        halved(scene.inside),
    ]
    return torch.from_numpy(np.stack(channels).astype(np.float32))


def _nearness(marked: Mask, reach: float) -> npt.NDArray[np.float64]:
    """1 at the marked voxels and less around them, at half the resolution; 0 where nothing is marked."""
    half = halved(marked) > 0
    away = ndimage.distance_transform_edt(~half) if half.any() else np.full(half.shape, np.inf)
    near: npt.NDArray[np.float64] = np.exp(-away / reach)
    return near


def logits_of(probability: Map) -> Map:
    inner = probability.astype(np.float64).clip(1e-3, 1 - 1e-3)
    logits: Map = np.log(inner / (1 - inner)).clip(-MOST_LOGIT, MOST_LOGIT).astype(np.float32)
    return logits


@contextmanager
def answering(answer: Any) -> Iterator[None]:
    """The engine answers in another way meanwhile."""
    engine.answer = answer
    try:
        yield
    finally:
        engine.answer = ENGINE_ALONE


class Corrected:
    """The engine's answer with the residual of a network, as long as there are few prompts."""

    def __init__(self, network: nn.Module, clicks: int) -> None:
        """clicks: how many prompts it corrects."""
        self._network, self._clicks = network.eval(), clicks

    def __call__(self, scene: Scene, prompts: Sequence[Evidence], background: Map, **known: Any) -> Answer:
        found = ENGINE_ALONE(scene, prompts, background, **known)
        if len(prompts) > self._clicks:
            return found
        inputs = inputs_of(scene, prompts, background, known.get("so_far"), found)[None]
        with torch.no_grad():
            residual = interpolate(self._network(inputs), scale_factor=2, mode="trilinear")[0, 0].numpy()
        z, y, x = scene.inside.shape
        logits = logits_of(found.probability) + FACTOR * residual[:z, :y, :x]
        probability = 1 / (1 + np.exp(-logits))
        nothing = np.zeros(scene.inside.shape, dtype=bool)
        yes = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if e.positive and e.decides)])
        no = np.logical_or.reduce([nothing, *(e.seeds for e in prompts if not e.positive and e.decides)]) & ~yes
        probability[yes], probability[no] = 1, 0
        return engine.tidy(probability.astype(np.float32), scene.inside, yes, no, yes)


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


def measure(path: Path, choose: bool, clicks: int) -> None:
    """The same walks with and without the network; those that are known are not walked again.

    choose: only the structures that may choose something: every second one that choices were made on before.
    """
    network = Residual()
    network.load_state_dict(load_file(path))
    held = [case for case in cases(Path(os.environ["MEDSEG_DATA"])) if case.mask.any()]
    chosen = [case for case in held if not case.unseen][::2] if choose else held
    code, results = code_of(*ENGINE, CASES), Results.of(RESULTS.with_name("promptable.json"))
    engine_known, by_network = Results.of(RESULTS).held, "engine and network"
    weights = f"{code_of(*ENGINE, CASES, path)} {FACTOR} {clicks}"
    rows: dict[str, list[Row]] = {"engine": [], by_network: []}
    for case in chosen:
        known = engine_known.get(f"engine | clicks | {case.name}", {})
        rows["engine"].append(known if known.get("code") == code else engine_alone("clicks", case))

        def corrected(case: Case = case) -> Row:
            with answering(Corrected(network, clicks)):
                return walk("clicks", case, of_session(ms.interact(case.volume), case))

        rows[by_network].append(results.get(f"{by_network} | {case.name}", weights, corrected))
        print(f"{case.name:24}", *(numbers(some[-1:]) for some in rows.values()), flush=True)
    parameters = sum(p.numel() for p in network.parameters())
    results.rows = [{**json.loads(path.with_suffix(".json").read_text()), "parameters": parameters}]
    for which, wanted in (("all", (False, True)), ("unseen", (True,))):
        for name, some in rows.items():
            of_set = [row for case, row in zip(chosen, some, strict=True) if case.unseen in wanted]
            if of_set:
                later_s = round(float(np.median([s for row in of_set for s in row["seconds"][1:]])), 2)
                means = {"dice": numbers(of_set), "later_s": later_s}
                results.rows.append({"method": name, "set": which, "structures": len(of_set), **means})
                print(results.rows[-1], flush=True)
    results.save()


def numbers(rows: Sequence[Row]) -> dict[str, float]:
    """{clicks: the mean Dice after them}."""
    scores = np.array([row["dice"] for row in rows]).mean(axis=0)
    return {str(k): round(float(scores[k - 1]), 3) for k in STEPS["clicks"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["collect", "train", "measure"])
    parser.add_argument("path", type=Path, help="The samples to collect; else the weights.")
    parser.add_argument("--worlds", type=int, default=500, help="To collect samples from (default: 500).")
    parser.add_argument("--first", type=int, default=0, help="The seed of the first one (default: 0).")
    parser.add_argument("--clicks", type=int, default=CLICKS, help=f"Of a walk, that count (default: {CLICKS}).")
    parser.add_argument("--samples", type=Path, nargs="*", default=[], help="What to train on.")
    parser.add_argument("--minutes", type=float, default=10, help="Of CPU time to train (default: 10).")
    parser.add_argument("--choose", action="store_true", help="Measure only where something may be chosen.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "collect":
        collect(args.path, args.worlds, args.first, args.clicks)
    elif args.what == "train":
        train(args.path, args.samples, args.minutes)
    else:
        measure(args.path, args.choose, args.clicks)


if __name__ == "__main__":
    main()
