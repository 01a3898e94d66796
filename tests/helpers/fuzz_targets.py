"""What is fuzzed: for each reader a valid file or folder, small so that a case is quick, and how it is read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import LZ4, Delta, Shuffle  # type: ignore[import-untyped]
from numpy.random import Generator
from pydicom.dataset import Dataset
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

import mutations
from dicom_files import CANARY, SERIES, set_pixels, voxels, write_enhanced, write_series
from grids import grid
from mutations import Mutation
from napari_medseg import io, strictjson
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, MedsegError, MedsegWarning
from napari_medseg.io import caret, choice, label_files
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.sandbox.parent import Limits, ask
from napari_medseg.volume import Grid, Segmentation, Volume

LABELS = {1: "liver, left lobe", 7: "Lunge (größer)"}
#: what every name of a file under test begins with
NAME = "mutant"
SHAPE = (6, 5, 4)
_LOOKED_AT = 1 << 20
#: characters of a message, most of them a path and choices
_LONGEST = 1000
GRID = grid("SAR", SHAPE)


@dataclass(frozen=True)
class Target:
    """A reader under test."""

    make: Callable[[Path], Path]
    """Writes a valid file or folder into a folder; gives the path to read."""
    read: Callable[[Path, int], object]
    """Reads it as anything of ours would; the number of the case chooses between ways."""
    mutations: tuple[Mutation, ...]
    in_child: bool = False

    def files(self, folder: Path) -> list[Path]:
        """What is mutated."""
        return sorted(path for path in folder.rglob("*") if path.is_file())


def run_case(target: Target, path: Path, files: list[Path], seed: int, case: int) -> str:
    """Mutate one file, read, and put the file back: "read", or why it was refused.

    AssertionError where what is told is not one line that names the file; whatever else escapes is a finding too.
    """
    rng = np.random.default_rng([seed, case])
    heads = [file for file in files if _is_metadata(file)] if rng.random() < 0.5 else []
    file = (heads or files)[rng.integers(len(heads or files))]
    whole = file.read_bytes()
    file.write_bytes(mutated(rng, file, whole, target.mutations))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            refusal = _refusal(target, path, case)
    finally:
        file.write_bytes(whole)
    for warning in caught:
        assert issubclass(warning.category, MedsegWarning), f"{warning.category.__name__}: {warning.message}"
    for text in (refusal, *(str(warning.message) for warning in caught)):
        assert "\n" not in text, f"not one line: {text!r}"
        assert not text or NAME in text, f"names no file: {text}"
        assert len(text) < _LONGEST, f"too long to be read: {text}"
        assert CANARY not in text, f"tells what may name a patient: {text}"
    return refusal or "read"


def mutated(rng: Generator, file: Path, whole: bytes, kinds: tuple[Mutation, ...]) -> bytes:
    """Metadata of zarr are mutated as JSON, whatever lies beside them."""
    return mutations.mutate(rng, whole, mutations.JSON if _is_metadata(file) else kinds)


def _is_metadata(file: Path) -> bool:
    return file.suffix == ".json" or file.name.startswith(".z")


def _refusal(target: Target, path: Path, case: int) -> str:
    try:
        target.read(path, case)
    except MedsegError as refused:
        return str(refused)
    return ""


def read_image(path: Path, case: int) -> object:
    """As an image or as labels: a corner of it, or all, told of as `napari-medseg info` does."""
    noun = io.read_segmentation(path) if case % 2 else io.read(path)
    if noun.data.nbytes < _LOOKED_AT:  # type: ignore[attr-defined]
        return describe(path, labels=bool(case % 2))
    return np.asarray(noun.data[..., -9:, -9:, -9:])


def read_parts(path: Path, _: int) -> object:
    """As napari opens a path: each part of it, taken for labels where it looks like labels."""
    load = io.loader(path)

    def opened(part: str) -> list[object]:
        try:
            noun = load(part)
        except ChoiceError as several:
            return [noun for choice in several.choices for noun in opened(choice)]
        return [noun if isinstance(noun, Segmentation) else label_files.labels_in(noun)]

    return opened(str(path))


def labels() -> Segmentation:
    data = np.zeros(SHAPE, np.uint8)
    data[2:4, 1:3] = 7
    return Segmentation(data, GRID, LABELS)


def written(name: str) -> Callable[[Path], Path]:
    """Labels in one of our formats."""

    def make(folder: Path) -> Path:
        io.write(folder / name, labels(), provenance={"overlap": 0.5})
        return folder / name

    return make


def nifti_2(folder: Path) -> Path:
    import nibabel as nib

    path = folder / f"{NAME}.nii"
    nib.Nifti2Image(np.arange(60, dtype=">f4").reshape(3, 4, 5), np.eye(4)).to_filename(path)
    return path


def nifti_with_table(folder: Path) -> Path:
    """Label names in the header as TotalSegmentator writes them."""
    import nibabel as nib

    image = nib.Nifti1Image(labels().data, np.eye(4))
    table = caret.to_extension(LABELS, {1: (255, 128, 0)})
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, table))
    image.to_filename(folder / f"{NAME}.nii")
    return folder / f"{NAME}.nii"


def slicer_layers(folder: Path) -> Path:
    """One of two layers of a segmentation of 3D Slicer."""
    segments = "".join(
        f"Segment{n}_Name:={name}\nSegment{n}_LabelValue:=1\nSegment{n}_Layer:={n}\nSegment{n}_Color:=1 0.5 0\n"
        for n, name in enumerate(("liver", "tumour"))
    )
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 4 5 6\n"
        "space directions: none (1,0,0) (0,1,0) (0,0,2)\nkinds: list domain domain domain\nencoding: raw\n"
        f'space units: "mm" "mm" "um"\nspace origin: (10,20,30)\n{segments}\n'
    )
    (folder / f"{NAME}.seg.nrrd").write_bytes(header.encode() + bytes(range(240)))
    return folder / f"{NAME}.seg.nrrd#1"


def listed_nrrd(folder: Path) -> Path:
    """A detached header with a file for each slice."""
    header = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 5 2\n"
        "space directions: (1,0,0) (0,1,0) (0,0,2)\nencoding: raw\nendian: little\nspace origin: (10,20,30)\n"
        "data file: LIST\n0.raw\n1.raw\n"
    )
    for number in range(2):
        (folder / f"{number}.raw").write_bytes(bytes(range(40)))
    (folder / f"{NAME}.nhdr").write_text(header)
    return folder / f"{NAME}.nhdr"


def zarr_2(folder: Path) -> Path:
    """OME-Zarr 0.4 as other programs write it."""
    import zarr

    path = folder / f"{NAME}.zarr"
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=np.arange(120, dtype=np.int16).reshape(1, 1, *SHAPE), chunks=(1, 1, 3, 5, 4))
    towards = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}
    axes: list[Any] = [
        {"name": n, "type": "space", "unit": "micrometer", "orientation": {"type": "anatomical", "value": value}}
        for n, value in towards.items()
    ]
    transforms: list[Any] = [
        {"type": "scale", "scale": [1, 1, 5, 2, 2]},
        {"type": "translation", "translation": [0, 0, 1, 2, 3]},
    ]
    multiscale: dict[str, Any] = {
        "version": "0.4",
        "axes": [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *axes],
        "datasets": [{"path": "0", "coordinateTransformations": transforms}],
    }
    group.attrs["multiscales"] = [multiscale]
    group.attrs["omero"] = {"channels": [{"label": "CT", "color": "ffffff"}]}
    return path


def zarr_with_labels(folder: Path) -> Path:
    """An image with a label image inside, as OME-Zarr nests them."""
    import zarr

    path = folder / f"{NAME}.zarr"
    io.write(path, Volume(np.arange(120, dtype=np.int16).reshape(1, *SHAPE), GRID))
    zarr.create_group(path / "labels", zarr_format=3, attributes={"ome": {"version": "0.5", "labels": ["liver.zarr"]}})
    io.write(path / "labels" / "liver.zarr", labels())
    return path


def plain_zarr(**options: Any) -> Callable[[Path], Path]:
    """An array without OME metadata, in the ways that ours are not stored."""

    def make(folder: Path) -> Path:
        import zarr

        data = np.arange(120, dtype=np.int16).reshape(SHAPE)
        chunks = SHAPE if "serializer" in options else (3, 5, 2)
        zarr.create_array(folder / f"{NAME}.zarr", data=data, chunks=chunks, **options)
        return folder / f"{NAME}.zarr"

    return make


def dicom_series(folder: Path) -> Path:
    return write_series(folder / NAME, voxels((3, 4, 5)), grid("SPL", (3, 4, 5)))


def dicom_echoes(folder: Path) -> Path:
    """The second of two volumes of a series, in files without preamble that lie in folders below."""
    for echo in (1, 2):
        place = write_series(
            folder / NAME / f"E{echo}",
            voxels((2, 4, 5)),
            grid("SPL", (2, 4, 5)),
            tweak=lambda dataset, _, echo=echo: setattr(dataset, "EchoTime", echo),  # type: ignore[misc]
        )
        for file in place.iterdir():
            file.write_bytes(file.read_bytes()[132:])
    return folder / f"{NAME}#{sha256(SERIES.encode()).hexdigest()[:6]}.1"


def dicom_folder(folder: Path) -> Path:
    """Two series in one folder, the second of two echoes."""
    place = grid("SPL", (2, 4, 5))
    series = write_series(folder / NAME, voxels((2, 4, 5)), place, series="1.2.9")
    for echo in (1, 2):

        def tweak(dataset: Dataset, k: int, echo: int = echo) -> None:
            dataset.EchoTime, dataset.SOPInstanceUID = echo, f"1.2.{echo}.{k + 1}"

        for file in write_series(folder / f"{echo}", voxels((2, 4, 5)), place, tweak=tweak).iterdir():
            file.rename(series / f"{echo}_{file.name}")
        (folder / f"{echo}").rmdir()
    return series


def dicom_dose(folder: Path) -> Path:
    """A classic file of several frames that lie at their offsets, with values in the high bits of each word."""

    def as_dose(dataset: Dataset, _: int) -> None:
        dataset.NumberOfFrames, dataset.DoseGridScaling, dataset.GridFrameOffsetVector = 3, 0.5, [0, 2, 4]
        set_pixels(dataset, voxels((3, 4, 5)))
        dataset.BitsStored = 12

    return write_series(folder / NAME, voxels((1, 4, 5)), grid("SPL", (1, 4, 5)), tweak=as_dose)


def dicom_flat(folder: Path) -> Path:
    """The second of two pictures of colours without a place in the patient."""

    def as_picture(dataset: Dataset, _: int) -> None:
        dataset.SOPClassUID, dataset.SamplesPerPixel = "1.2.840.10008.5.1.4.1.1.7", 3
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation, dataset.PixelData = 7, 0, bytes(range(60))
        del dataset.ImagePositionPatient

    write_series(folder / NAME, voxels((2, 4, 5)), grid("SPL", (2, 4, 5)), tweak=as_picture)
    return folder / f"{NAME}#{sha256(SERIES.encode()).hexdigest()[:6]}.1"


def dicom_compressed(syntax: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        def compress(dataset: Dataset, _: int) -> None:
            dataset.compress(syntax, generate_instance_uid=False)

        return write_series(folder / NAME, voxels((1, 40, 48)), grid("SPL", (1, 40, 48)), tweak=compress)

    return make


def dicom_enhanced(folder: Path) -> Path:
    return write_enhanced(folder / f"{NAME}.dcm", voxels((3, 4, 5)), grid("SPL", (3, 4, 5)))


def dicom_seg(ids: tuple[int, ...]) -> Callable[[Path], Path]:
    """BINARY where ids run from 1, LABELMAP where they have gaps."""

    def make(folder: Path) -> Path:
        place = grid("SPL", (3, 4, 5))
        data = np.array((0, *ids), np.uint8)[np.random.default_rng(0).integers(0, len(ids) + 1, place.shape)]
        source = write_series(folder.with_name(f"{folder.name}-source"), voxels((3, 4, 5)), place)
        io.write(folder / f"{NAME}.dcm", Segmentation(data, place, LABELS), source=source)
        return folder / f"{NAME}.dcm"

    return make


def model_file(folder: Path) -> Path:
    from napari_medseg import registry
    from napari_medseg.models.file import Channel, ModelSpec, Normalisation, write_model

    arguments: dict[str, Any] = {"channels": (1, 2), "out_channels": 2, "deep_supervision": False}
    spec = ModelSpec(
        network="unet3d",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "liver"},
        patch_zyx=(8, 8, 8),
        normalisation=(Normalisation(kind="clip_zscore", low=-100, high=200, mean=1, std=2),),
        deep_supervision=False,
    )
    state = registry.network("unet3d").build_from(spec.arguments).state_dict()
    return write_model(folder / f"{NAME}.safetensors", spec, state).path


def read_model(path: Path, _: int) -> object:
    from napari_medseg.models.file import load_model

    return load_model(path).load_network()


def json_file(folder: Path) -> Path:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps({"a": [1, 2.5, -3e-7, True, None], "b": {"c": "größer \\u00e9", "d": [[], {}]}, "": 0}))
    return path


def read_json(path: Path, _: int) -> object:
    """`strictjson` refuses by ValueError, to which its callers add the file."""
    try:
        return strictjson.parse(path.read_bytes().decode(errors="replace"))
    except ValueError as error:
        raise FileError(f"{path}: {error}") from error


def state_dict(folder: Path) -> Path:
    import torch

    from napari_medseg import registry

    path = folder / f"{NAME}.pt"
    network = registry.network("unet3d").build(channels=(1, 2), out_channels=2, deep_supervision=False)
    torch.save(network.state_dict(), path)
    return path


def read_state_dict(path: Path, _: int) -> object:
    from napari_medseg.foreign.asked import Asked
    from napari_medseg.foreign.statedict import import_state_dict

    return import_state_dict(path, Asked(network="unet3d"))


def picture(name: str, **options: Any) -> Callable[[Path], Path]:
    """A 2D image of colours as Pillow writes it."""

    def make(folder: Path) -> Path:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), np.uint8)
        Image.fromarray(pixels).quantize(8).convert(options.pop("mode", "RGB")).save(folder / name, **options)
        return folder / name

    return make


def flat(name: str) -> Callable[[Path], Path]:
    """Labels of one slice with names, colours and the size of a pixel."""

    def make(folder: Path) -> Path:
        data = np.arange(99, dtype=np.uint8).reshape(1, 9, 11) % 8
        place = Grid.from_spacing((1, 9, 11), (1.0, 0.7, 0.3))
        io.write(
            folder / name, Segmentation(data, place, LABELS, colours={1: (255, 0, 0)}), provenance={"overlap": 0.5}
        )
        return folder / name

    return make


def pages(folder: Path) -> Path:
    """The second of two pages of a TIFF as ImageJ writes it."""
    import tifffile

    path = folder / f"{NAME}.tif"
    data = np.arange(198, dtype=">u2").reshape(2, 9, 11)
    tifffile.imwrite(path, data, imagej=True, resolution=(5, 5), metadata={"unit": "um", "axes": "TYX"})
    return folder / f"{NAME}.tif#1"


def unchecked(job: str, **request: object) -> Callable[[Path, int], object]:
    """Straight to the parser in the child process, past the checks that keep most files from it."""
    limits = Limits(memory_bytes=512 << 20, seconds=8, reply_bytes=1 << 26)

    def read(path: Path, _: int) -> object:
        file = choice.split(next(path.iterdir()) if path.is_dir() else path)[0]
        return ask(job, str(file), {"path": str(file), **request}, limits)

    return read


def image(make: Callable[[Path], Path], kinds: tuple[Mutation, ...] = mutations.BINARY) -> Target:
    return Target(make, read_image, kinds)


def image_in_child(make: Callable[[Path], Path], kinds: tuple[Mutation, ...] = mutations.BINARY) -> Target:
    return Target(make, read_image, kinds, in_child=True)


def raw_mha(folder: Path) -> Path:
    """Uncompressed, so that mutated voxels reach the parser too."""
    path = folder / f"{NAME}.mha"
    text = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
    text += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 1 2\nElementSpacing = 1 2 3\nDimSize = 4 3 2\n"
    path.write_bytes((text + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n").encode() + bytes(range(48)))
    return path


def raw_nrrd(folder: Path) -> Path:
    path = folder / f"{NAME}.nrrd"
    text = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\nencoding: raw\n"
    text += "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: little\n"
    path.write_bytes((text + "space origin: (0,1,2)\n\n").encode() + bytes(range(48)))
    return path


#: without checksums, so that what lies in them is reached
_UNSUMMED = ShardingCodec(chunk_shape=(3, 5, 2), codecs=[BytesCodec(), ZstdCodec()], index_codecs=[BytesCodec()])
_ITK, _DICOM = "napari_medseg.io.itk.parser", "napari_medseg.io.dicom.decoder"
_RASTER = "napari_medseg.io.raster.parser"
_TORCH = "napari_medseg.foreign.torch_parser"
_RLE, _J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"
TARGETS: dict[str, Target] = {
    "nifti": image(written(f"{NAME}.nii")),
    "nifti-gz": image(written(f"{NAME}.nii.gz"), mutations.GZIP),
    "nifti-pair": image(written(f"{NAME}.hdr")),
    "nifti-2": image(nifti_2),
    "nifti-table": image(nifti_with_table),
    "zarr": image(written(f"{NAME}.zarr")),
    "zarr-0.4": image(zarr_2),
    "zarr-labels": image(zarr_with_labels),
    "zarr-shards": image(plain_zarr(shards=(6, 5, 4))),
    "zarr-unsummed": image(plain_zarr(serializer=_UNSUMMED, compressors=None)),
    "zarr-lz4": image(plain_zarr(zarr_format=2, compressors=LZ4(), filters=[Delta("<i2"), Shuffle(2)])),
    "dicom": image(dicom_series),
    "dicom-echoes": image(dicom_echoes),
    "dicom-dose": image(dicom_dose),
    "dicom-flat": image(dicom_flat),
    "dicom-folder": Target(dicom_folder, read_parts, mutations.BINARY),
    "nifti-opened": Target(written(f"{NAME}_seg.nii"), read_parts, mutations.BINARY),
    "dicom-enhanced": image(dicom_enhanced),
    "dicom-seg": image(dicom_seg((1, 2))),
    "dicom-labelmap": image(dicom_seg((1, 7))),
    "model": Target(model_file, read_model, mutations.SAFETENSORS),
    "json": Target(json_file, read_json, mutations.JSON),
    "nrrd": image_in_child(written(f"{NAME}.nrrd"), mutations.TEXT),
    "nrrd-raw": image_in_child(raw_nrrd, mutations.TEXT),
    "nrrd-layers": image_in_child(slicer_layers, mutations.TEXT),
    "nhdr-list": image_in_child(listed_nrrd, mutations.TEXT),
    "nhdr": image_in_child(written(f"{NAME}.nhdr"), mutations.TEXT),
    "mha": image_in_child(written(f"{NAME}.mha"), mutations.TEXT),
    "mha-raw": image_in_child(raw_mha, mutations.TEXT),
    "png": image_in_child(flat(f"{NAME}.png")),
    "png-colours": image_in_child(picture(f"{NAME}.png", dpi=(300, 300))),
    "jpeg": image_in_child(picture(f"{NAME}.jpg", quality=90)),
    "bmp": image_in_child(picture(f"{NAME}.bmp", mode="P")),
    "tiff": image_in_child(flat(f"{NAME}.tif")),
    "tiff-lzw": image_in_child(picture(f"{NAME}.tif", compression="tiff_lzw", dpi=(300, 300))),
    "tiff-pages": image_in_child(pages),
    "dicom-rle": image_in_child(dicom_compressed(_RLE)),
    "dicom-jpeg2000": image_in_child(dicom_compressed(_J2K)),
    "torch": Target(state_dict, read_state_dict, mutations.BINARY, in_child=True),
    "nrrd-unchecked": Target(raw_nrrd, unchecked(_ITK, text=".*"), mutations.TEXT, in_child=True),
    "mha-unchecked": Target(raw_mha, unchecked(_ITK, text=".*"), mutations.TEXT, in_child=True),
    "tiff-unchecked": Target(pages, unchecked(_RASTER, page="", voxels=True), mutations.BINARY, in_child=True),
    "dicom-unchecked": Target(dicom_compressed(_J2K), unchecked(_DICOM, frames=[0]), mutations.BINARY, in_child=True),
    "torch-unchecked": Target(state_dict, unchecked(_TORCH), mutations.BINARY, in_child=True),
}
