"""The errors that a user can cause. Each is one line: what was expected, what came, and the way out.

Every class is also the built-in that a caller would naturally catch. The command line turns a `MedsegError` into exit
status 2. Any other exception that escapes is a defect of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class MedsegError(Exception):
    """The input or the request is wrong; the message is one line for the user."""

    def __str__(self) -> str:
        return " ".join(str(self.args[0]).split()) if self.args else type(self).__name__


class InputError(MedsegError, ValueError):
    """A value, layer or combination of inputs is not what the function needs."""


class GridMismatchError(InputError):
    """Two things that must lie on the same grid do not."""


class FileError(MedsegError, OSError):
    """A file is missing, unreadable, damaged or not what its name says."""


class ModelFileError(FileError):
    """A model file breaks the closed schema, is damaged, or does not fit its network."""


class UnknownNameError(MedsegError, LookupError):
    """A name is unknown; the message lists the known ones."""


class UnknownKnobError(UnknownNameError, TypeError):
    """A keyword is not a field of the function's config class; the message lists the fields."""


class NotSupportedError(MedsegError, NotImplementedError):
    """The request is understood, and this version cannot do it."""


class MedsegWarning(UserWarning):
    """An input is odd in a way that the user should know; the work goes on."""


def warn(text: str) -> None:
    """Warn the user of something odd: one line that names the file or layer."""
    # The warning points at whoever called the library: this is 1, its caller 2, a function of the reader 3.
    warnings.warn(text, MedsegWarning, stacklevel=4)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """ "did you mean unet3d? " for a name that resembles one of the choices, in any case of letters; else ""."""
    import difflib

    written = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), written, n=2)
    return f"did you mean {' or '.join(written[choice] for choice in close)}? " if close else ""
