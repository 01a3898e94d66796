"""A report in one HTML file: tables whose headings explain themselves, plots, and slices of the worst places.

The page is `report.html.jinja`. It has no script, its pictures are inside, and a policy forbids the browser to run or
load anything. Names come from files, and files from strangers. So every text is made printable and escaped where it
enters the page, not where it is written.
"""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from io import BytesIO
from typing import TYPE_CHECKING, Any

from napari_medseg._version import __version__
from napari_medseg.metrics.pairwise.columns import RULE_TEXTS, SUMMARIES
from napari_medseg.metrics.pairwise.scores import Scores, Value
from napari_medseg.metrics.reports import plots
from napari_medseg.metrics.reports.slices import Picture
from napari_medseg.metrics.study.settings import Setting, metrics_settings, text_of
from napari_medseg.metrics.study.tables import Table, printable, scores_table

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.axes import Axes

_PLOTTED = ("dice", "nsd", "hd95_mm", "rvd")
"""The columns of the scores that have a plot."""
_NAME = 28
"""Letters of a name in a plot."""


@dataclass(frozen=True)
class Figure:
    """A picture in the page."""

    caption: str
    source: str
    """A data URI."""


def html_document(
    scores: Scores,
    tables: Sequence[Table] = (),
    pictures: Sequence[Picture] = (),
    settings: tuple[Setting, ...] = (),
) -> str:
    """The whole report as text. settings: how the scores were made, beside the settings that they hold."""
    return template("napari_medseg.metrics.reports", "report.html.jinja").render(
        scores=scores,
        numbers=[(SUMMARIES["pa"], scores.pa), (SUMMARIES["miou"], scores.miou)],
        rules=RULE_TEXTS[scores.config.preset],
        version=__version__,
        settings=text_of((*metrics_settings(scores.config), *settings)),
        table=scores_table(scores),
        plots=list(_plots(scores)),
        tables=[(table, text_of(table.settings)) for table in tables],
        places=[figure_of(picture) for picture in pictures],
    )


def template(package: str, name: str) -> Template:
    """A page of a package, in an environment that escapes by default and refuses a name that it is not given."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_printable, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    page = resources.files(package) / name
    return environment.from_string(page.read_text(encoding="utf-8"))


def _printable(value: Any) -> Any:
    """What an expression of the page yields: text becomes printable; parts of the page pass, which have `__html__`."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _cell(value: Value, decimals: int) -> str:
    """A value as people read it. The page escapes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"


def _plots(scores: Scores) -> Iterator[Figure]:
    """Bars for one case; for several cases boxes, and the agreement of each label's volumes."""
    scores = replace(scores, rows=tuple(replace(row, name=_short(row.name)) for row in scores.rows))
    labels = sorted({row.label for row in scores.rows})
    draw = plots.draw_boxes if scores.cases else plots.draw_bars
    for metric in _PLOTTED if labels else ():
        yield plot(
            partial(draw, scores=scores, column=metric),
            1.0 + 0.22 * len(labels),
            f"{scores.definitions[metric].title} per label",
        )
    for of_label in (scores.of_label(label) for label in labels):
        if len(of_label.rows) > 1:
            text = f"{of_label.rows[0].name}: volumes (Bland-Altman)"
            yield plot(partial(plots.draw_bland_altman, scores=of_label), 3.2, text)


def plot(draw: Callable[[Axes], None], height_inches: float, caption: str) -> Figure:
    """A plot as a picture in the page. Names are shown as they are, never read as formulas."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    file = BytesIO()
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "napari-medseg"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # letters that the plot's font lacks are drawn as boxes
        figure = Canvas(figsize=(6, height_inches), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return Figure(caption, _data_uri("svg+xml", file.getvalue()))


def figure_of(picture: Picture) -> Figure:
    """A picture of a slice, in the page."""
    caption = f"{picture.case}, {picture.caption}" if picture.case else picture.caption
    return Figure(caption, _data_uri("png", picture.png))


def _short(name: str) -> str:
    """A name that leaves room for the plot beside it."""
    return f"{printable(name)[:_NAME]}…" if len(name) > _NAME else printable(name)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
