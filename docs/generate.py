"""Write the parts of the docs that the program states itself into the pages: `python docs/generate.py`.

A part stands between its mark and `<!-- end -->`, so that a page can be read where the code is hosted, too:

    <!-- help: segment -->         what `napari-medseg segment --help` prints
    <!-- columns -->               the columns of the scores with their definitions
    <!-- columns of shape -->      the columns of a table of a study
    <!-- presets -->               how the presets of the metrics differ
    <!-- costs -->                 memory and time of some networks, from benchmarks/results
    <!-- windows -->               how many windows volumes have, and how long they take
    <!-- schemes -->              the schemes of training, and when to use which
    <!-- semi -->                 what the semi-supervised schemes reach, from benchmarks/results
    <!-- few -->                  five labelled cases from scratch and from another contrast, from benchmarks/results
    <!-- lesions -->              MS lesions, each patient by a model of the two others, from benchmarks/results
    <!-- searched -->             what a search for a plan is worth, from benchmarks/results
    <!-- nuclei -->               UNet++ and the networks in it on nuclei, from benchmarks/results
    <!-- engine -->               the rows of the engine's benchmark, from benchmarks/results
    <!-- scaling -->              how the engine grows with image and classes, from benchmarks/results
    <!-- workers -->              one worker beside two, from benchmarks/results
    <!-- prompts -->              masks by clicks, strokes, boxes and slices beside peers, from benchmarks/results
    <!-- filled -->               volumes filled from slices, from benchmarks/results
    <!-- methods -->              the ways to explain, and what their maps mean
    <!-- explained -->            how well they do on a phantom, from benchmarks/results
    <!-- refined -->              what refiners regain, from benchmarks/results
    <!-- doubted -->              what doubts and the expected Dice are worth, from benchmarks/results
    <!-- suggested -->            what suggested slices save, from benchmarks/results
    <!-- reference: FILE -->       the public names that FILE lists, with signatures and texts
    <!-- picture: FILE | TEXT -->  a picture, once it exists

`--check` writes nothing and names the pages that are not current; a test does the same.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import importlib
import inspect
import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

from napari_medseg.cli.parser import build_parser
from napari_medseg.config import field_docs
from napari_medseg.explanation.methods import METHODS
from napari_medseg.inference.windows import WindowGrid
from napari_medseg.metrics.pairwise.columns import COLUMNS, RULE_TEXTS, SUMMARIES, columns_of
from napari_medseg.metrics.study.study import TABLES
from napari_medseg.models.presets import SETTINGS
from napari_medseg.training.schemes.table import SCHEMES

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
END = "<!-- end -->"
KINDS = (
    *("help", "columns of", "columns", "presets", "costs", "windows", "schemes", "semi", "methods", "explained"),
    *("few", "lesions", "searched", "nuclei"),
    *("engine", "scaling", "workers", "prompts", "filled", "refined", "doubted", "suggested"),
)
MARK = re.compile(
    rf"^<!-- (?P<kind>{'|'.join(KINDS)}|reference|picture):? ?(?P<what>[^\n]*?) ?-->\n"
    rf"(?:(?:(?!^<!-- ).)*?^{END}\n)?",
    re.MULTILINE | re.DOTALL,
)
LISTED = re.compile(r"^(?:::: (?P<name>\S+)|(?P<heading>## .+))$", re.MULTILINE)
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


def written(page: Path) -> str:
    """The page with its parts as the program states them now."""
    return MARK.sub(lambda mark: _part(mark, page), page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """The pages that hold a part."""
    return [page for page in sorted(DOCS.rglob("*.md")) if MARK.search(page.read_text(encoding="utf-8"))]


def _part(mark: re.Match[str], page: Path) -> str:
    kind, what = mark["kind"], mark["what"]
    head = mark.group().partition("\n")[0]
    body = PARTS[kind](what, page)
    return f"{head}\n{body}\n{END}\n" if body else f"{head}\n{END}\n"


def columns_table(_: str, __: Path) -> str:
    """The columns of the scores and the numbers beside them, with their definitions."""
    rows = [(f"`{name}`", column.unit, column.formula) for name, column in {**COLUMNS, **SUMMARIES}.items()]
    return table([("column", "unit", "definition"), *rows])


def columns_of_table(name: str, _: Path) -> str:
    """The columns of a table of a study, with their definitions."""
    texts = field_docs(TABLES[name][0]).items()
    return table([("column", "definition"), *((f"`{field}`", text) for field, text in texts)])


def presets_table(_: str, __: Path) -> str:
    """How the presets differ."""
    rows = [(f"`{preset}`", rules, columns_of(preset)["rvd"].formula) for preset, rules in RULE_TEXTS.items()]
    return table([("preset", "surfaces and empty masks", "`rvd`"), *rows])


def costs_table(_: str, __: Path) -> str:
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


def windows_table(_: str, __: Path) -> str:
    """How long volumes take on one CPU thread: the windows of a run, and the measured time of one."""
    results = measured("networks")
    rows = []
    for what, shape in VOLUMES.items():
        count = len(WindowGrid(shape, (SIDE, SIDE, SIDE), SETTINGS["exact"].overlap))
        times = [f"{count * results[name]['cpu_seconds'] / 60:.1f} min" for name in TIMED]
        rows.append((what, " x ".join(map(str, shape)), str(count), *times))
    return table([("volume", "voxels", "windows", *(f"`{name}`" for name in TIMED)), *rows])


def schemes_table(_: str, __: Path) -> str:
    """The schemes, what they learn from, and when to use which."""
    rows = [(f"`{s.name}`", "; ".join(filter(None, (s.summary, s.reference))), s.when) for s in SCHEMES.values()]
    return table([("scheme", "learns", "when"), *rows])


def semi_table(_: str, __: Path) -> str:
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


def few_table(_: str, __: Path) -> str:
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


def lesions_table(_: str, __: Path) -> str:
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


def searched_table(_: str, __: Path) -> str:
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


def nuclei_table(_: str, __: Path) -> str:
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


def engine_table(_: str, __: Path) -> str:
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


def scaling_table(_: str, __: Path) -> str:
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


def workers_table(_: str, __: Path) -> str:
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


def prompts_table(_: str, __: Path) -> str:
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


def filled_table(_: str, __: Path) -> str:
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


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells as a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "&#124;") for cell in row) + " |" for row in rows]
    return "\n".join(["", lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""])


def help_of(command: str, _: Path) -> str:
    """What `napari-medseg COMMAND --help` prints, 88 columns wide."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    with patch.dict(os.environ, COLUMNS="88"):
        text: str = commands.choices[command].format_help()
    return f"```text\n{text}```"


def picture(what: str, page: Path) -> str:
    """A picture that a later version of the program has; nothing before."""
    path, _, text = (part.strip() for part in what.partition("|"))
    return f"\n![{text}]({path})\n" if (page.parent / path).is_file() else ""


def methods_table(_: str, __: Path) -> str:
    """The ways to explain."""
    rows = [(f"`{m.name}`", m.means, m.means_not, m.source) for m in METHODS.values()]
    return table([("method", "what it means", "what it does not mean", "source"), *rows])


def explained_table(_: str, __: Path) -> str:
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


def doubted_table(_: str, __: Path) -> str:
    """What temperature, entropy and the expected Dice are worth, as the benchmark measured it."""
    rows = measured("doubt")
    row = next(row for row in rows if row["what"] == "trust")
    return table(
        [
            ("what", "value"),
            ("temperature", f"{row['temperature']:.2f}"),
            ("expected calibration error, temperature 1", f"{row['ece_before']:.4f}"),
            ("expected calibration error, with the temperature", f"{row['ece_after']:.4f}"),
            ("errors among the 5 % of voxels with most entropy", f"{100 * row['errors_in_worst_5_percent']:.0f} %"),
            ("correlation of expected and true Dice", f"{row['correlation']:.2f}"),
            ("correlation of their ranks", f"{row['rank_correlation']:.2f}"),
            ("mean distance of expected and true Dice", f"{row['mean_error_of_expected']:.3f}"),
            ("mean distance of the fitted cases' mean and true Dice", f"{row['mean_error_of_mean']:.3f}"),
            ("cases inside the interval of 95 in 100", f"{row['inside_interval']} of {row['cases']}"),
        ]
    )


def suggested_table(_: str, __: Path) -> str:
    """The mean Dice by the number of annotated slices, random and suggested, as the benchmark measured it."""
    rows = measured("doubt")
    row = next(row for row in rows if row["what"] == "suggested")
    ways = [(way, *(f"{dice:.3f}" for dice in row[way])) for way in ("random", "suggested")]
    return table([("annotated slices", *map(str, row["slices"])), *ways])


def refined_table(_: str, __: Path) -> str:
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


def reference(listing: str, page: Path) -> str:
    """The names that a page of `::: name` lines lists, under its headings."""
    text = (page.parent / listing).read_text(encoding="utf-8")
    return "\n" + "\n".join(line for entry in LISTED.finditer(text) for line in _entry(entry)) + "\n"


def _entry(entry: re.Match[str]) -> Iterator[str]:
    if entry["heading"]:
        yield from (entry["heading"], "")
        return
    name = entry["name"]
    module, _, attribute = name.rpartition(".")
    if name.count(".") == 1:  # a whole module
        whole = importlib.import_module(name)
        yield from _described(f"module `{name}`", whole)
        for member, value in vars(whole).items():
            if inspect.isclass(value) and value.__module__ == name and not member.startswith("_"):
                yield from _object(f"{name}.{member}", value)
        return
    yield from _object(name, getattr(importlib.import_module(module), attribute))


def _object(name: str, value: Any) -> Iterator[str]:
    yield from _described(f"`{name}`", value, signature=True)
    if not inspect.isclass(value):
        return
    if dataclasses.is_dataclass(value):
        yield from (f"- `{field}`: {text}" for field, text in _field_texts(value).items())
    for member, raw in vars(value).items():
        function = getattr(raw, "fget", None) or getattr(raw, "__func__", raw)
        if not member.startswith("_") and inspect.isfunction(function) and function.__doc__:
            call = "" if isinstance(raw, property) else _signature(function)
            yield f"- `{member}{call}`: {' '.join(inspect.cleandoc(function.__doc__).split())}"
    yield ""


def _field_texts(kind: type) -> dict[str, str]:
    """The text below each public field of a dataclass, for the fields that have one."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except OSError:  # a class without a source of its own
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node, below in pairwise(body.body):
        is_field = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if is_field and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[node.target.id] = " ".join(str(below.value.value).split())
    return {name: text for name, text in found.items() if not name.startswith("_")}


def _described(title: str, value: Any, *, signature: bool = False) -> Iterator[str]:
    yield from (f"### {title}", "")
    if signature and not _is_plain(value):
        yield from ("```text", f"{value.__name__}{_signature(value)}", "```", "")
    doc = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    if doc and not doc.startswith(f"{getattr(value, '__name__', '')}("):
        yield from (inspect.cleandoc(doc), "")


def _is_plain(value: Any) -> bool:
    """An error or a kind has no signature that a user needs."""
    return inspect.isclass(value) and issubclass(value, (Exception, enum.Enum))


def _signature(value: Any) -> str:
    """The parameters of a function as they are written, without `self`; a default that is a function is `...`."""
    signature = inspect.signature(value)
    shown = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    text = re.sub(r"""(: |-> )(['"])(.*?)\2(?=[,)]| =|$)""", r"\1\3", str(signature.replace(parameters=shown)))
    return re.sub(r"<(?:function .*? at 0x[0-9a-f]+|factory)>", "...", text)


PARTS: dict[str, Callable[[str, Path], str]] = {
    "help": help_of,
    "columns": columns_table,
    "columns of": columns_of_table,
    "presets": presets_table,
    "costs": costs_table,
    "windows": windows_table,
    "schemes": schemes_table,
    "semi": semi_table,
    "few": few_table,
    "lesions": lesions_table,
    "searched": searched_table,
    "nuclei": nuclei_table,
    "engine": engine_table,
    "scaling": scaling_table,
    "workers": workers_table,
    "prompts": prompts_table,
    "filled": filled_table,
    "methods": methods_table,
    "explained": explained_table,
    "refined": refined_table,
    "doubted": doubted_table,
    "suggested": suggested_table,
    "reference": reference,
    "picture": picture,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the parts that the program states into the pages of the docs.")
    parser.add_argument("--check", action="store_true", help="only name the pages that are not current")
    args = parser.parse_args()
    stale = [page for page in pages() if written(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        if args.check:
            print(f"{page.relative_to(DOCS.parent)} is not current: run python docs/generate.py", file=sys.stderr)
        else:
            page.write_text(written(page), encoding="utf-8")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
