"""Where results go: one path per input, chosen and checked before anything is read or written."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from napari_medseg import strictjson
from napari_medseg.errors import FileError, InputError, MedsegError, MedsegWarning
from napari_medseg.io import choice, formats
from napari_medseg.io.disk import files, keeping, locks

DEFAULT_SUFFIX = ".nii.gz"
"""Suffix of outputs in a folder."""
SAVED_BY = "saved_by"
"""What the provenance of labels has that were saved from a window."""
_OF_SEVERAL_FILES = (".hdr", ".img", ".mhd", ".nhdr")
"""Suffixes of formats that lie in several files, which name each other."""
_SEVERAL = "several outputs"
"""Name that is locked for a run that writes several outputs into a folder."""


def output_paths(inputs: Sequence[Path], out: str, names: Sequence[str] | None = None) -> list[Path]:
    """One output per name: `out` is a file for one name, a pattern with "{name}", or a folder.

    names: of the cases; by default those of the inputs, which are then one a case.
    Raises InputError for a format that is not written, for two inputs with one output and for an output that is an
    input, FileError where a folder has the name of an output file.
    """
    outputs = [Path(text) for text in _spell_out(names or [formats.strip_suffix(path) for path in inputs], out)]
    for path in outputs:
        check_writable(path)
    twice = [path for path, count in Counter(outputs).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: several images would be written there: their names must differ")
    check_keeps_inputs(inputs, outputs)
    return outputs


def check_writable(path: Path) -> None:
    """Raise InputError unless the name ends in a suffix that is written.

    Raises FileError where a folder has the name, and for a .dcm where a DICOM file that is not ours is there.
    """
    files.check_name(path)
    suffixes = _written_suffixes()
    if not path.name.lower().endswith(tuple(suffixes)):
        raise InputError(f"{path}: no format is written under this name: end it in one of {', '.join(suffixes)}")
    _check_no_folder(path)
    if path.suffix.lower() == ".dcm" and os.path.exists(path):  # before pydicom is loaded
        from napari_medseg.io.dicom.seg import check_replaceable

        check_replaceable(path)


def check_keeps_inputs(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Raise InputError where an output would replace an input, or a store that an input lies in."""
    whole = [_header(choice.split(path)[0]) for path in inputs]  # a name that is written to is never a part
    kept = {place for path in whole for place in (path, *path.parents)}
    for path in outputs:
        if _header(path) in kept:
            raise InputError(f"{path}: the output would replace its input: give another name")


def check_document(path: Path, kind: str, key: str) -> None:
    """Raise InputError unless a JSON document may be written: only one of the same kind is replaced.

    kind: what the document is, for the message; key: the member that tells it from others.
    """
    files.check_name(path)
    _check_no_folder(path)
    if path.suffix.lower() != ".json":
        raise InputError(f"{path}: a {kind} is written as .json: end its name so")
    if path.exists() and key not in members_of(path):
        raise InputError(f"{path}: a file that is no {kind} is there, and would be replaced: give another name")


def members_of(path: Path) -> Container[str]:
    """The names in a JSON object; none for another file."""
    with suppress(OSError, ValueError):
        document = strictjson.parse(path.read_text("utf-8"))
        return document if isinstance(document, dict) else ()
    return ()


def earlier_labels(path: Path) -> Path | None:
    """The name under which labels at `path` are kept that no run of ours wrote; None where there are none.

    A file of another kind is kept, too; labels saved from a window are, whatever made them first: a person had them in
    hand. Raises InputError where such labels lie in several files, which cannot be renamed.
    """
    if not path.exists() or _is_of_a_run(path):
        return None
    if path.suffix.lower() in _OF_SEVERAL_FILES:
        raise InputError(f"{path}: labels that no run wrote are there, and would be replaced: give another name")
    return keeping.name_to_keep(path, _suffix(path))


@contextmanager
def keeping_earlier(path: Path) -> Iterator[None]:
    """Inside, what `earlier_labels` keeps lies under its other name; it comes back where the work inside fails."""
    with keeping.stepping_aside(path, _suffix(path)) if earlier_labels(path) else nullcontext():
        yield


def _suffix(path: Path) -> str:
    return path.name[len(formats.strip_suffix(path)) :]


def _is_of_a_run(path: Path) -> bool:
    """Whether labels at a path say how they were made, and no person saved them since; a bitmap can say nothing."""
    if path.suffix.lower() == ".bmp":
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MedsegWarning)  # what is odd about a file that goes is no news
            provenance = formats.peek(path, as_labels=True).provenance
    except MedsegError:
        return path.is_dir()  # a folder that is no image is refused where it would be replaced
    return bool(provenance) and SAVED_BY not in provenance


def _header(path: Path) -> Path:
    """What a path leads to. Both halves of a NIfTI pair lead to the header: they are written together."""
    whole = path.resolve()
    return whole.with_suffix(".hdr") if whole.suffix.lower() in (".img", ".hdr") else whole


def _check_no_folder(path: Path) -> None:
    if path.suffix.lower() != ".zarr":
        files.check_no_folder(path)


@contextmanager
def locked(*paths: Path) -> Iterator[None]:
    """Inside, the folders of the outputs exist and no other run writes to them.

    New folders are removed again where the work fails. Raises FileError, before anything else is done, where another
    run writes to one of the outputs, where a folder cannot be made, and where a folder has the name of an output file.
    """
    for path in paths:
        _check_no_folder(path)
    # Several outputs share one lock per folder: a process cannot hold thousands of files open.
    targets = set(paths) if len(paths) == 1 else {path.parent / _SEVERAL for path in paths}
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(_folder_for(path))
        for target in sorted(targets):
            stack.enter_context(locks.locked(target))
        yield


@contextmanager
def _folder_for(path: Path) -> Iterator[None]:
    missing = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: its folder cannot be made: {error.strerror}") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # a folder that holds something stays
            for folder in missing:
                folder.rmdir()
        raise


def _spell_out(names: Sequence[str], out: str) -> list[str]:
    if "{name}" in out:
        return [out.replace("{name}", name) for name in names]
    if _means_folder(out):
        return [os.path.join(out, name + DEFAULT_SUFFIX) for name in names]
    if len(names) > 1:
        raise InputError(f"{out}: {len(names)} images need a folder or a pattern with {{name}} in it as their output")
    return [out]


def _means_folder(out: str) -> bool:
    """Whether `out` ends in a slash, has no suffix, or is an existing folder that is not named as an image is."""
    path = Path(out)
    if path.suffix.lower() == ".zarr":
        return False
    if out.endswith(("/", os.sep)) or not path.suffix:
        return True
    return path.is_dir() and not path.name.lower().endswith(tuple(_written_suffixes()))


def _written_suffixes() -> list[str]:
    return [suffix for format_ in formats.FORMATS.values() for suffix in format_.written]
