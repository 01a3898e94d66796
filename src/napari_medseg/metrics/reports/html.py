"""A report in one HTML file: tables whose headings explain themselves, plots, and slices of the worst places.

Nothing in it runs or is loaded from elsewhere: pictures are inside, there is no script, and a policy tells the browser
so. Every text that comes from a file or a name is escaped.
"""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from napari_medseg._version import __version__
from napari_medseg.metrics.pairwise.columns import RULE_TEXTS, SUMMARIES
from napari_medseg.metrics.pairwise.scores import Scores, Value
from napari_medseg.metrics.reports import plots
from napari_medseg.metrics.reports.slices import Picture
from napari_medseg.metrics.study.settings import Setting, metrics_settings, text_of
from napari_medseg.metrics.study.tables import Table, printable, scores_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #888; cursor: help; position: sticky; top: 0; background: #fff; }
.text { text-align: left; }
.wide { overflow: auto; max-height: 36em; }
.row { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start; }
figure { margin: 0; max-width: 34em; }
img { max-width: 100%; }
figcaption, .note { font-size: 13px; color: #555; }
.note { margin: -.4em 0 .6em; }
@media print { .wide { max-height: none; overflow: visible; } table { font-size: 8px; } th, td { padding: .1em .3em; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
#: what the plots show
_PLOTTED = ("dice", "nsd", "hd95_mm", "rvd")
#: letters of a name in a plot
_NAME = 28
_LEGEND = (
    "Reference: green, solid; prediction: orange, dashed. The ring is where the two surfaces of the label are farthest "
    "apart; of several cases, that with the lowest Dice is shown."
)


def html_document(
    scores: Scores,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    settings: tuple[Setting, ...] = (),
) -> str:
    """The whole report as text. settings: of the scores, beside those that they know."""
    parts = [
        _heading(scores, settings),
        _section("Scores", _table(scores_table(scores))),
        _section("Plots", f'<div class="row">{"".join(_plots(scores))}</div>'),
        *(_section(table.title, _note(table.settings) + _table(table)) for table in tables),
    ]
    if pictures:
        shown = "".join(_picture(p) for p in pictures)
        parts.append(_section("Worst places", f'<p>{_LEGEND}</p><div class="row">{shown}</div>'))
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Segmentation scores</title><style>{_STYLE}</style>"
    )
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _heading(scores: Scores, settings: tuple[Setting, ...]) -> str:
    """What was measured, by which rules, and the numbers of the whole."""
    cases = f"{len(scores.cases)} cases. " if scores.cases else ""
    rules = _text(RULE_TEXTS[scores.config.preset])
    numbers = ", ".join(
        f'<span title="{_text(SUMMARIES[name].formula)}">{SUMMARIES[name].title} {value:.4f}</span>'
        for name, value in (("pa", scores.pa), ("miou", scores.miou))
    )
    return (
        f"<h1>Segmentation scores</h1><p>{cases}{numbers}. A is the reference, B the prediction; {rules}. "
        f"The pointer over a heading shows its definition. Made by napari-medseg {__version__}.</p>"
        f"{_note((*metrics_settings(scores.config), *settings))}"
    )


def _note(settings: tuple[Setting, ...]) -> str:
    """How numbers were made, below their title."""
    return f'<p class="note">{_text(text_of(settings))}</p>' if text_of(settings) else ""


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{content}"


def _table(table: Table) -> str:
    kinds = {c: ' class="text"' if c in table.texts else "" for c in table.columns}
    columns = table.columns.items()
    heads = "".join(
        f'<th{kinds[c]} title="{_text(column.formula)}">{_text(column.heading)}</th>' for c, column in columns
    )
    rows = (
        "<tr>" + "".join(f"<td{kinds[c]}>{_cell(row[c], column.decimals)}</td>" for c, column in columns) + "</tr>"
        for row in table.rows
    )
    body = "\n".join(rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _cell(value: Value, decimals: int) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"


def _plots(scores: Scores) -> Iterator[str]:
    """Bars of one case; of several boxes over the cases, and the agreement of each label's volumes."""
    scores = replace(scores, rows=tuple(replace(row, name=_short(row.name)) for row in scores.rows))
    labels = sorted({row.label for row in scores.rows})
    draw = plots.draw_boxes if scores.cases else plots.draw_bars
    for metric in _PLOTTED if labels else ():
        yield _plot(
            partial(draw, scores=scores, column=metric),
            1.0 + 0.22 * len(labels),
            f"{scores.definitions[metric].title} per label",
        )
    for of_label in (scores.of_label(label) for label in labels):
        if len(of_label.rows) > 1:
            text = f"{of_label.rows[0].name}: volumes (Bland-Altman)"
            yield _plot(partial(plots.draw_bland_altman, scores=of_label), 3.2, text)


def _plot(draw: Callable[[Axes], None], height_inches: float, text: str) -> str:
    """A plot as a picture in the page. Names are shown as they are, never read as formulas."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    file = BytesIO()
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "napari-medseg"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script that the plot's font lacks shows as boxes
        figure = Figure(figsize=(6, height_inches), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _figure(_text(text), _data_uri("svg+xml", file.getvalue()))


def _picture(picture: Picture) -> str:
    text = f"{picture.case}, {picture.caption}" if picture.case else picture.caption
    return _figure(_text(text), _data_uri("png", picture.png))


def _figure(caption: str, source: str) -> str:
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def _short(name: str) -> str:
    """A name that leaves room for the plot beside it."""
    return f"{printable(name)[:_NAME]}…" if len(name) > _NAME else printable(name)


def _text(text: str) -> str:
    return escape(printable(text))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
