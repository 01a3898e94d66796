"""Fill the pages with texts of the program (help, definitions of metrics), so that they are written once."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any
from unittest.mock import patch

from napari_medseg.cli.parser import build_parser
from napari_medseg.config import field_docs
from napari_medseg.metrics.pairwise.columns import COLUMNS, RULE_TEXTS, SUMMARIES, columns_of
from napari_medseg.metrics.study.study import TABLES

HELP = re.compile(r"<!-- help: (?P<command>\w+) -->")
COLUMNS_OF = re.compile(r"<!-- columns of (?P<name>\w+) -->")
COLUMNS_MARK, PRESETS_MARK = "<!-- columns -->", "<!-- presets -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page by the help of commands and the definitions of metrics."""
    markdown = markdown.replace(COLUMNS_MARK, columns_table()).replace(PRESETS_MARK, presets_table())
    markdown = COLUMNS_OF.sub(lambda mark: columns_of_table(mark["name"]), markdown)
    return HELP.sub(lambda mark: f"```text\n{help_of(mark['command'])}```", markdown)


def columns_table() -> str:
    """The columns of the scores and the numbers beside them, with their definitions."""
    rows = [(f"`{name}`", column.unit, column.formula) for name, column in {**COLUMNS, **SUMMARIES}.items()]
    return table([("column", "unit", "definition"), *rows])


def columns_of_table(name: str) -> str:
    """The columns of a table of a study, with their definitions."""
    return table(
        [("column", "definition"), *((f"`{field}`", text) for field, text in field_docs(TABLES[name][0]).items())]
    )


def presets_table() -> str:
    """How the presets differ."""
    rows = [(f"`{preset}`", rules, columns_of(preset)["rvd"].formula) for preset, rules in RULE_TEXTS.items()]
    return table([("preset", "surfaces and empty masks", "`rvd`"), *rows])


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells as a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "&#124;") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def help_of(command: str) -> str:
    """What `napari-medseg COMMAND --help` prints, 88 columns wide."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    with patch.dict(os.environ, COLUMNS="88"):
        text: str = commands.choices[command].format_help()
    return text
