"""Hands a file to ITK's C++ parsers. Runs in a child process only: see `napari_medseg.io.sandbox.parent`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_medseg.errors import FileError, NotSupportedError
from napari_medseg.io.itk import types
from napari_medseg.io.itk.header import is_nrrd

Array = npt.NDArray[Any]


def prepare() -> None:
    """Load ITK (seconds) and its readers of both formats before the first request."""
    warnings.simplefilter("ignore", DeprecationWarning)  # ITK's wrappings are older than Python's rules for types
    import itkConfig  # type: ignore[import-untyped]

    itkConfig.DefaultFactoryLoading = False  # by default ITK loads every reader it has, a fifth of its memory
    import itk

    for image_io in (itk.NrrdImageIO, itk.MetaImageIO):
        image_io.New()
    itk.ImageFileReader[itk.Image[itk.UC, 3]].New()


def answer(request: Mapping[str, Any]) -> tuple[dict[str, object], list[Array]]:
    """The affine of a file (i, j, k) -> (L, P, S), shape, type and the texts asked for, and its array.

    request: path; text: a pattern of the keys that are wanted (other texts may name a patient and stay here); voxels:
    whether the array is read at all.
    Raises FileError with ITK's own reason, NotSupportedError for a time series; without the path, which the parent has.
    """
    try:
        return _parsed(Path(request["path"]), re.compile(request["text"]), voxels=request["voxels"])
    except NotImplementedError:
        raise
    except RuntimeError as error:
        raise FileError(f"cannot be read: {types.reason(error)}") from error


def _parsed(path: Path, wanted: re.Pattern[str], *, voxels: bool) -> tuple[dict[str, object], list[Array]]:
    import itk

    # Chosen by the name: ITK's own choice knows no upper-case suffixes.
    image_io = itk.NrrdImageIO.New() if is_nrrd(path) else itk.MetaImageIO.New()
    image_io.SetFileName(str(path))
    image_io.ReadImageInformation()
    _check_one_volume(image_io)
    dtype = _voxel_type(image_io)
    several = int(image_io.GetNumberOfComponents()) > 1
    image_type = (itk.VectorImage if several else itk.Image)[types.pixel_type(itk, dtype, several=several), 3]
    reader = itk.ImageFileReader[image_type].New(FileName=str(path), ImageIO=image_io)
    if voxels:
        reader.Update()
    else:
        reader.UpdateOutputInformation()
    image = reader.GetOutput()
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    affine[:3, 3] = np.asarray(image.GetOrigin())
    text = {key: value for key, value in dict(image).items() if isinstance(value, str) and wanted.fullmatch(key)}
    size = [int(n) for n in image.GetLargestPossibleRegion().GetSize()][::-1]
    shape = [int(image_io.GetNumberOfComponents()), *size] if several else size
    facts: dict[str, object] = {"affine_lps_xyz": affine.tolist(), "text": text, "shape": shape, "dtype": dtype.str}
    if not voxels:
        return facts, []
    array = itk.array_from_image(image).astype(dtype, copy=False)
    return facts, [np.ascontiguousarray(np.moveaxis(array, -1, 0) if several else array)]


def _check_one_volume(image_io: Any) -> None:
    sizes = tuple(int(image_io.GetDimensions(axis)) for axis in range(image_io.GetNumberOfDimensions()))
    if any(n > 1 for n in sizes[3:]):
        raise NotSupportedError(
            f"an image of shape (x, y, z, ...) = {sizes}; which time point or channel is meant is not guessed: save "
            f"one 3D volume of it"
        )


def _voxel_type(image_io: Any) -> np.dtype[Any]:
    name = image_io.GetComponentTypeAsString(image_io.GetComponentType())
    if name == "unknown":
        raise FileError("the type of its voxels is not known")
    kind = "f" if name in ("float", "double") else "u" if name.startswith("unsigned") else "i"
    return np.dtype(f"{kind}{image_io.GetComponentSize()}")
