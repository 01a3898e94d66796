"""Tables for LaTeX, with the rules of booktabs."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_medseg._version import __version__
from napari_medseg.metrics.pairwise.columns import RULE_TEXTS, Column
from napari_medseg.metrics.pairwise.scores import Row, Scores, Value
from napari_medseg.metrics.study.settings import Setting, metrics_settings, text_of
from napari_medseg.metrics.study.statistics import judged_metrics
from napari_medseg.metrics.study.tables import Table, printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "∩": r"$\cap$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_COMMAND = re.compile(r"\$?\\[a-z]*(\{\})?\$?")

_PAGE_WIDTH = 70
"""Letters across a page of the article class."""
_GAP = 2.5
"""Letters between two columns."""
_WIDEST_TEXT = 24
"""Letters after which text wraps inside its cell."""


@dataclass(frozen=True)
class _TexColumn:
    """A column of a table; head and cells are LaTeX."""

    head: str
    cells: Sequence[str]
    is_text: bool = False

    @property
    def width(self) -> float:
        """Width in letters, roughly, with the gap to the next column."""
        longest = max(len(_COMMAND.sub("x", text)) for text in (self.head, *self.cells))
        return _GAP + (min(longest, _WIDEST_TEXT) if self.is_text else longest)

    @property
    def alignment(self) -> str:
        if not self.is_text:
            return "r"
        return "l" if self.width < _WIDEST_TEXT + _GAP else rf"p{{{_WIDEST_TEXT}ex}}"


def latex_document(scores: Scores, tables: Sequence[Table] = (), settings: tuple[Setting, ...] = ()) -> str:
    """The scores, as mean and standard deviation over the cases where there are several, then the other tables.

    A document includes it with the input command, and needs the packages booktabs and longtable. settings: how the
    scores were made, beside the settings that they hold.
    """
    origin = f"% made by napari-medseg {__version__}; {printable(RULE_TEXTS[scores.config.preset])}"
    text = text_of((*metrics_settings(scores.config), *settings))
    parts = ["% needs the packages booktabs and longtable", origin, *_overview(scores, text)]
    for table in tables:
        parts += ["", *_whole(table)]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets literally. A character that cannot be printed, such as a line end, becomes a space."""
    return "".join(_SPECIAL.get(c, c) for c in printable(text))


def cell(value: Value, decimals: int = 3) -> str:
    """A value as LaTeX: infinity as its sign, NaN as a dash."""
    if isinstance(value, str):
        return escaped(value)
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"


def _whole(table: Table) -> Iterator[str]:
    """Every row and column of a table."""
    columns = [
        _TexColumn(
            escaped(column.heading), [cell(row[name], column.decimals) for row in table.rows], name in table.texts
        )
        for name, column in table.columns.items()
    ]
    named = sum(1 for _ in itertools.takewhile(lambda name: name == "label" or name in table.texts, table.columns))
    yield from _meanings(table.columns.values())
    yield from _pages(escaped(table.caption), columns[:named], columns[named:])


def _overview(scores: Scores, settings: str) -> Iterator[str]:
    """A row per label, and a column per metric that judges."""
    groups: dict[int, list[Row]] = {}
    for row in scores.rows:
        groups.setdefault(row.label, []).append(row)
    labels = [rows for _, rows in sorted(groups.items())]
    metrics = {name: scores.definitions[name] for name in judged_metrics()}
    names = _TexColumn("label", [escaped(rows[0].name) for rows in labels], is_text=True)
    columns = [
        _TexColumn(escaped(metric.heading), [_spread([float(getattr(row, name)) for row in rows]) for rows in labels])
        for name, metric in metrics.items()
    ]
    caption = "Scores"
    if scores.cases:
        caption = rf"Scores over {len(scores.cases)} cases: mean $\pm$ standard deviation of the finite values"
    yield from _meanings(metrics.values())
    yield from _pages(f"{caption} ({escaped(settings)})", [names], columns)


def _meanings(columns: Iterable[Column]) -> Iterator[str]:
    """The meaning of each column as comments, for the author of the caption."""
    yield from (f"% {printable(column.heading)}: {printable(column.formula)}" for column in columns)


def _spread(values: Sequence[float]) -> str:
    """A single value as it is; for several, mean and standard deviation of the finite ones."""
    finite = [v for v in values if math.isfinite(v)]
    if len(values) == 1 or not finite:
        return cell(values[0] if len(values) == 1 else math.nan)
    sd = float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
    return rf"{cell(float(np.mean(finite)))} $\pm$ {cell(sd)}"


def _pages(caption: str, named: Sequence[_TexColumn], columns: Sequence[_TexColumn]) -> Iterator[str]:
    """The table in parts that fit the width of a page. Each part begins with the columns that name the rows."""
    parts: list[list[_TexColumn]] = [[]]
    for column in columns:
        if parts[-1] and sum(c.width for c in (*named, *parts[-1], column)) > _PAGE_WIDTH:
            parts.append([])
        parts[-1].append(column)
    for number, part in enumerate(parts, 1):
        count = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield from _longtable(caption + count, [*named, *part])


def _longtable(caption: str, columns: Sequence[_TexColumn]) -> Iterator[str]:
    """A table that can run over several pages. caption: LaTeX."""
    heads = [r"\toprule", " & ".join(column.head for column in columns) + r" \\", r"\midrule"]
    yield rf"\begin{{longtable}}{{{''.join(column.alignment for column in columns)}}}"
    yield rf"\caption{{{caption}}} \\"
    yield from (*heads, r"\endfirsthead", *heads, r"\endhead")
    yield from (" & ".join(row) + r" \\" for row in zip(*(column.cells for column in columns), strict=True))
    yield r"\bottomrule"
    yield r"\end{longtable}"
