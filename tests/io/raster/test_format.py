"""2D images: what a file states is what is read, and what is written comes back; the rest is refused in one line."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from napari_medseg import Grid, Segmentation, Volume, io, read, read_segmentation, write
from napari_medseg.cases import Case
from napari_medseg.errors import FileError, InputError, MedsegError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import orientation_of
from napari_medseg.io.choice import PointError
from napari_medseg.io.disk.memory import SETTING

PLACE = Grid.from_spacing((1, 5, 7), (1.0, 0.7, 0.3))
LABELS = {1: "liver, left lobe", 7: "Lunge (größer)"}
GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)
RGB = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
MASK = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def tiff(path: Path, pixels: npt.NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".TIF"])
@pytest.mark.parametrize(
    ("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("uint16", 1), ("float32", 2), ("int16", 1)]
)
def test_what_a_format_holds_comes_back(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    data = np.random.default_rng(1).integers(0, 9, (channels, 1, 5, 7)).astype(dtype)
    image = Volume(data, Grid((1, 5, 7), np.eye(4), in_pixels=True) if suffix == ".bmp" else PLACE)
    path = tmp_path / f"image{suffix}"
    if dtype == "float32" and suffix in (".png", ".bmp"):
        with pytest.raises(InputError, match=r"this format holds no 2 channels: write \.tif instead"):
            write(path, image)
        assert list(tmp_path.iterdir()) == []
        return
    write(path, image)
    found = read(path)
    assert same(found.data, data)
    assert found.grid.same_as(image.grid)
    assert np.allclose(found.grid.affine, image.grid.affine, atol=1e-12)
    assert found.name == "image"
    seen = io.peek(path)
    assert (seen.grid.shape, seen.dtype, seen.channels) == (found.grid.shape, found.data.dtype, found.channels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("largest", [7, 1000])
def test_labels_come_back_with_names_colours_and_provenance(tmp_path: Path, suffix: str, largest: int) -> None:
    data = np.zeros((1, 5, 7), np.int32)
    data[0, 1:3], data[0, 4] = 1, largest
    colours = {1: (255, 0, 10), 7: (1, 2, 3)}
    path = tmp_path / f"labels{suffix}"
    write(path, Segmentation(data, PLACE, LABELS, colours=colours), provenance={"overlap": 0.5})
    found = io.load(path)
    assert isinstance(found, Segmentation)
    assert same(found.data, data)
    assert (found.labels, found.colours, found.provenance) == (LABELS, colours, {"overlap": 0.5})
    with Image.open(path) as shown:  # any viewer shows the colours of a small PNG, and its pixels are the ids
        assert (shown.mode == "P") is (suffix == ".png" and largest == 7)
        assert same(np.asarray(shown), data[0])


def test_what_no_2d_format_holds_is_refused_or_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a 2D format holds one slice; got 2 x 5 x 7 voxels"):
        write(tmp_path / "a.png", Volume(np.zeros((1, 2, 5, 7), np.uint8), Grid.from_spacing((2, 5, 7), (1, 1, 1))))
    with pytest.raises(InputError, match=r"values from 0 to 70000 do not fit this format \(0 to 65535\): write \.tif"):
        write(tmp_path / "a.png", Segmentation(np.full((1, 5, 7), 70000) * (GREY > 9), PLACE))
    with pytest.raises(InputError, match="no format is written under this name"):
        write(tmp_path / "a.jpg", Volume(GREY[None, None], PLACE))
    told = "BMP holds no names or colours of labels, no provenance and no size of a pixel"
    with pytest.warns(MedsegWarning, match=told):
        write(tmp_path / "a.bmp", Segmentation(GREY[None], PLACE, {1: "liver"}))
    unplaced = Grid((1, 5, 7), np.eye(4), in_pixels=True)
    with pytest.warns(MedsegWarning, match=told):
        write(tmp_path / "a.bmp", Segmentation(GREY[None], unplaced, colours={1: (255, 0, 0)}))
    moved = Grid.from_spacing((1, 5, 7), (1.0, 0.7, 0.3), origin=(9.0, 0.0, 0.0))
    with pytest.warns(MedsegWarning, match="the position and the direction of the slice are lost"):
        write(tmp_path / "a.png", Volume(GREY[None, None], moved))


@pytest.mark.filterwarnings("ignore:.*the position and the direction")
@pytest.mark.parametrize("flipped", [(), (1,), (2,), (1, 2)], ids=str)
def test_a_slice_is_written_as_it_lies_on_the_screen(tmp_path: Path, flipped: tuple[int, ...]) -> None:
    affine = np.diag([1.0, 0.7, 0.3, 1.0])
    for axis in flipped:
        affine[:, axis] *= -1
    stored = np.flip(GREY[None], flipped)
    write(tmp_path / "a.png", Volume(stored[None], Grid((1, 5, 7), affine)))
    assert same(Image.open(tmp_path / "a.png"), GREY)


SPACINGS: dict[str, tuple[dict[str, Any], tuple[float, float] | None]] = {
    # how it is saved: (y, x) in mm, None where a pixel has no size
    "png": ({}, None),
    "png 254 dpi": ({"dpi": (254, 127)}, (0.2, 0.1)),
    "png 72 dpi": ({"dpi": (72, 72)}, None),
    "png 96 dpi": ({"dpi": (96, 96)}, None),
    "jpg 300 dpi": ({"dpi": (300, 300)}, None),
    "bmp 300 dpi": ({"dpi": (300, 300)}, None),
    "tif": ({}, None),
    "tif cm": ({"resolution": (100, 50), "resolutionunit": "CENTIMETER"}, (0.2, 0.1)),
    "tif inch": ({"resolution": (254, 254), "resolutionunit": "INCH"}, (0.1, 0.1)),
    "tif no unit": ({"resolution": (254, 254), "resolutionunit": "NONE"}, None),
    "tif 72 dpi": ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    "tif zero": ({"resolution": ((0, 1), (0, 1)), "resolutionunit": "INCH"}, None),
    "tif ImageJ": ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}}, (0.25e-3, 0.5e-3)),
    "tif ImageJ in words": (
        {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "micrometer"}},
        (0.25e-3, 0.5e-3),
    ),
    "tif ImageJ escaped": (
        {"imagej": True, "resolution": (2, 4), "metadata": {"unit": "\\u00B5m"}},
        (0.25e-3, 0.5e-3),
    ),
    "tif ImageJ feet": ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "feet"}}, (76.2, 152.4)),
    "tif ImageJ pixels": ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "pixel"}}, None),
    "tif OME": (
        {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 2, "PhysicalSizeYUnit": "mm"}},
        (2, 0.5e-3),
    ),
}


@pytest.mark.parametrize("case", SPACINGS)
def test_a_pixel_is_as_large_as_the_file_states(tmp_path: Path, case: str) -> None:
    options, expected = SPACINGS[case]
    path = tmp_path / f"a.{case[:3]}"
    (tiff if path.suffix == ".tif" else save)(path, GREY, **options)
    found = read(path)
    # a PNG counts whole pixels in a metre
    assert np.allclose(found.grid.spacing, (1.0, *(expected or (1.0, 1.0))), rtol=1e-4)
    notes = " ".join(io.peek(path).notes)
    assert ("does not say how large a pixel is: lengths are in pixels" in notes) is (expected is None)
    assert found.grid.in_pixels is (expected is None)
    assert ("dots per inch" in notes) is ("dpi" in case or "inch" in case)


@given(
    suffix=st.sampled_from([".png", ".tif"]),
    spacing=st.none() | st.tuples(*[st.sampled_from([1.0, 0.2, 25.4 / 300]) | st.floats(1e-3, 100)] * 2),
    is_labels=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_size_comes_back_exactly_and_no_size_stays_none(
    tmp_path: Path, suffix: str, spacing: tuple[float, float] | None, is_labels: bool
) -> None:
    grid = Grid((1, 5, 7), np.diag([1.0, *(spacing or (1.0, 1.0)), 1.0]), in_pixels=spacing is None)
    path = tmp_path / f"a{suffix}"
    write(path, Segmentation(GREY[None], grid) if is_labels else Volume(GREY[None, None], grid))
    found = io.peek(path)
    assert found.grid.in_pixels is (spacing is None)
    assert np.array_equal(found.grid.affine, grid.affine)
    assert bool(found.notes) is (spacing is None)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_a_turned_picture_lies_upright(tmp_path: Path, number: int, suffix: str) -> None:
    """Pillow turns pixels by what Exif states, as every viewer does."""
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = number
    if suffix == ".jpg":
        save(path, np.kron(GREY * 5, np.ones((8, 8), np.uint8)), exif=exif, quality=100)
    else:
        tiff(path, GREY, extratags=[(274, "H", 1, number, True)])
    stored = Image.fromarray(np.asarray(Image.open(path)) if suffix == ".jpg" else GREY)
    stored.getexif()[0x0112] = number
    upright = np.asarray(ImageOps.exif_transpose(stored))
    found = read(path)
    target = Grid.from_spacing((1, *upright.shape), (1.0, 1.0, 1.0))
    order = found.grid.order_onto(target)
    assert order is not None, orientation_of(found.grid.affine)
    assert same(order.apply(np.asarray(found.data))[0, 0], upright)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("shape", [(8, 10), (8, 8)], ids=["oblong", "square"])
@pytest.mark.parametrize("size_mm", [None, 0.25], ids=["pixels", "mm"])
def test_a_mask_drawn_on_a_turned_picture_lies_on_it(
    tmp_path: Path, number: int, shape: tuple[int, int], size_mm: float | None
) -> None:
    upright = np.zeros(shape, np.uint8)
    upright[:3, :2] = 255
    turned = next(p for p in _ways(upright) if same(_as_shown(p, number), upright))
    tags: dict[str, Any] = {"extratags": [(274, "H", 1, number, True)]}
    tags |= {"resolution": (10 / size_mm, 10 / size_mm), "resolutionunit": "CENTIMETER"} if size_mm else {}
    tiff(tmp_path / "a.tif", turned, **tags)
    case = Case(name="a", images=(tmp_path / "a.tif",), labels=save(tmp_path / "m.png", (upright > 0).astype(np.uint8)))
    image, mask = case.load()
    assert same(np.asarray(image.data)[0] > 128, np.asarray(mask.data) > 0)
    assert (mask.grid.in_pixels, mask.grid.spacing) == (size_mm is None, image.grid.spacing)


def _ways(picture: Any) -> Iterator[Any]:
    """A picture turned and mirrored in the eight ways."""
    for side in (picture, picture.T):
        yield from (np.ascontiguousarray(side[::a, ::b]) for a in (1, -1) for b in (1, -1))


def _as_shown(stored: Any, number: int) -> Any:
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = number
    return np.asarray(ImageOps.exif_transpose(image))


def test_colours_are_three_channels_and_opacity_is_told(tmp_path: Path) -> None:
    found = read(save(tmp_path / "a.png", RGB))
    assert found.channels == ("red", "green", "blue")
    assert same(np.moveaxis(np.asarray(found.data)[:, 0], 0, -1), RGB)
    solid = np.concatenate([RGB, np.full((5, 7, 1), 255, np.uint8)], axis=-1)
    assert same(read(save(tmp_path / "b.png", solid)).data, found.data)
    solid[0, 0, 3] = 9
    with pytest.warns(MedsegWarning, match="some pixels are transparent"):
        assert same(read(save(tmp_path / "c.png", solid)).data, found.data)
    palette = Image.fromarray(RGB).quantize(200)
    palette.save(tmp_path / "p.png")
    expected = np.moveaxis(np.asarray(palette.convert("RGB")), -1, 0)[:, None]
    assert same(read(tmp_path / "p.png").data, expected)
    assert read(tmp_path / "p.png").channels == io.peek(tmp_path / "p.png").channels == ("red", "green", "blue")
    assert same(read_segmentation(tmp_path / "p.png").data[0], palette)


def test_a_mask_of_0_and_255_keeps_its_ids_and_one_of_a_bit_has_1(tmp_path: Path) -> None:
    assert same(read_segmentation(save(tmp_path / "a.png", MASK)).data[0], MASK)
    assert same(read_segmentation(save(tmp_path / "b.png", MASK > 0)).data[0], MASK > 0)
    three = np.stack([MASK] * 3, axis=-1)
    assert same(read_segmentation(save(tmp_path / "c.png", three)).data[0], MASK)
    with pytest.raises(NotSupportedError, match=r"d\.jpg: JPEG changes the values of pixels, and labels are exact"):
        read_segmentation(save(tmp_path / "d.jpg", MASK))


def test_colours_stand_for_the_ids_of_a_table(tmp_path: Path) -> None:
    coloured = np.zeros((2, 3, 3), np.uint8)
    coloured[0, 1], coloured[1] = (255, 0, 0), (0, 255, 0)
    path = save(tmp_path / "a.png", coloured)
    with pytest.raises(InputError, match=r"a\.png: colours \(\(0, 0, 0\), \(0, 255, 0\), .*put a table colours\.csv"):
        read_segmentation(path)
    table = tmp_path / "colours.csv"
    table.write_text("id,name,red,green,blue\n300,liver,255,0,0\n2,tumour,0,255,0\n")
    found = read_segmentation(path)
    assert same(found.data[0], [[0, 300, 0], [2, 2, 2]])
    assert (found.labels, found.colours) == ({2: "tumour", 300: "liver"}, {2: (0, 255, 0), 300: (255, 0, 0)})
    assert io.peek(path, as_labels=True).dtype == found.data.dtype
    table.write_text("id,name,red,green,blue\n1,liver,255,0,0\n")
    with pytest.raises(InputError, match=r"3 pixels have colours \(\(0, 255, 0\)\) that .*colours\.csv does not name"):
        read_segmentation(path)
    for wrong in ("nonsense", "id,name,red,green,blue\n1,a,256,0,0\n", "id,name,red,green,blue\n-1,a,2,0,0\n", "\0"):
        table.write_text(wrong)
        with pytest.raises((FileError, InputError), match=r"colours\.csv"):
            read_segmentation(path)
    table.rename(tmp_path / "class_dict.csv").write_text("name,r,g,b\nnothing,0,0,0\nliver,255,0,0\ntumour,0,255,0\n")
    assert same(read_segmentation(path).data[0], [[0, 1, 0], [2, 2, 2]])


def test_pages_are_chosen_by_number_or_taken_for_channels(tmp_path: Path) -> None:
    stack = np.arange(70, dtype=np.uint16).reshape(2, 5, 7)
    path = tiff(tmp_path / "a.tif", stack, photometric="minisblack")
    with pytest.raises(PointError, match=r"2 pages of one 2D image each; which .* is not guessed: name a.tif#0"):
        read(path)
    assert same(read(f"{path}#1").data[0, 0], stack[1])
    assert same(read(f"{path}#channels").data[:, 0], stack)
    assert len(io.peek(f"{path}#channels").channels) == 2
    with pytest.raises(InputError, match="#5 is none of them"):
        read(f"{path}#5")
    planes = tiff(tmp_path / "planes.tif", np.stack([GREY] * 5), photometric="minisblack", planarconfig="separate")
    assert read(planes).data.shape == (5, 1, 5, 7)
    white = tiff(tmp_path / "white.tif", GREY, photometric="miniswhite")
    assert same(read(white).data[0, 0], 255 - GREY)
    with pytest.raises(NotSupportedError, match="its white is 0"):
        read_segmentation(white)


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_compressed_tiff_is_read(tmp_path: Path, kind: str) -> None:
    for pixels in (GREY, RGB, GREY.astype(np.uint16) * 1000):
        path = save(tmp_path / "a.tif", pixels, compression=kind)
        found = np.moveaxis(np.asarray(read(path).data)[:, 0], 0, -1)
        assert same(found if pixels.ndim == 3 else found[..., 0], pixels)


def test_a_constant_image_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((5, 7), 3, np.uint8))
    with pytest.warns(MedsegWarning, match=r"a\.png: all pixels have the same value, 3"):
        read(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_segmentation(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int = 8, colour: int = 0, pixels: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def animated(path: Path) -> Path:
    frames = [Image.fromarray(GREY + n) for n in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def circle(path: Path) -> Path:
    """Two pages; the second one leads back to itself."""
    tiff(path, np.stack([GREY] * 2), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].offset
        at = second + 2 + 12 * len(file.pages[1].aspage().tags)
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack("<I", second)
    path.write_bytes(content)
    return path


def tall(path: Path) -> Path:
    """One strip is stored, and a million are stated."""
    tiff(path, GREY, rowsperstrip=1, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].aspage().tags["ImageLength"].overwrite(1 << 20)
    return path


HOSTILE = {
    # name: (what is written, words of the refusal)
    "bomb.png": (lambda p: p.write_bytes(png(2**31 - 1, 2**31 - 1)), "too large for the memory|impossible sizes"),
    "large.png": (lambda p: p.write_bytes(png(60_000, 60_000)), "too large for the memory: 3.4 GiB needed"),
    "short.png": (lambda p: p.write_bytes(png(50, 50, pixels=bytes(99))), "damaged or cut short"),
    "cut.png": (lambda p: p.write_bytes(save(p, np.tile(RGB, (9, 9, 1))).read_bytes()[:200]), "cut short"),
    "cut.tif": (lambda p: p.write_bytes(save(p, GREY).read_bytes()[:-150]), "damaged|a TIFF without"),
    "cut.jpg": (lambda p: p.write_bytes(save(p, np.tile(RGB, (9, 9, 1))).read_bytes()[:900]), "cut short"),
    "cut.bmp": (lambda p: p.write_bytes(save(p, RGB).read_bytes()[:90]), "cut short"),
    "magic.png": (lambda p: save(p, GREY, format="JPEG"), "not a PNG file"),
    "magic.tif": (lambda p: save(p, GREY, format="PNG"), "not a TIFF file"),
    "text.bmp": (lambda p: p.write_text("no image" * 20), "not a BMP file"),
    "deep.png": (lambda p: p.write_bytes(png(1, 1, 16, 2, bytes(7))), "16 bits is not read without loss"),
    "cmyk.jpg": (lambda p: Image.new("CMYK", (7, 5)).save(p), "CMYK, the colours of printing"),
    "cmyk.tif": (lambda p: Image.new("CMYK", (7, 5)).save(p), "CMYK, the colours of printing"),
    "moving.png": (animated, "an animation"),
    "complex.tif": (lambda p: tiff(p, GREY.astype(np.complex64)), "pixels of type complex64"),
    "volume.tif": (lambda p: tiff(p, np.zeros((16, 16, 16), np.uint8), volumetric=True, tile=(16,) * 3), "16 pages"),
    "several.tif": (lambda p: (tiff(p, GREY), tiff(p, RGB, append=True)), "2 images of different sizes"),
    "circle.tif": (circle, "its pages go round in a circle after 2"),
    "tall.tif": (tall, "1048576 strips or tiles are stated, more than it has bytes"),
    "bomb.tif": (lambda p: p.write_bytes(tiff(p, GREY).read_bytes().replace(
        struct.pack("<HHII", 256, 4, 1, 7), struct.pack("<HHII", 256, 4, 1, 2**31)).replace(
        struct.pack("<HHII", 257, 4, 1, 5), struct.pack("<HHII", 257, 4, 1, 2**31))), "too large|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make: Any
    make, words = HOSTILE[name]
    make(tmp_path / name)
    monkeypatch.setenv(SETTING, "1")
    for asked in (read, read_segmentation):
        with pytest.raises(MedsegError, match=words) as refused:
            asked(tmp_path / name)
        assert "\n" not in str(refused.value)
        assert name in str(refused.value)
        assert len(str(refused.value)) < 500
