"""The log of a session as JSON: what was done, on which volume. Read strictly: it may come from anyone.

A log says what a person did, not what it gave; replaying it gives the same masks bit for bit. Masks that a person drew,
or that a session started from, are packed bits, deflated, in base64.
"""

from __future__ import annotations

import base64
import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from napari_medseg.arrays.boxes import Box as VoxelBox
from napari_medseg.errors import FileError, InputError
from napari_medseg.geometry import Shape3
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.steps import (
    MOST_NAME,
    AddStep,
    DeleteStep,
    LockStep,
    Method,
    NameStep,
    StartStep,
    Step,
)
from napari_medseg.io.disk import files
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask
from napari_medseg.volume import MAX_LABEL, Volume

_MOST_BYTES = 1 << 28
"""Of a log: a thousand painted slices of 512 x 512 voxels take some MiB."""
_MOST_MASK_VOXELS = 1 << 30
"""Of all masks of a log, one after the other: what inflates to more is refused before it does."""
_BLOCKS, _BLOCK = 3, 16
"""A fingerprint reads that many blocks along each axis, of that many voxels a side."""

_Label = Annotated[int, Meta(ge=1, le=MAX_LABEL)]
_Index = Annotated[int, Meta(ge=0, le=2**40)]
_Triple = tuple[_Index, _Index, _Index]
_Pair = tuple[_Index, _Index]
_Axis = Annotated[int, Meta(ge=0, le=2)]


class _Fingerprint(Struct, forbid_unknown_fields=True):
    shape: _Triple
    channels: Annotated[int, Meta(ge=1, le=4096)]
    dtype: Annotated[str, Meta(max_length=16)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Bits(Struct, forbid_unknown_fields=True):
    shape: Annotated[list[_Index], Meta(min_length=2, max_length=3)]
    deflated: str


class _Point(Struct, forbid_unknown_fields=True, tag="point", tag_field="do"):
    at: _Triple
    label: _Label
    positive: bool = True


class _Box(Struct, forbid_unknown_fields=True, tag="box", tag_field="do"):
    low: _Triple
    high: _Triple
    label: _Label
    positive: bool = True


class _Scribble(Struct, forbid_unknown_fields=True, tag="scribble", tag_field="do"):
    voxels: Annotated[list[_Triple], Meta(min_length=1)]
    label: _Label
    positive: bool = True


class _Lasso(Struct, forbid_unknown_fields=True, tag="lasso", tag_field="do"):
    polygon: Annotated[list[tuple[float, float]], Meta(min_length=3)]
    axis: _Axis
    index: _Index
    label: _Label
    positive: bool = True


class _Slice(Struct, forbid_unknown_fields=True, tag="slice", tag_field="do"):
    mask: _Bits
    axis: _Axis
    index: _Index
    label: _Label
    positive: bool = True


class _Lock(Struct, forbid_unknown_fields=True, tag="lock", tag_field="do"):
    label: _Label


class _Unlock(Struct, forbid_unknown_fields=True, tag="unlock", tag_field="do"):
    label: _Label


class _Name(Struct, forbid_unknown_fields=True, tag="name", tag_field="do"):
    label: _Label
    name: Annotated[str, Meta(min_length=1, max_length=MOST_NAME)]


class _Delete(Struct, forbid_unknown_fields=True, tag="delete", tag_field="do"):
    label: _Label


class _StartLabel(Struct, forbid_unknown_fields=True):
    label: _Label
    box: tuple[_Pair, _Pair, _Pair]
    mask: _Bits
    name: Annotated[str, Meta(max_length=MOST_NAME)] = ""


class _Start(Struct, forbid_unknown_fields=True, tag="start", tag_field="do"):
    labels: list[_StartLabel]


_Prompt: TypeAlias = _Point | _Box | _Scribble | _Lasso | _Slice


class _Together(Struct, forbid_unknown_fields=True, tag="together", tag_field="do"):
    """Prompts that were weighed together."""

    prompts: Annotated[list[_Prompt], Meta(min_length=1)]


_Step: TypeAlias = _Prompt | _Lock | _Unlock | _Name | _Delete | _Start | _Together


class _Log(Struct, forbid_unknown_fields=True):
    napari_medseg_interaction: Literal[1]
    steps: list[_Step]
    method: Literal["auto", "geodesic"] = "auto"
    volume: _Fingerprint | None = None
    """None in a log that was written by hand: it is replayed on any volume that its prompts fit into."""


def fingerprint(volume: Volume) -> _Fingerprint:
    """What tells a volume from others: its shape, its type, and a hash of some blocks of its voxels."""
    data, shape = volume.data, volume.grid.shape
    digest = hashlib.sha256()
    starts = [sorted({(n - min(n, _BLOCK)) * k // (_BLOCKS - 1) for k in range(_BLOCKS)}) for n in shape]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                block = np.asarray(data[:, z : z + _BLOCK, y : y + _BLOCK, x : x + _BLOCK])
                digest.update(np.ascontiguousarray(block).astype(block.dtype.newbyteorder("<")).tobytes())
    dtype = np.dtype(data.dtype)
    return _Fingerprint(shape, int(data.shape[0]), f"{dtype.kind}{8 * dtype.itemsize}", digest.hexdigest())


def save(path: str | PathLike[str], volume: Volume, steps: Sequence[Step], method: Method) -> None:
    """Write a log; an existing one is replaced at the end, or left as it was on a fault.

    Raises FileError, and InputError where `read` would refuse the log because it is too large.
    """
    log = _Log(1, [_written(step) for step in steps], method, fingerprint(volume))
    content = msgspec.json.format(msgspec.json.encode(log), indent=1)
    if _voxels(log) > _MOST_MASK_VOXELS or len(content) > _MOST_BYTES:
        raise InputError(
            f"{path}: this session has become too long to be saved ({_voxels(log)} voxels of masks where "
            f"{_MOST_MASK_VOXELS} are the most, {len(content)} bytes where {_MOST_BYTES} are): save its labels, and "
            "start a new session from them"
        )
    files.replace_bytes(Path(path), content)


def read(path: str | PathLike[str], volume: Volume) -> tuple[Method, list[Step]]:
    """(the method, the steps) of a log that was made on the volume, or of the list of its steps, written by hand.

    Raises FileError for what is no log, InputError where it is of another volume, or where its masks do not fit.
    """
    log = _read(Path(path))
    if log.volume is not None and log.volume != (found := fingerprint(volume)):
        raise InputError(
            f"{path}: this session is of another volume: it has {_described(log.volume)}, "
            f"{volume.name or 'the volume given'} {_described(found)}: give the volume that it was made on"
        )
    if _voxels(log) > _MOST_MASK_VOXELS:
        raise InputError(f"{path}: its masks have {_voxels(log)} voxels in all, where {_MOST_MASK_VOXELS} are the most")
    try:
        return log.method, [_step(step, volume.grid.shape) for step in log.steps]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path) -> _Log:
    size = files.check_regular(path)
    if size > _MOST_BYTES:
        raise FileError(f"{path}: {size} bytes, where the log of a session has {_MOST_BYTES} at the most")
    try:
        found: _Log | list[_Step] = msgspec.json.decode(path.read_bytes(), type=_Log | list[_Step])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise FileError(f"{path}: not the log of an interactive session: {error}{_words(str(error))}") from error
    return found if isinstance(found, _Log) else _Log(1, found)


def _words(fault: str) -> str:
    """What "do" may say, where the fault is there; else empty."""
    kinds = get_args(_Prompt if ".prompts[" in fault else _Step)
    return f'; "do" is one of {", ".join(kind.__struct_config__.tag for kind in kinds)}' if "do`" in fault else ""


def _voxels(log: _Log) -> int:
    """Of all masks that a log says it holds."""
    return sum(math.prod(bits.shape) for bits in _masks(log.steps))


def _masks(steps: Sequence[_Step]) -> Iterator[_Bits]:
    """Every mask that steps of a log hold."""
    for step in steps:
        match step:
            case _Slice():
                yield step.mask
            case _Start():
                yield from (one.mask for one in step.labels)
            case _Together():
                yield from _masks(step.prompts)


def _written(step: Step) -> _Step:
    if isinstance(step, LockStep):
        return _Lock(step.label) if step.locked else _Unlock(step.label)
    if isinstance(step, NameStep):
        return _Name(step.label, step.name)
    if isinstance(step, DeleteStep):
        return _Delete(step.label)
    if isinstance(step, StartStep):
        return _Start([_start_label(label, mask, step.names.get(label, "")) for label, mask in step.masks.items()])
    prompts = [_written_prompt(prompt) for prompt in step.prompts]
    return prompts[0] if len(prompts) == 1 else _Together(prompts)


def _written_prompt(prompt: Prompt) -> _Prompt:
    match prompt:
        case Point():
            return _Point(prompt.at, prompt.label, prompt.positive)
        case Box():
            return _Box(prompt.low, prompt.high, prompt.label, prompt.positive)
        case Scribble():
            return _Scribble([(z, y, x) for z, y, x in prompt.voxels.tolist()], prompt.label, prompt.positive)
        case Lasso():
            polygon = [(a, b) for a, b in prompt.polygon.tolist()]
            return _Lasso(polygon, prompt.axis, prompt.index, prompt.label, prompt.positive)
        case SliceMask():
            return _Slice(_packed(prompt.mask), prompt.axis, prompt.index, prompt.label, prompt.positive)


def _start_label(label: int, mask: SparseMask, name: str) -> _StartLabel:
    z, y, x = ((side.start, side.stop) for side in mask.box)
    return _StartLabel(label, (z, y, x), _packed(mask.inside), name[:MOST_NAME])


def _step(step: _Step, shape: Shape3) -> Step:
    match step:
        case _Lock():
            return LockStep(step.label, True)
        case _Unlock():
            return LockStep(step.label, False)
        case _Name():
            return NameStep(step.label, step.name)
        case _Delete():
            return DeleteStep(step.label)
        case _Start():
            masks = dict(_started(step, shape))
            return StartStep(masks, {one.label: one.name for one in step.labels if one.name})
        case _Together():
            return AddStep(tuple(_prompt(one, shape) for one in step.prompts))
        case _:
            return AddStep((_prompt(step, shape),))


def _started(step: _Start, shape: Shape3) -> Iterator[tuple[int, SparseMask]]:
    for one in step.labels:
        if any(not 0 <= a <= b <= n for (a, b), n in zip(one.box, shape, strict=True)):
            raise InputError(
                f"label {one.label} starts from a mask in the box {one.box}, outside of the volume {shape}"
            )
        z, y, x = (slice(a, b) for a, b in one.box)
        box: VoxelBox = (z, y, x)
        yield one.label, SparseMask.of(box, _unpacked(one.mask, tuple(b - a for a, b in one.box)))


def _prompt(step: Any, shape: Shape3) -> Prompt:
    match step:
        case _Point():
            return Point(step.at, label=step.label, positive=step.positive)
        case _Box():
            return Box(step.low, step.high, label=step.label, positive=step.positive)
        case _Scribble():
            return Scribble(np.array(step.voxels, dtype=np.int64), label=step.label, positive=step.positive)
        case _Lasso():
            polygon = np.array(step.polygon, dtype=np.float64)
            return Lasso(polygon, step.axis, step.index, label=step.label, positive=step.positive)
        case _Slice():
            across = tuple(n for axis, n in enumerate(shape) if axis != step.axis)
            mask = _unpacked(step.mask, across)
            return SliceMask(mask, step.axis, step.index, label=step.label, positive=step.positive)
    raise AssertionError(f"no prompt: {type(step).__name__}")


def _packed(mask: npt.NDArray[np.bool_]) -> _Bits:
    deflated = zlib.compress(np.packbits(mask).tobytes(), 6)
    return _Bits(list(mask.shape), base64.b64encode(deflated).decode("ascii"))


def _unpacked(bits: _Bits, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The mask; never larger than `shape`, whatever the bits claim. InputError where they do not fit."""
    if tuple(bits.shape) != shape:
        raise InputError(f"a mask of the log has the shape {tuple(bits.shape)}; {shape} is expected")
    count = int(np.prod(shape))
    wanted = (count + 7) // 8
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(base64.b64decode(bits.deflated, validate=True), wanted + 1)
    except (ValueError, zlib.error) as error:
        raise InputError(f"a mask of the log is damaged: {error}") from error
    if len(raw) != wanted:
        raise InputError(f"a mask of the log is damaged: it does not hold the {wanted} bytes of a mask of {shape}")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=count).reshape(shape).astype(bool)


def _described(found: _Fingerprint) -> str:
    size = "x".join(map(str, found.shape))
    return f"{size} voxels of {found.dtype} in {found.channels} channels, hash {found.sha256[:8]}"
