"""NIfTI-1 and NIfTI-2: .nii, .nii.gz and .hdr/.img pairs. nibabel parses the header. The voxels are read here, once, so
that a cut or damaged file is noticed.

Voxels lie x fastest, so that the file's bytes in C order are (c, t, z, y, x): nothing is permuted.
"""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.quaternions import fillpositive, quat2mat
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError

from napari_medseg import geometry
from napari_medseg.errors import FileError, NotSupportedError, warn
from napari_medseg.geometry import FloatArray
from napari_medseg.io import attributes, caret, choice
from napari_medseg.io.disk import files, inflate, memory
from napari_medseg.io.stored import Stored, Unread, cut_short, grid_of, in_memory
from napari_medseg.volume import Grid, LazyArray

Array = npt.NDArray[Any]

_UNITS = {1: ("metres", 1000.0), 3: ("microns", 0.001)}
"""The unit codes of NIfTI (low three bits of xyzt_units), as (name, mm)."""
_MM_CODES = (0, 2)
"""Not stated, and mm."""
_COMMENT = 6
_LABEL_INTENT = 1002
_VECTOR_INTENT = 1007
_CIFTI_INTENTS = range(3000, 3100)
_CIFTI = 32
"""The code of the extension that holds CIFTI's XML."""
_BLOCK = 1 << 20
_MAX_EXTRA = 64 << 20
"""The most bytes behind the voxels that are passed over."""
_NIFTI1_MAX_SIZE = 32767
_MAX_HEADER = 64 << 20
"""The most bytes of a header with its extensions."""
_ROUNDED = 1e-4
"""How far above 1 the length of a quaternion's three numbers may lie: by rounding, for a turn of 180 degrees."""


@np.errstate(invalid="ignore", over="ignore")  # a header may hold any number; the values made of them are checked
def load(path: Path, *, as_labels: bool) -> Stored:
    """The content of a NIfTI file, or one time point: `FILE#3`. `FILE#channels` takes the fourth axis for channels.

    Raises FileError (damaged, impossible geometry), NotSupportedError (colour), InputError (a time point to choose).
    """
    whole, part = choice.split(path)
    header, data_path = _opened_header(whole)
    voxels = _scaled(_read_voxels(header, _shape(header, whole), data_path), header, whole)
    return _described(_without_extra_axes(voxels, whole, part), header, whole, part)


@np.errstate(invalid="ignore", over="ignore")
def peek(path: Path, *, as_labels: bool) -> Stored:
    """As `load`, without the voxels: a stream that is cut short is told only where its file is too small for it."""
    whole, part = choice.split(path)
    header, data_path = _opened_header(whole)
    shape = _shape(header, whole)
    with _opened(data_path) as stream:
        dtype, _ = _checked_place(stream, header, shape, data_path)
    scaled = _scaled(np.zeros(1, dtype.newbyteorder("=")), header, whole).dtype
    array = _without_extra_axes(np.broadcast_to(np.zeros((), scaled), shape[::-1]), whole, part)
    return _described(Unread(array.shape, array.dtype), header, whole, part)


def _opened_header(path: Path) -> tuple[Any, Path]:
    """The header, and the file with the voxels."""
    header_path, data_path = _paths(path)
    header = _read_header(header_path, is_single=header_path == data_path)
    _refuse_surfaces(header, path)
    return header, data_path


def _refuse_surfaces(header: Any, path: Path) -> None:
    codes = [extension.get_code() for extension in header.extensions]
    if int(header["intent_code"]) in _CIFTI_INTENTS or _CIFTI in codes:
        raise NotSupportedError(
            f"{path}: a CIFTI file: data on the surface of the cortex (grayordinates), not a volume: take its volume "
            f"out with `wb_command -cifti-separate`"
        )


def _described(array: LazyArray, header: Any, path: Path, part: str) -> Stored:
    """The array with all that the header says about it."""
    own = _own_attributes(header, path) or _label_table(header, path, part) or attributes.Attributes()
    if int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0 and not header.get_sform()[:3].any():
        warn(f"{path}: all numbers of the sform are 0; the qform is used")
        header["sform_code"] = 0
    grid = grid_of(str(path), array.shape, geometry.from_nifti(_affine_ras(header, path)))
    _warn_of_contradictions(header, grid, path)
    is_labels = own.is_labels or int(header["intent_code"]) == _LABEL_INTENT
    return Stored(array, grid, own.channels, own.labels, own.provenance, is_labels=is_labels, colours=own.colours)


def save(path: Path, stored: Stored) -> None:
    """Write .nii, .nii.gz or the pair .hdr and .img, atomically (NIfTI-2 where an axis is too long for NIfTI-1)."""
    is_pair = path.suffix.lower() in (".hdr", ".img")
    if is_pair:
        path = path.with_suffix(".HDR" if path.suffix.isupper() else ".hdr")
    image = _image(path, stored, is_pair=is_pair)
    text = attributes.to_text(stored)
    if stored.labels:  # in front: readers of this table look at the first extension alone
        table = caret.to_extension(stored.labels, stored.colours)
        image.header.extensions.append(nib.nifti1.Nifti1Extension(caret.CODE, table))
    if text:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, text.encode()))
    size = image.dataobj.nbytes
    place = files.replacing_parts(path, size, named_by_suffix=True) if is_pair else files.replacing(path, size)
    with place as temporary, ExitStack() as stack:
        # Opened here: nibabel leaves files open that it cannot write.
        names = {part: holder.filename for part, holder in image.filespec_to_file_map(str(temporary)).items()}
        opened = {part: stack.enter_context(ImageOpener(name, "wb")) for part, name in names.items()}
        image.to_file_map({part: FileHolder(fileobj=file) for part, file in opened.items()})


def _image(path: Path, stored: Stored, *, is_pair: bool) -> Any:
    """The nibabel image: sform and, without shear, the same qform; channels as a vector on the fifth axis."""
    array = in_memory(stored, path)
    xyz = array.T if array.ndim == 3 else array.transpose(3, 2, 1, 0)[:, :, :, None, :]
    classes = (nib.Nifti1Pair, nib.Nifti2Pair) if is_pair else (nib.Nifti1Image, nib.Nifti2Image)
    image_class = classes[max(array.shape) > _NIFTI1_MAX_SIZE]
    affine = geometry.to_nifti(stored.grid.affine)
    image = image_class(xyz, affine, dtype=array.dtype)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if not np.allclose(image.get_qform(), affine, atol=1e-3 * min(stored.grid.spacing)):
        image.set_qform(None, code=0)  # a qform cannot hold shear
    image.header.set_xyzt_units("mm")
    if array.ndim == 4:
        image.header["intent_code"] = _VECTOR_INTENT
    if stored.is_labels:
        image.header["intent_code"] = _LABEL_INTENT
    return image


def _paths(path: Path) -> tuple[Path, Path]:
    """The files of header and voxels: the same one, or a pair."""
    if path.suffix.lower() not in (".hdr", ".img"):
        files.check_regular(path)
        return path, path
    upper = path.suffix.isupper()
    header, data = (path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img"))
    for part in (header, data):
        if not part.exists():
            raise FileError(f"{path}: its other half is missing: no such file: {part}")
        files.check_regular(part)
    return header, data


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """The bytes of a file, inflated where it is gzip; a damaged stream is a FileError."""
    with path.open("rb") as plain:
        zipped = _is_gzip(plain)
        if path.suffix.lower() == ".gz" and not zipped:
            raise FileError(f"{path}: not a NIfTI file: it is named .gz but is not compressed with gzip")
        if not zipped:
            yield plain
            return
        try:
            with inflate.GzipFile(fileobj=plain) as inflated:
                yield inflated
        except EOFError as error:
            raise FileError(f"{path}: the gzip stream ends early (truncated): copy the file again") from error
        except inflate.ERRORS as error:
            raise FileError(f"{path}: the gzip stream is damaged ({error}): copy the file again") from error


def _is_gzip(stream: BufferedIOBase) -> bool:
    start = stream.read(2)
    stream.seek(0)
    return start == b"\x1f\x8b"


def _read_header(path: Path, *, is_single: bool) -> Any:
    """The header with its extensions; is_single: the voxels follow in the same file."""
    with _opened(path) as stream:
        start = stream.read(544)
        header_class, order = _header_class(start, path)
        length = header_class.template_dtype.itemsize
        try:
            # Unchecked: nibabel's check silently repairs faults that are refused or reported here.
            header = header_class(start[:length], order, check=False)
            end = _offset(header, path) if is_single else _MAX_HEADER
            has_extensions = start[length : length + 1] not in (b"", b"\0")
            if is_single and has_extensions and end > _MAX_HEADER:
                raise FileError(f"{path}: the header gives an impossible offset of the voxels behind it: {end}")
            if is_single and end < length + 4:
                header["vox_offset"] = end = _beyond_header(end, length + 4, path, has_extensions=has_extensions)
            if not has_extensions:
                return header
            whole = start + stream.read(max(0, end - len(start)))
            with warnings.catch_warnings():  # about odd sizes of extensions, which are read all the same
                warnings.simplefilter("ignore", UserWarning)
                return header_class.from_fileobj(BytesIO(whole[:end]), order, check=False)
        except (HeaderDataError, WrapStructError, ValueError, OverflowError, struct.error) as error:
            raise FileError(f"{path}: the NIfTI header is damaged: {error}") from error


def _beyond_header(offset: int, least: int, path: Path, *, has_extensions: bool) -> int:
    """Where the voxels start if the header says that they lie within itself.

    Some writers leave the offset at 0: the voxels then follow the header. Anything else is refused.
    """
    if offset or has_extensions:
        raise FileError(
            f"{path}: the header gives an impossible offset of the voxels: {offset}, within the header of {least} bytes"
        )
    warn(f"{path}: the offset of the voxels (vox_offset) is 0; they are read behind the header, from byte {least} on")
    return least


def _header_class(start: bytes, path: Path) -> tuple[Any, str]:
    """The nibabel class for a header with this start, and its byte order; FileError if it is none."""
    for order in ("<i", ">i"):
        size = struct.unpack(order, start[:4])[0] if len(start) >= 4 else 0
        if size == 348 and start[344:347] in (b"n+1", b"ni1"):
            return (nib.Nifti1Header if start[345:346] == b"+" else nib.nifti1.Nifti1PairHeader), order[0]
        if size == 540 and start[4:7] in (b"n+2", b"ni2"):
            return (nib.Nifti2Header if start[5:6] == b"+" else nib.nifti2.Nifti2PairHeader), order[0]
        if size in (348, 540) and len(start) < size:
            raise FileError(f"{path}: the header is cut short (truncated): {size} bytes expected, {len(start)} there")
    raise FileError(f"{path}: not a NIfTI file: it does not start with a NIfTI header (size and magic are wrong)")


def _shape(header: Any, path: Path) -> tuple[int, ...]:
    """(x, y, z, ...) with at least three axes."""
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : 1 + max(count, 0)])
    if not 1 <= count <= 7 or min(shape) < 1:
        raise FileError(f"{path}: the header gives impossible dimensions: dim = {header['dim'].tolist()}")
    if count < 3:
        warn(f"{path}: a {count}D image; it is read as one slice")
    return shape + (1,) * (3 - count)


def _read_voxels(header: Any, shape: tuple[int, ...], path: Path) -> Array:
    """(..., z, y, x) as stored, in native byte order. The stream is read to its end, which verifies its checksum."""
    with _opened(path) as stream:
        dtype, offset = _checked_place(stream, header, shape, path)
        stream.seek(offset)
        array = _read_exactly(stream, shape[::-1], dtype, path)
        extra = _count_rest(stream, path)
    if extra:
        warn(f"{path}: {extra} extra bytes after the voxels (the file is longer than its header says)")
    return array if dtype.isnative else array.byteswap(inplace=True).view(dtype.newbyteorder("="))


def _checked_place(
    stream: BufferedIOBase, header: Any, shape: tuple[int, ...], path: Path
) -> tuple[np.dtype[Any], int]:
    """The type of the voxels, and where they start in bytes.

    Raises FileError where the file cannot hold them, or the memory cannot: before anything is allocated.
    """
    dtype, offset = _dtype(header, path), _offset(header, path)
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    size, is_zipped = path.stat().st_size, isinstance(stream, gzip.GzipFile)
    most = size * (inflate.MAX_INFLATION if is_zipped else 1)
    if offset + expected > most:
        raise cut_short(path, expected, max(0, most - offset))
    memory.check(path, expected, size if is_zipped else None)
    return dtype, offset


def _offset(header: Any, path: Path) -> int:
    """Offset of the voxels in bytes."""
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and offset >= 0 and offset.is_integer()):
        raise FileError(f"{path}: the header gives an impossible offset of the voxels: {offset}")
    return int(offset)


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise FileError(f"{path}: the type of its voxels is not known: code {int(header['datatype'])}") from error
    if dtype.kind not in "iuf":
        what = "RGB colours" if dtype.fields else f"type {dtype}"
        raise NotSupportedError(
            f"{path}: voxels of {what} are not read: convert them to grey values (real numbers) first"
        )
    if int(header["bitpix"]) != dtype.itemsize * 8:
        warn(
            f"{path}: bitpix is {int(header['bitpix'])} but the type {dtype} has {dtype.itemsize * 8}; the type is used"
        )
    return dtype


def _read_exactly(stream: BufferedIOBase, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Array:
    try:
        array = np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        raise FileError(f"{path}: too large for the memory: shape {shape}, {size / 2**30:.1f} GiB") from error
    target = memoryview(array.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(target):
        try:
            count = stream.readinto(target[done : done + _BLOCK])
        except EOFError:  # a gzip stream without an end
            count = 0
        if not count:
            raise cut_short(path, len(target), done)
        done += count
    return array


def _count_rest(stream: BufferedIOBase, path: Path) -> int:
    """The bytes behind the voxels. They are read, which verifies the checksum; FileError if they are too many."""
    extra = 0
    while block := stream.read(_BLOCK):
        extra += len(block)
        if extra > _MAX_EXTRA:
            raise FileError(f"{path}: more than {_MAX_EXTRA >> 20} MiB follow the voxels: longer than its header says")
    return extra


def _scaled(voxels: Array, header: Any, path: Path) -> Array:
    """The voxels by slope and intercept; unscaled ones keep their type."""
    stored_slope = float(header["scl_slope"])
    if np.isinf(stored_slope):
        raise FileError(f"{path}: the intensity scale (scl_slope) is not finite: {stored_slope}")
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise FileError(f"{path}: the intensity scale (scl_slope, scl_inter) cannot be used: {error}") from error
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return voxels
    # Sixteen bits times a factor fit float32; wider integers need all digits.
    kind = np.float32 if voxels.dtype.itemsize <= 2 else np.float64
    scaled: Array = apply_read_scaling(voxels, kind(slope), kind(intercept))
    return scaled


def _without_extra_axes(voxels: Array, path: Path, part: str) -> Array:
    """(z, y, x), or (c, z, y, x) for a vector axis (the fifth, with one time point); `part` chooses of other axes."""
    extra = voxels.shape[:-3]
    spatial = voxels.shape[-3:]
    if all(n == 1 for n in extra):
        choice.refuse_part(path, part)
        return voxels.reshape(spatial)
    if len(extra) >= 2 and all(n == 1 for n in (*extra[:-2], extra[-1])):
        choice.refuse_part(path, part)
        return voxels.reshape(extra[-2], *spatial)
    points = voxels.reshape(-1, *spatial)
    if part == "channels":
        return points
    what = f"a {voxels.ndim}D image of shape (x, y, z, t, ...) = {voxels.shape[::-1]}"
    chosen: Array = points[choice.point(path, part, len(points), what, f"{path.name}#channels for all as channels")]
    return chosen


def _own_attributes(header: Any, path: Path) -> attributes.Attributes | None:
    """Our JSON among the comments of the header; None if there is none."""
    for content in _extensions(header, (_COMMENT,)):
        own = attributes.from_text(content.rstrip(b"\0").decode(errors="replace"), str(path))
        if own is not None:
            return own
    return None


def _label_table(header: Any, path: Path, part: str) -> attributes.Attributes | None:
    """The table of label names in the header; None if there is none."""
    point = int(part) if part.isdecimal() else 0
    tables = (caret.from_extension(content, point, str(path)) for content in _extensions(header, caret.CODES))
    return next((table for table in tables if table is not None), None)


def _extensions(header: Any, codes: tuple[int, ...]) -> Iterator[bytes]:
    """The contents of the header's extensions with these codes."""
    for extension in header.extensions:
        if extension.get_code() in codes:
            content = extension.content
            yield bytes(content if isinstance(content, bytes) else str(content).encode())


def _affine_ras(header: Any, path: Path) -> FloatArray:
    """(i, j, k) -> (R, A, S) in mm: the sform, else the qform, else the spacing alone."""
    if int(header["sform_code"]) > 0:
        affine = header.get_sform()
    elif min(_pixdim(header)) <= 0:
        raise FileError(f"{path}: its spacing (pixdim) must be positive; got {header['pixdim'][1:4]}: zero or negative")
    elif int(header["qform_code"]) > 0:
        affine = _qform(header, path)
    else:
        header["pixdim"][1:4] = _pixdim(header)
        affine = header.get_base_affine()
        warn(f"{path}: no orientation is stored (no sform, no qform): left and right are unknown")
    code = int(header["xyzt_units"]) & 7
    if code in _UNITS:
        warn(f"{path}: the unit is {_UNITS[code][0]}; positions are converted to mm")
    elif code not in _MM_CODES:
        warn(f"{path}: the unit of its positions is not known (xyzt_units {code}); mm are taken")
    return np.asarray(np.diag([_millimetres(header)] * 3 + [1.0]) @ affine)


def _millimetres(header: Any) -> float:
    """One unit of the header in mm; an unknown unit is taken as mm."""
    return _UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0))[1]


def _pixdim(header: Any) -> FloatArray:
    """The spacing (x, y, z) as stored; 1 along axes that the image does not have, where it is often left at 0."""
    stored = np.asarray(header["pixdim"][1:4], float)
    is_unused = np.arange(3) >= int(header["dim"][0])
    return np.where(is_unused & ~(stored > 0), 1.0, stored)


def _qform(header: Any, path: Path) -> FloatArray:
    """(i, j, k) -> (R, A, S) by the quaternion, its first number derived. Raises FileError where it is no rotation.

    nifti1.h, "3D IMAGE (VOLUME) ORIENTATION": a pixdim[0] of 0 is 1. nibabel refuses it, and numbers that are too long
    by rounding.
    """
    bcd = np.array([float(header[f"quatern_{letter}"]) for letter in "bcd"])
    length = np.linalg.norm(bcd)
    if not length <= 1 + _ROUNDED:
        raise FileError(
            f"{path}: the orientation (qform quaternion) cannot be used: {bcd.tolist()} is {length:.4g} long, and a "
            f"rotation is at most 1"
        )
    quaternion = fillpositive(bcd / max(1.0, length), header.quaternion_threshold)
    spacing = _pixdim(header) * (1, 1, -1 if float(header["pixdim"][0]) < 0 else 1)
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(quaternion) * spacing
    affine[:3, 3] = [float(header[f"qoffset_{letter}"]) for letter in "xyz"]
    return affine


def _warn_of_contradictions(header: Any, grid: Grid, path: Path) -> None:
    """Warn if the qform or the stored spacing contradicts the sform, which is used. Nothing is refused here."""
    if int(header["sform_code"]) <= 0:
        return
    mm = _millimetres(header)
    pixdim = np.abs(_pixdim(header)[::-1]) * mm
    if not np.allclose(grid.spacing, pixdim, rtol=0.01):
        warn(f"{path}: sform and pixdim disagree on the spacing ({grid.spacing} and {pixdim} mm); the sform is used")
    if int(header["qform_code"]) <= 0:
        return
    try:
        stored_qform = _qform(header, path)
    except FileError as error:
        warn(f"{error}; the sform is used")
        return
    qform = geometry.from_nifti(np.diag([mm, mm, mm, 1.0]) @ stored_qform)
    corners = [
        [i, j, k, 1] for i in (0, grid.shape[0] - 1) for j in (0, grid.shape[1] - 1) for k in (0, grid.shape[2] - 1)
    ]
    apart = np.linalg.norm((qform - grid.affine) @ np.transpose(corners), axis=0).max()
    if not apart <= 0.01 * min(grid.spacing):
        warn(f"{path}: sform and qform disagree on where the image lies (by {apart:.4g} mm); the sform is used")
