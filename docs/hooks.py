"""Fills the pages with what the program says of itself, so that it is written once."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any
from unittest.mock import patch

from napari_medseg.cli.parser import build_parser

HELP = re.compile(r"<!-- help: (?P<command>\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help of a command in the place of its mark."""
    return HELP.sub(lambda mark: f"```text\n{help_of(mark['command'])}```", markdown)


def help_of(command: str) -> str:
    """What `napari-medseg COMMAND --help` prints, 88 columns wide."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    with patch.dict(os.environ, COLUMNS="88"):
        text: str = commands.choices[command].format_help()
    return text
