"""The tables of the docs that are made from results of the benchmarks; `generate.py` writes them into the pages."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from napari_medseg.inference.windows import WindowGrid
from napari_medseg.models.presets import SETTINGS

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"
COMMON = ("unet3d", "nnunet", "monai_unet", "resunet3d", "segresnet", "attention_unet", "swinunetr", "unext")
"""The networks in the table of costs."""
TIMED = ("unet3d", "monai_unet", "segresnet", "swinunetr")
"""The networks in the table of times."""
VOLUMES = {
    "small: a cropped organ at 1 mm": (110, 100, 100),
    "abdominal CT at 3 mm": (150, 120, 140),
    "brain MR at 1 mm": (180, 220, 180),
    "chest CT at 1.5 mm": (230, 230, 260),
    "abdomen and chest at 1.5 mm": (400, 260, 300),
}
"""{volume: voxels (z, y, x) at the spacing of the model}, in the table of times."""
SIDE = 96
"""Voxels along an edge of the patch that the costs are measured on."""


def costs_table() -> str:
    """What some networks need for a patch, as the benchmark measured it."""
    results = measured("networks")
    rows = [
        (
            f"`{name}`",
            f"{results[name]['parameters'] / 1e6:.1f} million",
            f"{results[name]['inference_mib']:.0f} MiB",
            f"{results[name]['cpu_seconds']:.1f} s",
            f"{results[name]['training_gib']:.1f} GiB",
        )
        for name in COMMON
    ]
    head = ("network", "parameters", "memory to segment", "time of a window, one CPU thread", "memory to train")
    return table([head, *rows])


def windows_table() -> str:
    """How long volumes take on one CPU thread: the windows of a run, and the measured time of one."""
    results = measured("networks")
    rows = []
    for what, shape in VOLUMES.items():
        count = len(WindowGrid(shape, (SIDE, SIDE, SIDE), SETTINGS["exact"].overlap))
        times = [f"{count * results[name]['cpu_seconds'] / 60:.1f} min" for name in TIMED]
        rows.append((what, " x ".join(map(str, shape)), str(count), *times))
    return table([("volume", "voxels", "windows", *(f"`{name}`" for name in TIMED)), *rows])


def semi_table() -> str:
    """The mean Dice of each scheme and number of labelled cases over the seeds that were run."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run, result in measured("semi").items():
        scheme, labelled, _ = run.split(":")
        found.setdefault((int(labelled), scheme), []).append({**result, "run": run})
    rows = []
    for (labelled, scheme), results in sorted(found.items(), key=lambda item: -item[0][0]):
        beside = [gain for r in results if (gain := _gain(r, found)) is not None]
        rows.append(
            (
                str(labelled),
                f"`{scheme}`",
                f"{fmean(r['dice'] for r in results):.3f}",
                ", ".join(f"{r['dice']:.3f}" for r in results),
                f"{fmean(beside):+.3f}" if beside and scheme != "supervised" else "",
                f"{fmean(r['steps'] for r in results):.0f}",
            )
        )
    head = ("labelled", "scheme", "mean Dice", "of each seed", "beside `supervised`, same seeds", "steps")
    return table([head, *rows])


def _gain(result: dict[str, Any], found: dict[tuple[int, str], list[dict[str, Any]]]) -> float | None:
    """By how much a run is better than the supervised one of its cases and seed; None where that was not run."""
    _, labelled, seed = result["run"].split(":")
    for plain in found.get((int(labelled), "supervised"), []):
        if plain["run"] == f"supervised:{labelled}:{seed}":
            return float(result["dice"] - plain["dice"])
    return None


def layouts_table() -> str:
    """The time of networks with channels last over that in torch's own layout: how many gain, and the extremes."""
    found = measured("layout")
    rows = []
    for precision in ("fp32", "bf16"):
        ratios = {name: of_each[precision] for name, of_each in found["ratios"].items()}
        ordered = sorted(ratios, key=lambda name: ratios[name])
        shares = [sum(low <= r < high for r in ratios.values()) for low, high in pairwise((0, 0.75, 0.9, 1.1, 9))]
        most, least = (", ".join(f"{name} {ratios[name]:.2f}" for name in some) for some in (ordered[:3], ordered[-3:]))
        rows.append((precision, *map(str, shares), most, least))
    head = ("", "below 0.75", "to 0.9", "to 1.1", "above", "fastest", "slowest")
    return table([head, *rows]) + f"\nOne thread of {found['processor']}.\n"


def threads_table() -> str:
    """Seconds of a window with threads that wait as torch's do, and briefly."""
    found = measured("threads")
    ways = ("alone", "alone, ours", "two", "two, ours", "two that share the cores")
    rows = [(f"{r['network']}, {r['precision']}", *(f"{r[way]:.2f}" for way in ways)) for r in found["rows"]]
    head = ("", "torch's threads", "ours", "two processes, torch's", "two, ours", "two, half of the threads")
    return table([head, *rows]) + f"\n{found['cores']} cores of {found['processor']}.\n"


def hippocampus_table() -> str:
    """Dice and surface distance of trainings of some minutes, and their spread over seeds or over fifths of cases."""
    runs = measured("hippocampus")
    last: dict[float, list[dict[str, Any]]] = {}
    folds: dict[float, list[dict[str, Any]]] = {}
    for run, result in runs.items():
        (folds if "fold" in run else last).setdefault(float(run.split()[0]), []).append(result)
    rows = []
    for minutes, some in sorted(last.items()):
        seeds = "seed" if len(some) == 1 else "seeds"
        rows.append(_hippocampus_row(minutes, f"the last, {len(some)} {seeds}", some))
    for minutes, some in sorted(folds.items()):
        whole = [runs[f"{minutes:g} min, seed 0"], *some]
        rows.append(_hippocampus_row(minutes, f"each, {len(whole)} of 5", whole))
    head = ("minutes of 2 cores", "fifth that judges", "Dice, anterior", "Dice, posterior", "ASD in mm", "steps")
    return table([head, *rows])


def _hippocampus_row(minutes: float, which: str, results: list[dict[str, Any]]) -> tuple[str, ...]:
    dice, asd = ([[r[key][k] for r in results] for k in (0, 1)] for key in ("dice", "asd_mm"))
    shown = [f"{fmean(d):.3f} ({min(d):.3f} to {max(d):.3f})" for d in dice]
    far = " / ".join(f"{fmean(a):.2f}" for a in asd)
    return f"{minutes:g} min", which, *shown, far, f"{fmean(r['steps'] for r in results):.0f}"


def raced_table() -> str:
    """When each trainer has the Dice that ours has after some minutes."""
    curves = {name: rows for name, rows in measured("train").items() if name != "processor"}
    own = sorted((row[0], fmean(row[1:])) for name, rows in curves.items() if name.startswith("napari") for row in rows)
    peers = {name.split()[0]: rows for name, rows in curves.items() if not name.startswith("napari")}
    rows = []
    for minutes, dice in own:
        cells = []
        for curve in peers.values():
            best, last = max(fmean(row[1:]) for row in curve), max(row[0] for row in curve)
            first = min((row[0] for row in curve if fmean(row[1:]) >= dice), default=None)
            not_yet = f"not within {last:g} min ({best:.3f}): ours takes less than {minutes / last:.2f} of its time"
            cells.append(not_yet if first is None else f"{first:g} min: ours takes {minutes / first:.2f} of its time")
        rows.append((f"{minutes:g} min", f"{dice:.3f}", *cells))
    return table([("minutes of ours", "mean Dice", *(f"{name} has it after" for name in peers)), *rows])


def sparse_table() -> str:
    """One volume and some of its slices: interpolation, propagation and a network, mean over volumes and axes."""
    found: dict[str, list[dict[str, float]]] = {}
    for run, result in measured("sparse").items():
        if run != "processor":
            _, what, minutes = run.split(", ") if "axis" in run else ("", "5 of each of 3 volumes", run.split(", ")[1])
            found.setdefault(f"{what}; {float(minutes.split()[0]) / 2:g} min", []).append(result)
    rows = []
    for what, results in found.items():
        means = [f"{fmean(r[k] for r in results):.3f}" if k in results[0] else "" for k in _SPARSE]
        rows.append((what, str(len(results)), *means))
    head = ("slices; minutes of 2 cores", "runs", "shapes between them", "`propagate`", "trained")
    return table([head, *rows])


_SPARSE = ("interpolation", "propagate", "trained")


def few_table() -> str:
    """Five labelled cases: from scratch beside from a model of another contrast, seed by seed."""
    results = measured("few")["rows"]
    base = results["base"]
    rows = [("the base model as it is", f"{base['dice']:.3f}", "", *(f"{value:.3f}" for value in base["labels"]))]
    for way, words in (("scratch", "from scratch"), ("fine-tuned", "from the base model, `--init`")):
        runs = [row for name, row in results.items() if name.startswith(f"{way}:")]
        labels = [fmean(row["labels"][k] for row in runs) for k in range(len(runs[0]["labels"]))]
        each = ", ".join(f"{row['dice']:.3f}" for row in runs)
        rows.append((words, f"{fmean(row['dice'] for row in runs):.3f}", each, *(f"{value:.3f}" for value in labels)))
    head = ("training", "mean Dice", "of each seed", "anterior", "posterior")
    return table([head, *rows]) + f"\nOne thread of {measured('few')['processor']}.\n"


def lesions_table() -> str:
    """MS lesions of each patient, by a model of the two others."""
    results = measured("lesions")
    rows = [
        (
            name,
            f"{row['dice']:.3f}",
            f"{row['reference_mm3'] / 1000:.1f}, {row['prediction_mm3'] / 1000:.1f}",
            f"{row['lesions']}, {row['found_parts']}",
            *(f"{row[key]:.2f}" for key in ("f1_0.1", "recall_0.1", "f1_0.5")),
            f"{row['cpu_minutes']:g}",
        )
        for name, row in sorted(results["rows"].items())
    ]
    head = (
        *("patient", "Dice", "ml, by hand and found", "lesions, by hand and found"),
        *("F1 above IoU 0.1", "recall", "F1 above IoU 0.5", "CPU minutes to train"),
    )
    return table([head, *rows]) + f"\nOne thread of {results['processor']}.\n"


def searched_table() -> str:
    """The plan of the cases, the one that a search found, and the former with the minutes of the search."""
    results = measured("search")
    words = {"planned": "plan of the cases", "searched": "search, then its plan", "longer": "plan of the cases, longer"}
    rows = []
    for way in (way for way in words if way in results["rows"]):
        row = results["rows"][way]
        minutes = row["cpu_minutes"] + (row["search_minutes"] if way != "planned" else 0)
        shape, channels = "x".join(map(str, row["patch"])), ", ".join(map(str, row["channels"]))
        rows.append((words[way], f"{minutes:g}", f"{row['dice']:.3f}", shape, channels, str(row["steps"])))
    head = ("way", "CPU minutes in all", "mean Dice", "patch", "features", "steps of the last training")
    said = results["rows"]["searched"]["said"][-1].removeprefix("search: ")
    return table([head, *rows]) + f"\nThe search said: {said}. One thread of {results['processor']}.\n"


def fused_table() -> str:
    """Ways to put channels together, with all of them and without one."""
    rows = []
    for run, row in measured("fusion").items():
        task, way, minutes = _parts_of(run)
        missing = ", ".join(f"{k.removeprefix('without ')} {v:.3f}" for k, v in row.items() if k.startswith("without"))
        rows.append((task, way, minutes, f"{row['dice']:.3f}", missing))
    return table([("images", "fusion", "CPU time to train", "Dice", "Dice without a channel"), *rows])


def adapted_table() -> str:
    """Models of one domain on images of another, with and without a scheme that adapts them."""
    rows = []
    for run, row in sorted(measured("domains").items()):
        task, scheme, minutes = _parts_of(run)
        within = f"{row['within']:.3f}" if "within" in row else ""
        rows.append((task, f"`{scheme}`", minutes, f"{row['dice']:.3f}", within))
    return table([("from and to", "scheme", "CPU time to train", "Dice", "Dice in its own domain"), *rows])


def made_up_table() -> str:
    """Made-up images, a shape prior and an adversary; both labels where there are two."""
    rows, runs = [], measured("synthesis")
    for run, row in runs.items():
        scores = [
            " / ".join(f"{row[key]:.{digits}f}" for key in row if key.startswith(name))
            for name, digits in (("dice", 3), ("hd95_mm", 2), ("msd_mm", 2))
        ]
        each = ", ".join(f"{value:.2f}" for value in row.get("each msd_mm 1", ()))
        rows.append((*(run.rsplit(", ", 1)), f"{row['epochs']:.1f}", *scores, each, _farther(run, runs)))
    head = ("run", "CPU time to train", "epochs", "Dice", "HD95, mm", "MSD, mm", "MSD of each seed", "over supervised")
    return table([head, *rows])


def _farther(run: str, runs: Mapping[str, Any]) -> str:
    """How much larger the largest distance is than in the supervised row, case by case: the mean and its error."""
    name, minutes = run.rsplit(", ", 1)
    plain = f"{name.rsplit(', ', 1)[0]}, supervised, {minutes}"
    cases = "cases msd_mm 1"
    if run == plain or any(cases not in runs.get(key, ()) for key in (run, plain)):
        return ""
    apart = [own - other for own, other in zip(runs[run][cases], runs[plain][cases], strict=True)]
    return f"{fmean(apart):+.2f} ± {stdev(apart) / math.sqrt(len(apart)):.2f}"


def objects_table() -> str:
    """Ways to tell objects apart that touch."""
    numbers = ("objects", "found", "missed", "extra")
    rows = [
        (
            *(row["set"], f"`{row['way']}`", f"{row['processor_minutes']:.1f}", *(str(row[key]) for key in numbers)),
            *("" if row[key] is None else f"{row[key]:.3f}" for key in ("f1", "sq", "pq")),
        )
        for row in sorted(measured("instances")["rows"].values(), key=lambda row: _SETS.index(row["set"]))
    ]
    head = ("set", "way", "CPU minutes to train", *numbers, "F1", "SQ", "PQ")
    return table([head, *rows]) + f"\nOne thread of {measured('instances')['processor']}.\n"


_SETS = ("phantom", "nuclei", "lesions")


def _parts_of(run: str) -> tuple[str, str, str]:
    """(task, way, minutes) of a run called "task, way, 1 min", whose way may hold a comma."""
    task, rest = run.split(", ", 1)
    way, minutes = rest.rsplit(", ", 1)
    return task, way, minutes


def nuclei_table() -> str:
    """UNet++ and the shallower networks that it contains."""
    results = measured("nuclei")
    rows = [
        (
            name,
            f"{row['mib']:.1f}",
            f"{row['cpu_seconds_an_image']:.2f}",
            *(f"{row[key]:.3f}" for key in ("iou", "iou_median", "f1_nuclei", "f1_parts")),
        )
        for name, row in sorted(results["rows"].items(), key=lambda item: item[0] != "whole")
    ]
    head = ("network", "MiB", "CPU s an image", "mean IoU", "median", "F1 of nuclei", "F1 of connected parts")
    minutes = results["rows"]["whole"]["cpu_minutes"]
    return table([head, *rows]) + f"\nTrained for {minutes:g} minutes of one thread of {results['processor']}.\n"


def engine_table() -> str:
    """Every row that the engine must reach, on each processor and model that it was measured on."""
    rows = []
    for key, machine in measured("engine").items():
        for row in machine["rows"].values():
            if "skipped" in row:
                rows.append((key, row["what"], f"{row['at_most']:.2f}", row["skipped"], ""))
                continue
            for one in (row, *row.get("beside", [])):
                met = "" if one["reached"] <= one["at_most"] else " (missed)"
                lost = f"{one['dice_lost']:.4f}" if "dice_lost" in one else ""
                rows.append((key, one["what"], f"{one['at_most']:.2f}", f"{one['reached']:.3f}{met}", lost))
    return table([("instructions, model", "what", "at most", "reached", "Dice lost"), *rows])


def scaling_table() -> str:
    """Time and memory by the size of an image and the number of classes."""
    rows = []
    for one in measured("scaling").values():
        voxels = math.prod(one["shape"])
        rows.append(
            (
                f"{'dense' if one['dense'] else 'sparse'} {' x '.join(map(str, one['shape']))}",
                str(one["classes"]),
                f"`{one['preset']}`",
                f"{one['cpu_s']:.1f}",
                f"{one['cpu_s'] / voxels * 1e9:.1f}",
                f"{one['peak_mib'] - one['before_mib']:.0f}",
                f"{one['image_mib']:.1f}, {one['labels_mib']:.1f}",
            )
        )
    head = (
        "image",
        "classes",
        "preset",
        "CPU s",
        "CPU s for 10^9 voxels",
        "added MiB",
        "MiB on the disk: image, labels",
    )
    return table([head, *rows])


def workers_table() -> str:
    """One worker beside two, pair by pair."""
    rows = [
        (
            key,
            f"{pair['one']['wall_s']:.1f}, {pair['two']['wall_s']:.1f}",
            f"{pair['faster']:.2f}",
            f"{pair['faster_by_cpu']:.2f}",
            f"{pair['one']['load']:.0f}, {pair['two']['load']:.0f}",
        )
        for key, machine in measured("engine").items()
        for pair in machine["rows"].get("workers", {}).get("pairs", [])
    ]
    head = ("instructions, model", "seconds, 1 and 2 workers", "times faster", "by CPU time", "load")
    return table([head, *rows])


def prompts_table() -> str:
    """The mean Dice of each method after some prompts, on structures that choices were made on, and on others."""
    steps = ("1", "2", "3", "5", "8")
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in measured("interact")["rows"]:
        if "method" in row:
            found.setdefault((row["prompts"], row["method"]), {})[row["set"]] = row
    rows = []
    for (prompts, method), sets in found.items():
        both = [sets[which] for which in ("seen", "unseen") if which in sets]
        dice = [" / ".join(f"{row['dice'][k]:.2f}" for row in both if k in row["dice"]) for k in steps]
        structures = " + ".join(str(row["structures"]) for row in both)
        seconds = [f"{fmean(row[key] for row in both):.2f}" for key in ("first_s", "later_s")]
        rows.append((prompts, method, structures, *dice, *seconds))
    return table([("prompts", "method", "structures", *steps, "CPU s, first", "later"), *rows])


def filled_table() -> str:
    """What `propagate` and interpolation make of slices of hippocampus volumes."""
    rows = [row for row in measured("interact")["rows"] if row["prompts"] == "propagate"]
    cells = [
        (
            str(row["slices"]),
            f"{row['dice']['interpolation']:.3f}",
            f"{row['dice']['auto']:.3f}",
            f"{row['worst_against_interpolation']:+.3f}",
        )
        for row in rows
    ]
    return table([("slices", "interpolation of shapes", "`propagate`", "worst volume, beside interpolation"), *cells])


def measured(name: str) -> Any:
    """What a benchmark wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def explained_table() -> str:
    """How maps do on a phantom whose label depends on one region, as the benchmark measured it."""
    results = measured("explain")
    rows = [
        (
            f"`{name}`",
            f"`{row['network']}`",
            f"{row['inside']:.1f}",
            f"{row['correlation']:.2f}",
            ", ".join(f"{value:.2f}" for value in row["correlations"]),
        )
        for name, row in results.items()
    ]
    heading = ("method", "network", "mass in the region", "correlation with random weights", "with each network")
    return table([heading, *rows])


def doubted_table() -> str:
    """What temperature, entropy and the expected Dice are worth, as the benchmark measured it."""
    rows = measured("doubt")
    row = next(row for row in rows if row["what"] == "trust")
    return table(
        [
            ("what", "value"),
            ("temperature", f"{row['temperature']:.2f}"),
            ("expected calibration error of all voxels, temperature 1", f"{row['ece_before']:.4f}"),
            ("expected calibration error of all voxels, with the temperature", f"{row['ece_after']:.4f}"),
            ("the same case by case, temperature 1", f"{row['ece_of_cases_before']:.4f}"),
            ("the same case by case, with the temperature", f"{row['ece_of_cases_after']:.4f}"),
            ("errors among the 5 % of voxels with most entropy", f"{100 * row['errors_in_worst_5_percent']:.0f} %"),
            ("correlation of expected and true Dice", f"{row['correlation']:.2f}"),
            ("correlation of their ranks", f"{row['rank_correlation']:.2f}"),
            (
                "correlation of true Dice and the share of the reference on its surface",
                f"{row['correlation_with_surface']:.2f}",
            ),
            ("correlation of true Dice and that of another network", f"{row['correlation_with_other']:.2f}"),
            ("mean distance of expected and true Dice", f"{row['mean_error_of_expected']:.3f}"),
            ("mean distance of the fitted cases' mean and true Dice", f"{row['mean_error_of_mean']:.3f}"),
            ("cases inside the interval of 95 in 100", f"{row['inside_interval']} of {row['cases']}"),
        ]
    )


def damaged_table() -> str:
    """The true and the expected Dice of images as they are, and damaged."""
    row = next(row for row in measured("doubt") if row["what"] == "damaged")
    rows = [(kind, *(f"{value:.3f}" for value in pair)) for kind, pair in row["dice_and_expected"].items()]
    told = f"\nCorrelation over the {row['cases']} images: {row['correlation']:.2f}.\n"
    return table([("image", "Dice", "expected Dice"), *rows]) + told


def agreed_table() -> str:
    """How the agreement of networks goes with the Dice of their mean, as the benchmark measured it."""
    row = next(row for row in measured("doubt") if row["what"] == "agreement")
    digits = {"dice": 3, "spread_of_dice": 3, "correlation": 2, "rank_correlation": 2}
    heading = ("cases", "Dice of the mean", "its spread", "correlation with the agreement", "of their ranks")
    parts = {f"the first {row['of_first']['cases']}": "of_first", f"the last {row['of_last']['cases']}": "of_last"}
    rows = [(name, *(f"{row[key][one]:.{n}f}" for one, n in digits.items())) for name, key in parts.items()]
    return table([heading, *rows])


def suggested_table() -> str:
    """The mean Dice by the number of annotated slices, random and suggested, as the benchmark measured it."""
    rows = measured("doubt")
    row = next(row for row in rows if row["what"] == "suggested")
    ways = [(way, *(f"{dice:.3f}" for dice in row[way])) for way in ("random", "suggested")]
    return table([("annotated slices", *map(str, row["slices"])), *ways])


def refined_table() -> str:
    """What refiners make of the labels of models, on cases that neither has seen."""
    results = measured("refine")
    rows = [
        (
            row["data"],
            row["method"],
            *(f"{row[key]:.{digits}f}" for key, digits in (("dice", 4), ("nsd_1mm", 4), ("hd95_mm", 2))),
            f"{row['cpu_seconds_a_case']:.2f} s",
        )
        for row in results
    ]
    head = ("cases", "labels of", "mean Dice", "NSD at 1 mm", "HD95, mm", "CPU time of a case")
    used = ", ".join(sorted({row["processor"] for row in results}))
    return table([head, *rows]) + f"\nOne thread of {used}.\n"


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells as a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "&#124;") for cell in row) + " |" for row in rows]
    return "\n".join(["", lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""])


FIGURES: dict[str, Callable[[], str]] = {
    "costs": costs_table,
    "windows": windows_table,
    "semi": semi_table,
    "layouts": layouts_table,
    "threads": threads_table,
    "hippocampus": hippocampus_table,
    "raced": raced_table,
    "sparse": sparse_table,
    "few": few_table,
    "lesions": lesions_table,
    "searched": searched_table,
    "nuclei": nuclei_table,
    "fused": fused_table,
    "adapted": adapted_table,
    "made-up": made_up_table,
    "objects": objects_table,
    "engine": engine_table,
    "scaling": scaling_table,
    "workers": workers_table,
    "prompts": prompts_table,
    "filled": filled_table,
    "explained": explained_table,
    "refined": refined_table,
    "doubted": doubted_table,
    "damaged": damaged_table,
    "agreed": agreed_table,
    "suggested": suggested_table,
}
"""{part of a page: what makes its table}."""
