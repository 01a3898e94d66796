"""Doubts and suggestions on the hippocampus: what temperature, entropy, expected Dice and suggested slices are worth.

    MEDSEG_DATA=data OMP_NUM_THREADS=1 nice python benchmarks/bench_doubt.py [--train-minutes 3] [--only trust]
    ... --only damaged --model MODEL
    ... --only agreement [--cache FOLDER]

All budgets are processor minutes, one thread. A network is trained on the first cases in name order; the next ones fit
the temperature and the line of the expected Dice, and the last 40 of 200 are judged. The calibration error is that of
all their voxels together, and beside it the mean over the cases. What a regression could know at all is told by the
Dice of the same cases with another network (--other), and by the surface of the references. Active learning begins with
8 random slices of a pool of cases, and adds 8 a round, suggested or random; each round trains the same network anew for
the same time, and the mean Dice of some of the last 40 is noted. Rows are written to benchmarks/results/doubt.json one
by one; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

if "--help" not in sys.argv:
    time.monotonic = time.process_time  # before any import of it: budgets in minutes are processor time then

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.special import softmax
from scipy.stats import entropy, spearmanr

import napari_medseg as ms
from napari_medseg.cases import Case, cases_from_folders
from napari_medseg.config import LossConfig, SegmentConfig
from napari_medseg.doubt.streaming import Seen, opened, streamed
from napari_medseg.doubt.trusting import Observed, observing, signs_of, trust_of
from napari_medseg.events import run_to_end
from napari_medseg.inference.device import machine_for
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import load_predictor
from napari_medseg.metrics.agreement.calibration import calibrate
from napari_medseg.metrics.pairwise.overlap import dice_per_label
from napari_medseg.models.trust import Trust
from napari_medseg.training.cases import class_indices
from napari_medseg.transforms.annotated import only_annotated

RESULTS = Path(__file__).parent / "results" / "doubt.json"
JUDGED = 40
SLICES = 8
"""Annotated at the start, and added in a round."""
IGNORE = 255
MEMBERS = 10
"""Networks that agree, each trained on every tenth case."""
DAMAGES: dict[str, Callable[[Any, np.random.Generator], Any]] = {
    "noise": lambda data, rng: data + rng.normal(0, data.std(), data.shape).astype(np.float32),
    "blur": lambda data, rng: gaussian_filter(data, (0, 2, 2, 2)),
    "thick slices": lambda data, rng: np.repeat(data[:, ::5], 5, axis=1)[:, : data.shape[1]],
    "inverted": lambda data, rng: data.max() - data,
}
"""Images (1, z, y, x) as they should not be: noise as strong as the image, blur of two voxels, slices of five, and
another contrast."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-minutes", type=float, default=3.0)
    parser.add_argument("--model", type=Path, help="A model of the first cases, instead of training one.")
    parser.add_argument("--other", type=Path, help="Another model of the first cases, trained in another way.")
    parser.add_argument("--only", choices=("trust", "agreement", "active", "damaged"))
    parser.add_argument("--fit", type=int, default=32, help="Of cases 128 to 160, evenly, that fit the temperature.")
    parser.add_argument("--cache", type=Path, default=Path("doubt-cache"), help="Folder for what the network said.")
    parser.add_argument("--member-minutes", type=float, default=0.8, help="Of the training of each that agrees.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--pool", type=int, default=24, help="Cases of the first 160 whose slices may be annotated.")
    parser.add_argument("--test", type=int, default=10, help="Of the last 40, evenly, on which a round is judged.")
    parser.add_argument("--round-minutes", type=float, default=0.2, help="Of the training of a round.")
    parser.add_argument("--seeds", default="3,4,5", help="Of the rounds; 0 to 2 decided the rule.")
    args = parser.parse_args()
    data = Path(os.environ["MEDSEG_DATA"]) / "hippocampus"
    cases = list(cases_from_folders([data / "images"], data / "labels"))
    if args.only in (None, "trust"):
        trust(cases, args)
    if args.only in (None, "agreement"):
        agreement(cases, args)
    if args.only in (None, "active"):
        active(cases, args)
    if args.only == "damaged" or (args.only is None and args.model):
        damaged(cases[-JUDGED:], ms.load_model(args.model))


def rows() -> list[dict[str, Any]]:
    return list(json.loads(RESULTS.read_text())) if RESULTS.exists() else []


def found(what: str) -> list[dict[str, Any]]:
    return [row for row in rows() if row["what"] == what]


def add(row: dict[str, Any]) -> None:
    """Write a row, and print it."""
    RESULTS.write_text(json.dumps([*rows(), row], indent=1) + "\n")
    print(json.dumps(row), flush=True)


def trust(cases: list[Case], args: argparse.Namespace) -> None:
    """Temperature, entropy and expected Dice of a model, judged on the last 40 cases."""
    if found("trust"):
        return
    with tempfile.TemporaryDirectory() as folder:
        model = ms.load_model(args.model) if args.model else ms.train(
            cases[:128], out=Path(folder) / "m.safetensors", minutes=args.train_minutes, val=0.0, device="cpu"
        )  # fmt: skip
    places = np.linspace(128, 159, args.fit).round().astype(int).tolist()
    args.cache.mkdir(exist_ok=True)
    validated = [seen(cases[k], args.cache / f"{k}.npz", model) for k in places]
    fitted = trust_of(validated)
    assert fitted.dice is not None, "there are enough cases"
    known = np.array([case.dice for case in validated])
    add(
        {
            "what": "fitted",
            "temperature": fitted.temperature,
            "line": vars(fitted.dice),
            "cases": len(places),
            "dice": float(known.mean()),
            "spread_of_dice": float(known.std()),
        }
    )
    looked = [seen(cases[k], args.cache / f"{k}.npz", model) for k in range(len(cases) - JUDGED, len(cases))]
    for case, look in zip(cases[-JUDGED:], looked, strict=True):
        beside = {"surface": surface_share(case)}
        if args.other:
            beside["dice_of_other"] = dice_of(ms.load_model(args.other), *case.load())
        add({"what": "case", "case": case.name, **judged(look, fitted), **beside})
    rows_ = found("case")
    expected, dice = (np.array([row[name] for row in rows_]) for name in ("expected", "dice"))
    logits, classes = (np.concatenate([getattr(look, name) for look in looked]) for name in ("logits", "classes"))
    add(
        {
            "what": "trust",
            "trained_on": model.spec.training.cases,
            "train_cpu_minutes": model.spec.training.minutes,
            "temperature": fitted.temperature,
            "ece_before": ece(softmax(logits, axis=1), classes),
            "ece_after": ece(softmax(logits / fitted.temperature, axis=1), classes),
            "ece_of_cases_before": float(np.mean([row["ece_before"] for row in rows_])),
            "ece_of_cases_after": float(np.mean([row["ece_after"] for row in rows_])),
            "errors_in_worst_5_percent": sum(row["caught"] for row in rows_) / sum(row["errors"] for row in rows_),
            "dice": float(dice.mean()),
            "expected_dice": float(expected.mean()),
            "correlation": float(np.corrcoef(expected, dice)[0, 1]),
            "rank_correlation": float(spearmanr(expected, dice).statistic),
            "correlation_with_surface": correlated(rows_, "surface"),
            "correlation_with_other": correlated(rows_, "dice_of_other") if args.other else None,
            "mean_error_of_expected": float(np.abs(expected - dice).mean()),
            "mean_error_of_mean": float(np.abs(dice - found("fitted")[0]["dice"]).mean()),
            "inside_interval": sum(row["low"] <= row["dice"] <= row["high"] for row in rows_),
            "cases": len(rows_),
        }
    )


def agreement(cases: list[Case], args: argparse.Namespace) -> None:
    """Whether networks agree less on a case that they have not seen where the Dice of their mean is lower."""
    if found("agreement"):
        return
    learned = len(cases) - JUDGED
    models = members(cases[:learned], args)
    told = []
    for i, case in enumerate(cases):
        unseen = [k for k in range(MEMBERS) if i >= learned or i % MEMBERS != k]
        volume, reference = case.load()
        logits = [logits_of(volume, models[k], args.cache / f"member{k}-{i}.npy") for k in unseen]
        told.append(agreed(np.array(logits, np.float32), np.asarray(reference.data[...])))
    agreed_, dice = np.array(told).T
    number = [int(case.name.rpartition("_")[2]) for case in cases[:learned]]
    # An odd number and the next one are the two sides of a patient.
    pairs = np.array([(i, i + 1) for i, n in enumerate(number[:-1]) if n % 2 and number[i + 1] == n + 1])
    add(
        {
            "what": "agreement",
            "members": MEMBERS,
            "cases_of_each": learned // MEMBERS,
            "cpu_minutes_of_each": args.member_minutes,
            "of_first": correlations(agreed_[:learned], dice[:learned]),
            "of_last": correlations(agreed_[learned:], dice[learned:]),
            "dice_of_both_sides": float(np.corrcoef(dice[pairs].T)[0, 1]),
            "patients": len(pairs),
        }
    )


def members(cases: list[Case], args: argparse.Namespace) -> list[ms.Model]:
    """Networks by one plan; they are kept in the folder of the cache."""
    args.cache.mkdir(exist_ok=True)
    paths = [args.cache / f"{k}.safetensors" for k in range(MEMBERS)]
    options = {"minutes": args.member_minutes, "val": 0.0, "device": "cpu", "precision": "bf16"}
    plan = None if all(path.exists() for path in paths) else ms.plan(cases, **options)
    for k, path in enumerate(paths):
        if not path.exists():
            ms.train(cases[k::MEMBERS], out=path, plan=plan, seed=100 + k, **options)
    return [ms.load_model(path) for path in paths]


def logits_of(volume: ms.Volume, model: ms.Model, cached: Path) -> Any:
    """(K, Z, Y, X) of float16; kept in a file."""
    if not cached.exists():
        config = SegmentConfig(device="cpu", overlap=0.5, precision="bf16")
        plan = resolve(ImageFacts.of(volume), model.spec, config, machine_for("cpu"))
        logits = np.zeros((len(model.spec.label_ids), *volume.grid.shape), np.float16)
        for event in streamed(volume, plan, load_predictor(model, plan)):
            if isinstance(event, Seen):
                logits[(slice(None), *event.box)] = event.logits.clamp(-100, 100).numpy()
        np.save(cached, logits)
    return np.load(cached)


def agreed(logits: Any, reference: Any) -> tuple[float, float]:
    """The Dice of the mean with each network, in the mean over networks and labels, and with the reference.

    logits: (M, K, Z, Y, X) of M networks.
    """
    mean = logits.mean(axis=0).argmax(axis=0)
    with_mean = [list(dice_per_label(one, mean, (1, 2)).values()) for one in logits.argmax(axis=1)]
    return float(np.mean(with_mean)), float(np.mean(list(dice_per_label(mean, reference, (1, 2)).values())))


def correlations(signs: Any, dice: Any) -> dict[str, float]:
    """Of a sign with the Dice, by value and by rank."""
    return {
        "dice": float(dice.mean()),
        "spread_of_dice": float(dice.std()),
        "correlation": float(np.corrcoef(signs, dice)[0, 1]),
        "rank_correlation": float(spearmanr(signs, dice).statistic),
        "cases": len(dice),
    }


def damaged(cases: list[Case], model: ms.Model) -> None:
    """The expected Dice of the last 40 cases, of which every second image is damaged; a model with a validation."""
    trust_, rng, kept = model.spec.trust, np.random.default_rng(0), list[tuple[str, float, float]]()
    assert trust_.dice is not None, "the model's training validated it"
    for k, case in enumerate(cases):
        volume, reference = case.load()
        kind = list(DAMAGES)[k // 2 % len(DAMAGES)] if k % 2 else "as it is"
        data = np.asarray(volume.data[...]).astype(np.float32)
        volume = replace(volume, data=DAMAGES[kind](data, rng) if k % 2 else data)
        _, predictor = opened(volume, model, "cpu", 0.5)
        classes = class_indices(reference, model.spec, LossConfig())
        seen_ = run_to_end(observing(volume, classes, model.spec, predictor, classes.size))
        expected, _, _ = trust_.dice.expected(signs_of(seen_, trust_.temperature))
        kept.append((kind, seen_.dice, expected))
    of_kind = {
        kind: [(dice, expected) for name, dice, expected in kept if name == kind] for kind in ("as it is", *DAMAGES)
    }
    means = {kind: np.mean(pairs, axis=0).round(3).tolist() for kind, pairs in of_kind.items()}
    add(
        {
            "what": "damaged",
            "trained_on": model.spec.training.cases,
            "train_cpu_minutes": model.spec.training.minutes,
            "dice_and_expected": means,
            "correlation": float(np.corrcoef([one[1] for one in kept], [one[2] for one in kept])[0, 1]),
            "cases": len(kept),
        }
    )


def correlated(rows_: list[dict[str, Any]], name: str) -> float:
    """Of the Dice with something else that is known of the cases."""
    return float(np.corrcoef([row["dice"] for row in rows_], [row[name] for row in rows_])[0, 1])


def surface_share(case: Case) -> float:
    """The share of the reference's voxels that lie on its surface: large where it is rough, or thin."""
    inside = np.asarray(case.segmentation().data[...]) > 0
    return float(1 - binary_erosion(inside).sum() / inside.sum())


def seen(case: Case, cached: Path, model: ms.Model) -> Observed:
    """What the network says of every voxel of a case; kept in a file, so that a run that was stopped goes on."""
    volume, reference = case.load()
    if not cached.exists():
        _, predictor = opened(volume, model, "cpu", 0.5)
        classes = class_indices(reference, model.spec, LossConfig())
        made = run_to_end(observing(volume, classes, model.spec, predictor, classes.size))
        np.savez_compressed(
            cached, logits=made.logits.astype(np.float16), classes=made.classes.astype(np.int8), dice=made.dice
        )
    held = np.load(cached)
    logits = held["logits"].astype(np.float32)
    ml = int(np.count_nonzero(logits.argmax(axis=1))) * volume.grid.voxel_volume_mm3 / 1000
    return Observed(logits, held["classes"].astype(np.int16), float(held["dice"]), ml)


def judged(case: Observed, trust: Trust) -> dict[str, float]:
    """What a case says of the model with its temperature, and without."""
    assert trust.dice is not None, "the caller looked"
    wrong = case.logits.argmax(axis=1) != case.classes
    sure = softmax(case.logits / trust.temperature, axis=1)
    worst = np.argsort(-entropy(sure, axis=1), kind="stable")[: round(0.05 * len(wrong))]
    expected, low, high = trust.dice.expected(signs_of(case, trust.temperature))
    return {
        "ece_before": ece(softmax(case.logits, axis=1), case.classes),
        "ece_after": ece(sure, case.classes),
        "errors": int(wrong.sum()),
        "caught": int(wrong[worst].sum()),
        "dice": case.dice,
        "expected": expected,
        "low": low,
        "high": high,
    }


def ece(probabilities: Any, classes: Any) -> float:
    """By the project's measure, which knows nothing of temperatures. probabilities: (n, K)."""
    count, k = probabilities.shape
    grid = ms.Grid((1, 1, count), np.eye(4))
    volume = ms.Volume(probabilities.T.reshape(k, 1, 1, count), grid)
    reference = ms.Segmentation(classes.reshape(1, 1, count).astype(np.uint8), grid)
    return calibrate(probabilities=volume, reference=reference).rows[0].ece


def active(cases: list[Case], args: argparse.Namespace) -> None:
    """Dice by the number of annotated slices, suggested and random."""
    places = np.linspace(0, 159, args.pool).round().astype(int)
    pool = [(replace(cases[k].volume(), name=cases[k].name), cases[k].segmentation()) for k in places]
    tested = [cases[k].load() for k in np.linspace(160, 199, args.test).round().astype(int)]
    for seed in map(int, args.seeds.split(",")):
        for way in ("suggested", "random"):
            learn(pool, tested, way, seed, args)
    if not found("suggested"):
        add(saved(args))


def saved(args: argparse.Namespace) -> dict[str, Any]:
    """The slices after which suggestions reach what random ones reach at their end, over the slices of these."""
    seeds = list(map(int, args.seeds.split(",")))
    counts = [SLICES * (number + 1) for number in range(args.rounds)]
    dice = {
        way: np.array([[one(way, seed, count)["dice"] for count in counts] for seed in seeds])
        for way in ("random", "suggested")
    }

    def ratio(suggested: Any, goal: float) -> float | None:
        """None where the goal is not reached."""
        above = np.flatnonzero(suggested >= goal)
        if not above.size:
            return None
        k = int(above[0])
        if k == 0:
            return counts[0] / counts[-1]
        part = (goal - suggested[k - 1]) / (suggested[k] - suggested[k - 1])
        return float((counts[k - 1] + part * SLICES) / counts[-1])

    return {
        "what": "suggested",
        "slices": counts,
        "random": dice["random"].mean(axis=0).tolist(),
        "suggested": dice["suggested"].mean(axis=0).tolist(),
        "ratio": ratio(dice["suggested"].mean(axis=0), float(dice["random"].mean(axis=0)[-1])),
        "ratios": [ratio(s, float(r[-1])) for s, r in zip(dice["suggested"], dice["random"], strict=True)],
        "round_cpu_minutes": args.round_minutes,
        "seeds": seeds,
        "pool": args.pool,
        "tested": args.test,
    }


def one(way: str, seed: int, count: int) -> dict[str, Any]:
    """The row of a round."""
    return next(r for r in found("active") if (r["way"], r["seed"], r["slices"]) == (way, seed, count))


def learn(pool: list[Any], tested: list[Any], way: str, seed: int, args: argparse.Namespace) -> None:
    rng = np.random.default_rng(seed)
    everything = [(k, i) for k, (volume, _) in enumerate(pool) for i in range(volume.grid.shape[0])]
    order = [everything[j] for j in rng.permutation(len(everything))]
    chosen = order[:SLICES]
    done = {row["slices"]: row for row in rows() if (row.get("way"), row.get("seed")) == (way, seed)}
    for number in range(args.rounds):
        count = SLICES * (number + 1)
        if count in done:
            chosen = [tuple(place) for place in done[count]["places"]]
        elif way == "random" and number == 0:  # both ways begin with the same slices, and so with the same network
            add({**one("suggested", seed, count), "way": way, "next": []})
        else:
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                model = trained(pool, chosen, seed, args.round_minutes, Path(folder))
                dice = float(np.mean([dice_of(model, volume, labels) for volume, labels in tested]))
                last = way == "random" or number == args.rounds - 1
                following = [] if last else suggested(pool, model, chosen)
            add(
                {
                    "what": "active",
                    "way": way,
                    "seed": seed,
                    "slices": count,
                    "dice": dice,
                    "places": [list(place) for place in chosen],
                    "next": [list(place) for place in following],
                    "cpu_s": round(time.process_time() - began, 1),
                }
            )
        if way == "random":
            chosen = order[: count + SLICES]
        else:
            chosen = [*chosen, *(tuple(place) for place in one(way, seed, count)["next"])]


def trained(pool: list[Any], chosen: list[tuple[int, int]], seed: int, minutes: float, folder: Path) -> ms.Model:
    """A small 2D network of the annotated slices: the same processor time, whatever their number."""
    cases = []
    for k in sorted({k for k, _ in chosen}):
        volume, labels = pool[k]
        slices = {0: sorted(i for c, i in chosen if c == k)}
        cases.append((volume, only_annotated(labels, ignore_label=IGNORE, slices=slices)))
    return ms.train(
        cases,
        out=folder / "m.safetensors",
        network="unet",
        mode="2d",
        minutes=minutes,
        val=0.0,
        seed=seed,
        device="cpu",
        ignore_label=IGNORE,
        batch_size=1,
        shapes=0.0,
        learning_rate=5e-3,
        arguments={"channels": (8, 16, 32)},
    )


def suggested(pool: list[Any], model: ms.Model, chosen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    names = [volume.name for volume, _ in pool]
    annotated = {names[k]: {i for c, i in chosen if c == k} for k in {k for k, _ in chosen}}
    found = ms.suggest([volume for volume, _ in pool], model, annotated=annotated, count=SLICES, axis="z", device="cpu")
    return [(names.index(s.case), int(s.index or 0)) for s in found]


def dice_of(model: ms.Model, volume: ms.Volume, labels: ms.Segmentation) -> float:
    found = np.asarray(ms.segment(volume, model, device="cpu").data[...])
    scores = dice_per_label(found, np.asarray(labels.data[...]), (1, 2))
    return float(np.mean(list(scores.values())))


if __name__ == "__main__":
    main()
