"""The command line: its commands, their flags, and how one is run. Nothing heavy is imported.

A knob's help is the text under its field in `config`. Exit status: 0 done; 2 the input or the request is wrong (one
line on stderr, nothing written); 130 interrupted; 1 a defect of ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from napari_medseg._version import __version__
from napari_medseg.cli import convert, demo, evaluate, info, networks, plan, segment, terminal, train
from napari_medseg.cli.asking import explain, suggest
from napari_medseg.cli.labels import interact, refine
from napari_medseg.errors import MedsegError, did_you_mean
from napari_medseg.io.disk.own import begin_own_process

DONE, DEFECT, REFUSED, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """A command: its name, the text of its help, its flags, and what runs it."""

    name: str
    text: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]

    @classmethod
    def of(cls, module: ModuleType) -> Command:
        """The command that a module is."""
        return cls(module.NAME, module.__doc__ or "", module.add_arguments, module.run)


COMMANDS = (
    *map(Command.of, (demo, segment, train, plan, evaluate, explain, networks, info, convert, refine)),
    Command("interact", interact.INTERACT, interact.add_interact_arguments, interact.run_interact),
    Command("propagate", interact.PROPAGATE, interact.add_propagate_arguments, interact.run_propagate),
    Command("clean", interact.CLEAN, interact.add_clean_arguments, interact.run_clean),
    Command("instances", interact.INSTANCES, interact.add_instances_arguments, interact.run_instances),
    Command.of(suggest),
)


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
        summary, _, rest = command.text.partition("\n")
        sub = commands.add_parser(command.name, help=summary, description=f"{summary}\n{rest}")
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; --help (0) and a wrong flag (2) leave by argparse's SystemExit.

    argv: by default those of the process, which is ours alone then.
    """
    if argv is None:
        begin_own_process()
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        return REFUSED
    with terminal.warnings_as_lines():
        return _status_of(args.run, args)


def _status_of(command: Callable[[Namespace], None], args: Namespace) -> int:
    try:
        command(args)
    except MedsegError as error:
        terminal.print_note(f"error: {error}")
        return REFUSED
    except KeyboardInterrupt:
        terminal.print_note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads our output has stopped, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush into the pipe again
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the outermost border: whatever escapes so far is a defect of ours
        terminal.print_note(f"error: a defect of napari-medseg, please report it: {type(error).__name__}: {error}")
        traceback.print_exc(file=sys.stderr)
        return DEFECT
    return DONE
