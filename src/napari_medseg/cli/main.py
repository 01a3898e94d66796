"""The command line: `napari-medseg`, a thin rim over the functions that scripts use.

Exit status: 0 done; 2 the input or the request is wrong (one line on stderr, nothing written); 130 interrupted; 1 a
defect of ours.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from napari_medseg.cli import terminal
from napari_medseg.cli.parser import build_parser
from napari_medseg.errors import MedsegError

if TYPE_CHECKING:
    from argparse import Namespace

DONE, DEFECT, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; --help (0) and a wrong flag (2) leave by argparse's SystemExit."""
    started_s = time.monotonic()
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        return REFUSED
    args.started_s = started_s
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
