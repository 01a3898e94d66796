"""Write the parts of the docs that the program states itself into the pages: `python docs/generate.py`.

`figures.py` makes the tables of what was measured. A part stands between its mark and `<!-- end -->`, so that a page
can be read where the code is hosted, too:

    <!-- help: segment -->         what `napari-medseg segment --help` prints
    <!-- columns -->               the columns of the scores with their definitions
    <!-- columns of shape -->      the columns of a table of a study
    <!-- presets -->               how the presets of the metrics differ
    <!-- costs -->                 memory and time of some networks, from benchmarks/results
    <!-- windows -->               how many windows volumes have, and how long they take
    <!-- schemes -->              the schemes of training, and when to use which
    <!-- semi -->                 what the semi-supervised schemes reach, from benchmarks/results
    <!-- layouts -->              what channels last cost and gain, from benchmarks/results
    <!-- threads -->              threads that wait briefly, beside torch's own, from benchmarks/results
    <!-- hippocampus -->          what a training of some minutes reaches, from benchmarks/results
    <!-- raced -->                the time to a given Dice beside other trainers, from benchmarks/results
    <!-- sparse -->               training on a few painted slices, from benchmarks/results
    <!-- few -->                  five labelled cases from scratch and from another contrast, from benchmarks/results
    <!-- lesions -->              MS lesions, each patient by a model of the two others, from benchmarks/results
    <!-- searched -->             what a search for a plan is worth, from benchmarks/results
    <!-- nuclei -->               UNet++ and the networks in it on nuclei, from benchmarks/results
    <!-- fused -->                ways to put channels together, from benchmarks/results
    <!-- adapted -->              models of one domain on another, from benchmarks/results
    <!-- made-up -->              made-up images, a shape prior and an adversary, from benchmarks/results
    <!-- objects -->              ways to tell objects apart that touch, from benchmarks/results
    <!-- engine -->               the rows of the engine's benchmark, from benchmarks/results
    <!-- scaling -->              how the engine grows with image and classes, from benchmarks/results
    <!-- workers -->              one worker beside two, from benchmarks/results
    <!-- prompts -->              masks by clicks, strokes, boxes and slices beside peers, from benchmarks/results
    <!-- filled -->               volumes filled from slices, from benchmarks/results
    <!-- methods -->              the ways to explain, and what their maps mean
    <!-- explained -->            how well they do on a phantom, from benchmarks/results
    <!-- refined -->              what refiners regain, from benchmarks/results
    <!-- doubted -->              what doubts and the expected Dice are worth, from benchmarks/results
    <!-- damaged -->              the expected Dice of damaged images, from benchmarks/results
    <!-- agreed -->               how the agreement of networks goes with their Dice, from benchmarks/results
    <!-- suggested -->            what suggested slices save, from benchmarks/results
    <!-- reference: FILE -->       the public names that FILE lists, with signatures and texts
    <!-- picture: FILE | TEXT -->  a picture, once it exists

`--check` writes nothing and names the pages that are not current; a test does the same. No empty table is written: what
stands there stays, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import importlib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from figures import FIGURES, table

from napari_medseg.cli.parser import build_parser
from napari_medseg.config import field_docs
from napari_medseg.explanation.methods import METHODS
from napari_medseg.metrics.pairwise.columns import COLUMNS, RULE_TEXTS, SUMMARIES, columns_of
from napari_medseg.metrics.study.study import TABLES
from napari_medseg.training.schemes.table import SCHEMES

DOCS = Path(__file__).resolve().parent
END = "<!-- end -->"
KINDS = ("help", "columns of", "columns", "presets", "schemes", "methods", *FIGURES)
MARK = re.compile(
    rf"^<!-- (?P<kind>{'|'.join(KINDS)}|reference|picture):? ?(?P<what>[^\n]*?) ?-->\n"
    rf"(?:(?:(?!^<!-- ).)*?^{END}\n)?",
    re.MULTILINE | re.DOTALL,
)
LISTED = re.compile(r"^(?:::: (?P<name>\S+)|(?P<heading>## .+))$", re.MULTILINE)


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
    if _has_no_rows(body):
        return mark.group()
    return f"{head}\n{body}\n{END}\n" if body else f"{head}\n{END}\n"


def lapsed(page: Path) -> list[str]:
    """The parts of a page whose tables would have no row: the results that they show are not there any more."""
    marks = MARK.finditer(page.read_text(encoding="utf-8"))
    return [mark["kind"] for mark in marks if _has_no_rows(PARTS[mark["kind"]](mark["what"], page))]


def _has_no_rows(body: str) -> bool:
    """Whether a part ends with the head of a table."""
    return body.rstrip().endswith("---|")


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


def schemes_table(_: str, __: Path) -> str:
    """The schemes, what they learn from, and when to use which."""
    rows = [(f"`{s.name}`", "; ".join(filter(None, (s.summary, s.reference))), s.when) for s in SCHEMES.values()]
    return table([("scheme", "learns", "when"), *rows])


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
    "schemes": schemes_table,
    "methods": methods_table,
    **{kind: lambda _, __, made=made: made() for kind, made in FIGURES.items()},
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
    empty = [(page, kind) for page in pages() for kind in lapsed(page)]
    for page, kind in empty:
        print(f"{page}: the table of {kind} would have no row, and stays as it is: measure it again", file=sys.stderr)
    return 1 if empty or (args.check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
