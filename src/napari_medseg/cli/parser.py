"""The commands and their flags. A knob's help is the text under its field in `config`; nothing heavy is imported."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from napari_medseg._version import __version__
from napari_medseg.cli import convert, demo, evaluate, info, networks, segment, train
from napari_medseg.errors import did_you_mean

COMMANDS = (demo, segment, train, evaluate, networks, info, convert)


class Parser(argparse.ArgumentParser):
    """argparse, with a wrong flag refused in one line, and the name that was meant."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = did_you_mean(str(value), map(str, action.choices or ())).strip()
            error.message += f": {hint}" if hint else ""
            raise

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else ":"
        self.exit(2, f"error: {message}{end} see {self.prog} --help\n")


def build_parser() -> Parser:
    """The whole command line; each command's namespace carries the function to run as `run`: None without one."""
    parser = Parser(prog="napari-medseg", description="Segment, train and measure 3D medical volumes.")
    parser.add_argument("--version", action="version", version=f"napari-medseg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(run=None)
    for command in COMMANDS:
        summary, _, rest = (command.__doc__ or "").partition("\n")
        sub = commands.add_parser(command.NAME, help=summary, description=f"{summary}\n{rest}")
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser
