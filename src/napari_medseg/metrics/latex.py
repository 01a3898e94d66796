"""Tables for LaTeX, with the rules of booktabs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from napari_medseg.metrics.report import Row, Scores, Value
from napari_medseg.metrics.statistics import judged_metrics
from napari_medseg.metrics.tables import Table, printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def latex_document(scores: Scores, tables: Sequence[Table] = ()) -> str:
    """The scores, as mean and standard deviation over the cases where there are several, then the other tables.

    To be put into a document by an input command; it needs the packages booktabs and longtable.
    """
    parts = ["% needs the packages booktabs and longtable", *_overview(scores)]
    for table in tables:
        parts += ["", *_whole(table)]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; what does not print, such as the end of a line, becomes a space."""
    return "".join(_SPECIAL.get(c, c) for c in printable(text))


def cell(value: Value) -> str:
    """A value as LaTeX: three decimals, infinity as its sign, NaN as a dash."""
    if isinstance(value, str):
        return escaped(value)
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _whole(table: Table) -> Iterator[str]:
    """Every row and column of a table."""
    texts = {c for c in table.columns if any(isinstance(row[c], str) for row in table.rows)}
    heads = [escaped(c) for c in table.columns]
    rows = [[cell(row[c]) for c in table.columns] for row in table.rows]
    alignment = "".join("l" if c in texts else "r" for c in table.columns)
    yield from _meanings(table.definitions)
    yield from _longtable(escaped(table.title), alignment, heads, rows)


def _overview(scores: Scores) -> Iterator[str]:
    """A row per label and a column per metric that judges."""
    metrics = judged_metrics()
    heads = ["label", *(escaped(scores.definitions[m].heading) for m in metrics)]
    groups: dict[int, list[Row]] = {}
    for row in scores.rows:
        groups.setdefault(row.label, []).append(row)
    rows = [
        [escaped(of_label[0].name), *(_spread([float(getattr(row, m)) for row in of_label]) for m in metrics)]
        for _, of_label in sorted(groups.items())
    ]
    caption = "Scores"
    if scores.cases:
        caption = rf"Scores over {len(scores.cases)} cases: mean $\pm$ standard deviation of the finite values"
    yield from _meanings({scores.definitions[m].heading: scores.definitions[m].formula for m in metrics})
    yield from _longtable(caption, "l" + "r" * len(metrics), heads, rows)


def _meanings(definitions: Mapping[str, str]) -> Iterator[str]:
    """What each column means, as comments for whoever writes the caption."""
    yield from (f"% {printable(column)}: {printable(meaning)}" for column, meaning in definitions.items())


def _spread(values: Sequence[float]) -> str:
    """One value as it is; of several the mean and standard deviation of the finite ones."""
    finite = [v for v in values if math.isfinite(v)]
    if len(values) == 1 or not finite:
        return cell(values[0] if len(values) == 1 else math.nan)
    sd = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return rf"{cell(float(np.mean(finite)))} $\pm$ {cell(sd)}"


def _longtable(caption: str, alignment: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table that may run over pages, as tables of many cases do; all arguments are LaTeX."""
    yield rf"\begin{{longtable}}{{{alignment}}}"
    yield rf"\caption{{{caption}}} \\"
    yield r"\toprule"
    yield " & ".join(heads) + r" \\"
    yield r"\midrule"
    yield r"\endhead"
    yield from (" & ".join(row) + r" \\" for row in rows)
    yield r"\bottomrule"
    yield r"\end{longtable}"
