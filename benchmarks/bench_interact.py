"""Masks from clicks, scribbles, boxes and slices, beside training-free peers: Dice on real structures, CPU seconds.

    MEDSEG_DATA=data nice python benchmarks/bench_interact.py [clicks scribbles boxes slices propagate large]
        [--network memory=memory.safetensors]

Every voxel of the whole volume counts, and where to look is for the engine to find. The peers get the same prompts and
the region around the structure as well (64 voxels a side), which a user would have to choose for them. Structures on
which no choice was made are printed apart, as "unseen". `large` is a zarr array of 21 GB beside a part of it in memory.

Results are written after each structure to benchmarks/results/interact.json. A second run measures what is missing, or
was made by another engine, and prints the means of all that is known. --methods names who is measured, --every 3 leaves
two thirds of the structures out. --network adds a network with its weights (`interact_networks.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: seconds are those of one thread

from short_trainings import processor  # isort: skip  # first of all: it makes budgets processor time

import interact_fills
import interact_large
import numpy as np
from interact_cases import Case, Mask, cases, dice, next_prompt
from interact_networks import NETWORKS, take_one_thread
from interact_peers import OURS, PEERS, peer

import napari_medseg as ms

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "interact.json"
STEPS = {"clicks": (1, 3, 5, 8), "scribbles": (1, 3, 5, 8), "boxes": (1, 3, 5, 8), "slices": (1, 2, 3, 5)}
OTHERS = ("propagate", "large")
WANTED = {"clicks": (0.53, 0.73, 0.78, 0.82), "slices": (0.74, 0.82, 0.87, 0.91)}
"""The least mean Dice after the prompts of STEPS that the engine is to reach."""
WANTED_BY_PROPAGATE = {5: 0.76, 7: 0.86}
"""The same of `propagate`, by the number of slices."""
SOURCE = HERE.parent / "src" / "napari_medseg" / "interactive"
ENGINE = [SOURCE / f"{name}.py" for name in ("engine", "kernels", "marks", "masks", "objects", "scene", "zoom")]
"""What makes a mask of prompts."""
FILLING = [*ENGINE, SOURCE / "propagation.py", HERE / "interact_fills.py"]
LEARNING = [SOURCE / "learning" / f"{name}.py" for name in ("features", "pixel_classifier")]
CASES = HERE / "interact_cases.py"
Answer = Callable[[Any], Mask]
Row = dict[str, Any]


@dataclass
class Results:
    """What was measured, by key, on the disk after each value."""

    path: Path
    held: dict[str, Row] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    """The means of the last run that ended."""

    @classmethod
    def of(cls, path: Path) -> Results:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return cls(path, found.get("measured", {}), found.get("rows", []))

    def get(self, key: str, code: str, measure: Callable[[], Row]) -> Row:
        """What was measured with this code; measured now where it was not."""
        if self.held.get(key, {}).get("code") != code:
            self.held[key] = {"code": code, **measure()}
            self.save()
        return self.held[key]

    def save(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        content = {"processor": processor(), "rows": self.rows, "measured": self.held}
        written = self.path.with_suffix(".part")
        written.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        written.replace(self.path)


def code_of(*files: Path) -> str:
    """A fingerprint of modules: what other code measured is measured again."""
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def walk(kind: str, case: Case, answer: Answer) -> Row:
    """Dice and CPU seconds after each prompt of the simulated user."""
    scores: list[float] = []
    seconds: list[float] = []
    done: list[Any] = []
    found: Mask | None = None
    for _ in range(max(STEPS[kind])):
        prompt = next_prompt(kind, case, found, done)
        if prompt is None:
            scores += [scores[-1]] * (max(STEPS[kind]) - len(scores))
            break
        started = time.process_time()
        found = answer(prompt)
        seconds.append(round(time.process_time() - started, 4))
        done.append(prompt)
        scores.append(dice(found, case.mask))
    return {"dice": [round(score, 4) for score in scores], "seconds": seconds}


def of_session(session: ms.InteractiveSession, case: Case) -> Answer:
    def answer(prompt: Any) -> Mask:
        session.add(prompt)
        return whole_mask(session, case)

    return answer


def whole_mask(session: ms.InteractiveSession, case: Case) -> Mask:
    z, y, x = (slice(0, n) for n in case.mask.shape)
    return session.mask(1).within((z, y, x))


def engine(kind: str, case: Case) -> Row:
    """A walk of the engine, and the seconds of each undo after it."""
    session = ms.interact(case.volume)
    row = walk(kind, case, of_session(session, case))
    undo = []
    for _ in session.prompts:
        started = time.process_time()
        session.undo()
        session.mask(1)
        undo.append(round(time.process_time() - started, 5))
    return {**row, "undo_s": undo}


def summary(method: str, kind: str, which: str, rows: list[Row]) -> Row:
    """Print and return the means over structures."""
    scores = np.array([row["dice"] for row in rows])
    undo = max((s for row in rows for s in row.get("undo_s", [])), default=None)
    found = {
        "method": method,
        "prompts": kind,
        "set": which,
        "structures": len(rows),
        "dice": {str(k): round(float(scores[:, k - 1].mean()), 3) for k in STEPS[kind]},
        "lost": round(float((scores[:, :-1] - scores[:, 1:] > 0.05).mean()), 3),
        "first_s": round(float(np.median([row["seconds"][0] for row in rows])), 2),
        "later_s": round(float(np.median([s for row in rows for s in row["seconds"][1:]] or [0.0])), 2),
        "slowest_undo_s": undo,
    }
    print(
        f"{method:33} {kind:9} {which:6} n {len(rows):2} Dice {found['dice']} lost {found['lost']} "
        f"s {found['first_s']} / {found['later_s']}"
        + (f" undo <= {undo}" if undo is not None else "")
        + (f" wanted {WANTED[kind]}" if method == "engine" and kind in WANTED else ""),
        flush=True,
    )
    return found


def methods_of(kind: str, weights: dict[str, Path]) -> dict[str, tuple[str, Callable[[Case], Row]]]:
    """{method: the fingerprint of its code, what measures it on a structure}, for a kind of prompts.

    weights: {network: its file or folder}.
    """
    methods: dict[str, tuple[str, Callable[[Case], Row]]] = {
        "engine": (code_of(*ENGINE, CASES), lambda case: engine(kind, case))
    }
    for name, segment in PEERS.items():
        code = code_of(HERE / "interact_peers.py", CASES, *(LEARNING if name == OURS else []))
        methods[name] = code, lambda case, segment=segment: walk(kind, case, peer(case, segment))
    for name, network in NETWORKS.items():
        if network.kind == kind:
            path, code = weights.get(name, HERE), code_of(*ENGINE, CASES, *network.sources)
            methods[network.title] = code, lambda case, of=network.answer, path=path: walk(kind, case, of(case, path))
    return methods


def measure(results: Results, kind: str, chosen: list[Case], methods: list[str], weights: dict[str, Path]) -> None:
    """Each method on each structure, and each network that is given on those that it is for."""
    networks = {NETWORKS[name].title: NETWORKS[name] for name in weights}
    for method, (code, measure_case) in methods_of(kind, weights).items():
        for case in chosen:
            if method in methods or (method in networks and networks[method].fits(case)):
                results.get(
                    f"{method} | {kind} | {case.name}", code, lambda case=case, measured=measure_case: measured(case)
                )


def known(results: Results, kind: str, held: list[Case]) -> Iterator[Row]:
    """The means of each method over the structures that it was measured on, with the code as it is."""
    for method, (code, _) in methods_of(kind, {}).items():
        for which, unseen in (("seen", False), ("unseen", True)):
            rows = [results.held.get(f"{method} | {kind} | {case.name}", {}) for case in held if case.unseen is unseen]
            rows = [row for row in rows if row.get("code") == code]
            if rows:
                yield summary(method, kind, which, rows)


def fill(results: Results, data: Path) -> None:
    """Each volume from each number of slices."""
    for count in WANTED_BY_PROPAGATE:
        for path in interact_fills.volumes(data):
            results.get(
                f"propagate | {count} | {path.name}",
                code_of(*FILLING),
                lambda path=path, count=count: interact_fills.measured(path, count),
            )


def known_fills(results: Results, data: Path) -> Iterator[Row]:
    """The means over the volumes that were measured with the code as it is."""
    for count, wanted in WANTED_BY_PROPAGATE.items():
        found = [results.held.get(f"propagate | {count} | {path.name}", {}) for path in interact_fills.volumes(data)]
        rows = [row for row in found if row.get("code") == code_of(*FILLING)]
        if not rows:
            continue
        worst = round(min(row["auto"] - row["interpolation"] for row in rows), 4)
        means = {method: round(float(np.mean([row[method] for row in rows])), 3) for method in interact_fills.METHODS}
        print(
            f"propagate from {count} slices: {len(rows)} volumes, {means}, wanted {wanted}, against interpolation at "
            f"the worst {worst:+.3f}",
            flush=True,
        )
        volumes = {"volumes": len(rows), "dice": means, "worst_against_interpolation": worst}
        yield {"prompts": "propagate", "slices": count, **volumes}


def named(text: str) -> tuple[str, Path]:
    """A network and its weights; one that learns on the spot has none."""
    name, _, path = text.partition("=")
    if name not in NETWORKS:
        raise argparse.ArgumentTypeError(f"no network {name}; there are {', '.join(NETWORKS)}")
    return name, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [*STEPS, *OTHERS]
    parser.add_argument("kinds", nargs="*", choices=kinds, default=kinds, help="What to measure (default: all).")
    everybody = ["engine", *PEERS]
    parser.add_argument("--methods", nargs="*", choices=everybody, default=everybody, help="Whom (default: all).")
    parser.add_argument(
        "--network", nargs="*", type=named, default=[], metavar="NAME=PATH", help=f"Of {', '.join(NETWORKS)}."
    )
    parser.add_argument("--every", type=int, default=1, help="Measure one of so many structures (default: all).")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Where the results are (default: %(default)s).")
    args = parser.parse_args()
    data, results = Path(os.environ["MEDSEG_DATA"]), Results.of(args.out)
    take_one_thread()
    print(f"{processor()}, one thread", flush=True)
    held = [case for case in cases(data) if case.mask.any()]
    chosen = [case for unseen in (False, True) for case in [c for c in held if c.unseen is unseen][:: args.every]]
    ms.interact(chosen[0].volume).add(ms.Point((1, 1, 1), label=1))  # loads and compiles what the first click needs
    large = code_of(*ENGINE, HERE / "interact_large.py")
    for kind in args.kinds:
        if kind == "propagate":
            fill(results, data)
        elif kind == "large":
            results.get("large", large, interact_large.measure)
        else:
            measure(results, kind, chosen, args.methods, dict(args.network))
    rows = [row for kind in STEPS for row in known(results, kind, held)] + [*known_fills(results, data)]
    if results.held.get("large", {}).get("code") == large:
        rows.append({"prompts": "large", **results.held["large"]})
        print(interact_large.told(rows[-1]), flush=True)
    results.rows = rows
    results.save()


if __name__ == "__main__":
    main()
