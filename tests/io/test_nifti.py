from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest

from grids import grid
from napari_medseg import geometry, io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import FloatArray
from napari_medseg.volume import Grid, Segmentation, Volume
from reader_suite import DetachedReaderSuite, FileReaderSuite, farthest_mm, noise

RAS = np.array([[-0.8, 0, 0, 90], [0, 0.9, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]])
VOXELS = noise((5, 4, 3), "int16")


class TestNifti(FileReaderSuite):
    suffix = ".nii"
    dtypes: ClassVar[tuple[str, ...]] = (*FileReaderSuite.dtypes, "int8", "int64", "uint64")


class TestCompressedNifti(FileReaderSuite):
    suffix = ".nii.gz"


class TestNiftiPair(DetachedReaderSuite):
    suffix = ".hdr"

    def test_text_is_not_an_image(self, folder: Path) -> None:
        for suffix in (".hdr", ".img"):
            (folder / f"text{suffix}").write_text("patient,age\n" * 100)
        with pytest.raises(FileError, match=r"text\.hdr: not a NIfTI"):
            io.read(folder / "text.hdr")


def saved(path: Path, voxels: Any = VOXELS, affine: FloatArray = RAS, **header: Any) -> Path:
    """A file of nibabel's with fields of the header set afterwards, unchecked."""
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, code=1)
    content = bytearray(image.to_bytes())
    changed = nib.Nifti1Header.from_fileobj(BytesIO(content), check=False)
    for name, value in header.items():
        changed[name] = value
    content[:348] = changed.binaryblock
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_axes_are_reversed_and_nothing_else(tmp_path: Path) -> None:
    volume = io.read(saved(tmp_path / "a.nii"))
    assert np.array_equal(volume.data[0], VOXELS.T)
    assert volume.grid.orientation == "SAL"
    # index (i, j, k) = (3, 2, 1) in RAS is (-0.8 * 3 + 90, 0.9 * 2 - 126, 2.5 - 72)
    assert volume.grid.index_to_world([1, 2, 3]) == pytest.approx([-69.5, 124.2, -87.6])


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image], ids=["NIfTI-1", "NIfTI-2"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_versions_and_byte_orders(tmp_path: Path, image_class: Any, order: str) -> None:
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    image = image_class(VOXELS, RAS, header)
    nib.save(image, tmp_path / "a.nii")
    volume = io.read(tmp_path / "a.nii")
    assert np.array_equal(volume.data[0], VOXELS.T)
    assert volume.data.dtype.isnative


@pytest.mark.parametrize("given", [".hdr", ".img"])
def test_a_pair_is_read_by_either_name(tmp_path: Path, given: str) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, RAS), tmp_path / "a.img")
    volume = io.read(tmp_path / f"a{given}")
    assert np.array_equal(volume.data[0], VOXELS.T)
    assert volume.name == "a"
    (tmp_path / "a.img").unlink()
    with pytest.raises(FileError, match=r"its other half is missing: no such file: .*a\.img"):
        io.read(tmp_path / "a.hdr")


def test_scaled_integers_become_floats(tmp_path: Path) -> None:
    volume = io.read(saved(tmp_path / "a.nii", scl_slope=0.5, scl_inter=-10))
    assert volume.data.dtype == np.float32
    assert volume.data[0] == pytest.approx(VOXELS.T * 0.5 - 10)


@pytest.mark.parametrize("header", [{"scl_slope": 0, "scl_inter": 7}, {"scl_slope": np.nan}], ids=["0", "NaN"])
def test_no_slope_is_no_scaling(tmp_path: Path, header: Mapping[str, Any]) -> None:
    assert np.array_equal(io.read(saved(tmp_path / "a.nii", **header)).data[0], VOXELS.T)


REFUSED = [
    pytest.param({"magic": b"XXX"}, "not a NIfTI file", id="magic"),
    pytest.param({"sizeof_hdr": 7}, "not a NIfTI file", id="header size"),
    pytest.param({"dim": [9, 1, 1, 1, 1, 1, 1, 1]}, "impossible dimensions", id="nine axes"),
    pytest.param({"dim": [0, 1, 1, 1, 1, 1, 1, 1]}, "impossible dimensions", id="no axes"),
    pytest.param({"dim": [3, 5, -4, 3, 1, 1, 1, 1]}, "impossible dimensions", id="negative size"),
    pytest.param({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "cut short .*70362301923326 bytes", id="huge"),
    pytest.param({"vox_offset": -8}, "impossible offset of the voxels: -8", id="negative offset"),
    pytest.param({"vox_offset": np.nan}, "(impossible offset of the voxels: nan|header is damaged)", id="NaN offset"),
    pytest.param({"vox_offset": 4096}, "cut short", id="offset past the end"),
    pytest.param({"vox_offset": 1}, "impossible offset of the voxels: 1, within the header", id="offset 1"),
    pytest.param({"vox_offset": 348}, "impossible offset of the voxels: 348, within the header", id="offset 348"),
    pytest.param({"vox_offset": 351}, "impossible offset of the voxels: 351, within the header", id="offset 351"),
    pytest.param({"vox_offset": 352.5}, "impossible offset of the voxels: 352.5", id="offset of half a byte"),
    pytest.param({"vox_offset": 1e30}, "cut short", id="offset of 1e30"),
    pytest.param({"datatype": 9999}, "type of its voxels is not known: code 9999", id="type"),
    pytest.param({"scl_slope": np.inf}, "intensity scale .* is not finite", id="slope"),
    pytest.param({"srow_x": [np.nan, 0, 0, 0]}, "geometry cannot be used: .*finite", id="NaN affine"),
    pytest.param({"srow_x": [0, 0.9, 0, 0]}, "geometry cannot be used: .*(singular|non-zero)", id="singular affine"),
    pytest.param({"sform_code": 0, "pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "spacing .*must be positive", id="spacing"),
    pytest.param({"sform_code": 0, "quatern_b": 7.0}, "qform quaternion", id="quaternion"),
    pytest.param({"sform_code": 0, "quatern_b": np.nan}, "(qform quaternion|finite)", id="NaN quaternion"),
]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("header", "match"), REFUSED)
def test_an_impossible_header_is_refused(tmp_path: Path, header: Mapping[str, Any], match: str, suffix: str) -> None:
    path = saved(tmp_path / f"odd{suffix}", **header)
    with pytest.raises(FileError, match=rf"odd{suffix}: .*{match}"):
        io.read(path)


TOLD = [
    pytest.param({"qoffset_x": 50.0}, "sform and qform disagree .*the sform is used", id="forms"),
    pytest.param({"pixdim": [1, 2, 2, 2, 1, 1, 1, 1], "qform_code": 0}, "sform and pixdim disagree", id="pixdim"),
    pytest.param({"sform_code": 0, "qform_code": 0}, "left and right are unknown", id="no forms"),
    pytest.param({"srow_x": [-0.8, 0.09, 0, 90], "qform_code": 0}, "axes are not orthogonal", id="shear"),
    pytest.param({"bitpix": 64}, "bitpix is 64", id="bitpix"),
]


UNUSED = [
    pytest.param({"quatern_b": 7.0}, id="quaternion too long"),
    pytest.param({"quatern_c": np.nan}, id="quaternion NaN"),
    pytest.param({"qoffset_y": np.nan}, id="offset NaN"),
    pytest.param({"pixdim": [1, 0, 0, 0, 0, 0, 0, 0]}, id="no spacing"),
    pytest.param({"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, id="spacing NaN"),
]


@pytest.mark.parametrize("header", UNUSED)
def test_a_qform_that_is_not_used_is_told_and_never_refused(tmp_path: Path, header: Mapping[str, Any]) -> None:
    with pytest.warns(MedsegWarning, match="the sform is used"):
        volume = io.read(saved(tmp_path / "odd.nii", **header))
    assert farthest_mm(volume.grid, Grid((3, 4, 5), geometry.from_nifti(RAS))) < 1e-4


def test_the_qform_stands_in_for_an_empty_sform(tmp_path: Path) -> None:
    path = saved(tmp_path / "odd.nii", srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4)
    with pytest.warns(MedsegWarning, match="all numbers of the sform are 0; the qform is used"):
        volume = io.read(path)
    assert farthest_mm(volume.grid, Grid((3, 4, 5), geometry.from_nifti(RAS))) < 1e-4


@pytest.mark.parametrize("sform_code", [0, 1])
@pytest.mark.parametrize("qfac", [0, 2, np.nan], ids=str)
def test_a_pixdim_0_that_is_not_minus_1_is_1(tmp_path: Path, qfac: float, sform_code: int) -> None:
    affine = RAS @ np.diag([1, 1, 1, 1]) * [[-1], [1], [1], [1]]  # a proper turn: its pixdim[0] is 1
    pixdim = [qfac, 0.8, 0.9, 2.5, 1, 1, 1, 1]
    volume = io.read(saved(tmp_path / "a.nii", affine=affine, sform_code=sform_code, pixdim=pixdim))
    assert farthest_mm(volume.grid, Grid((3, 4, 5), geometry.from_nifti(affine))) < 1e-4


@pytest.mark.parametrize("length", [1 + 2e-7, 1 + 1e-6, 1 + 5e-5])
def test_a_quaternion_too_long_by_rounding_is_a_turn(tmp_path: Path, length: float) -> None:
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    volume = io.read(saved(tmp_path / "a.nii", affine=affine, sform_code=0, quatern_d=length))
    assert farthest_mm(volume.grid, Grid((3, 4, 5), geometry.from_nifti(affine))) < 1e-4


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_without_an_offset_the_voxels_follow_the_header(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"odd{suffix}", vox_offset=0)
    with pytest.warns(MedsegWarning, match=r"\(vox_offset\) is 0; they are read behind the header, from byte 352 on"):
        volume = io.read(path)
    assert np.array_equal(volume.data[0], VOXELS.T)
    with pytest.warns(MedsegWarning, match="vox_offset"):
        assert io.peek(path).grid.shape == (3, 4, 5)


def test_without_an_offset_nifti_2_has_its_own(tmp_path: Path) -> None:
    nib.save(nib.Nifti2Image(VOXELS, RAS), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[168:176] = bytes(8)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.warns(MedsegWarning, match="from byte 544 on"):
        assert np.array_equal(io.read(tmp_path / "a.nii").data[0], VOXELS.T)


def test_without_an_offset_extensions_are_refused(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nii", Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL"), {1: "liver"}))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[108:112] = bytes(4)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(FileError, match="impossible offset of the voxels: 0"):
        io.read(tmp_path / "a.nii")


def test_a_pair_without_an_offset_starts_with_the_voxels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, RAS), tmp_path / "a.img")
    assert np.array_equal(io.read(tmp_path / "a.hdr").data[0], VOXELS.T)


def test_a_header_alone_has_no_voxels_in_itself(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", magic=b"ni1", vox_offset=0)
    with pytest.warns(MedsegWarning, match="from byte 352 on"):
        assert np.array_equal(io.read(path).data[0], VOXELS.T)


def test_data_on_a_surface_are_no_volume(tmp_path: Path) -> None:
    space = nib.cifti2.BrainModelAxis.from_mask(np.ones((3, 3, 3), bool), name="other", affine=np.eye(4))
    image = nib.Cifti2Image(np.zeros((2, 27), np.float32), (nib.cifti2.ScalarAxis(["a", "b"]), space))
    nib.save(image, tmp_path / "a.dscalar.nii")
    with pytest.raises(NotSupportedError, match=r"a\.dscalar\.nii: a CIFTI file: data on the surface"):
        io.read(tmp_path / "a.dscalar.nii")


@pytest.mark.parametrize(("header", "match"), TOLD)
def test_an_odd_header_is_told(tmp_path: Path, header: Mapping[str, Any], match: str) -> None:
    with pytest.warns(MedsegWarning, match=match):
        volume = io.read(saved(tmp_path / "odd.nii", **header))
    assert np.array_equal(volume.data[0], VOXELS.T)


def test_the_sform_wins(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="disagree"):
        volume = io.read(saved(tmp_path / "odd.nii", qoffset_x=50.0))
    assert volume.grid.origin == pytest.approx((-72, 126, -90))


def test_the_qform_stands_in_for_a_missing_sform(tmp_path: Path) -> None:
    volume = io.read(saved(tmp_path / "a.nii", sform_code=0))
    assert farthest_mm(volume.grid, Grid((3, 4, 5), geometry.from_nifti(RAS))) < 1e-4


@pytest.mark.parametrize(("code", "name", "mm"), [(1, "metres", 1000.0), (3, "microns", 0.001)])
def test_other_units_are_converted_and_told(tmp_path: Path, code: int, name: str, mm: float) -> None:
    affine = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ RAS
    with pytest.warns(MedsegWarning, match=f"the unit is {name}"):
        volume = io.read(saved(tmp_path / "a.nii", affine=affine, xyzt_units=code))
    assert volume.grid.spacing == pytest.approx((2.5, 0.9, 0.8))


def test_a_unit_that_is_none_of_nifti_is_told(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match=r"the unit of its positions is not known \(xyzt_units 5\); mm are taken"):
        volume = io.read(saved(tmp_path / "a.nii", xyzt_units=5))
    assert volume.grid.spacing == pytest.approx((2.5, 0.9, 0.8))


def test_singleton_axes_are_dropped(tmp_path: Path) -> None:
    assert io.read(saved(tmp_path / "a.nii", VOXELS[..., None, None])).data.shape == (1, 3, 4, 5)


def test_the_fifth_axis_is_channels(tmp_path: Path) -> None:
    voxels = noise((5, 4, 3, 1, 2), "int16")
    volume = io.read(saved(tmp_path / "a.nii", voxels))
    assert np.array_equal(volume.data[:], voxels[:, :, :, 0].T)


@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (5, 4, 3, 2, 2), (5, 4, 3, 1, 2, 2)], ids=str)
def test_a_time_axis_is_not_guessed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path, voxels = tmp_path / "a.nii", noise(shape, "int16")
    count = int(np.prod(shape[3:]))
    says = rf"a\.nii: .*is not guessed: name a\.nii#0 to a\.nii#{count - 1}, or a\.nii#channels"
    with pytest.raises(InputError, match=says) as caught:
        io.read(saved(path, voxels))
    assert str(shape) in str(caught.value)
    points = voxels.T.reshape(count, *shape[2::-1])
    for chosen in (0, count - 1):
        volume = io.read(tmp_path / f"a.nii#{chosen}")
        np.testing.assert_array_equal(np.asarray(volume.data)[0], points[chosen])
        assert volume.name == f"a#{chosen}"
    np.testing.assert_array_equal(np.asarray(io.read(tmp_path / "a.nii#channels").data), points)
    with pytest.raises(InputError, match=rf"#{count} is none of them"):
        io.read(tmp_path / f"a.nii#{count}")


def test_a_choice_among_one_is_told(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"a\.nii: #1 chooses nothing"):
        io.read(tmp_path / "a.nii#1")


def test_a_plane_is_one_slice(tmp_path: Path) -> None:
    with pytest.warns(MedsegWarning, match="a 2D image; it is read as one slice"):
        volume = io.read(saved(tmp_path / "a.nii", VOXELS[:, :, 0]))
    assert volume.data.shape == (1, 1, 4, 5)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]], ids=["complex", "RGB"])
def test_other_than_real_numbers_are_refused(tmp_path: Path, dtype: Any) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3), dtype), RAS), tmp_path / "a.nii")
    with pytest.raises(NotSupportedError, match="convert them to grey values"):
        io.read(tmp_path / "a.nii")


def test_a_plain_file_named_gz_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
    with pytest.raises(FileError, match=r"named \.gz but is not compressed"):
        io.read(tmp_path / "a.nii.gz")


def test_the_bytes_of_a_cut_file_are_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError, match="120 bytes expected, at most 100 there"):
        io.read(path)
    cut = saved(tmp_path / "b.nii.gz", noise((50, 40, 30), "int16"))
    cut.write_bytes(cut.read_bytes()[:-1000])
    with pytest.raises(FileError, match=r"120000 bytes expected, at most \d+ there"):
        io.read(cut)


def test_a_wrong_checksum_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz")
    content = path.read_bytes()
    crc = struct.unpack("<I", content[-8:-4])[0]
    path.write_bytes(content[:-8] + struct.pack("<I", crc ^ 1) + content[-4:])
    with pytest.raises(FileError, match=r"gzip stream is damaged .*CRC"):
        io.read(path)
    path.write_bytes(content[:-8])
    with pytest.raises(FileError, match="gzip stream ends early"):
        io.read(path)


def test_bytes_after_the_voxels_are_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.warns(MedsegWarning, match="4 extra bytes after the voxels"):
        io.read(path)


def test_shear_is_written_without_a_qform(tmp_path: Path) -> None:
    affine = np.array(grid("SPL").affine)
    affine[0, 1] = 0.2
    io.write(tmp_path / "a.nii", Volume(noise((1, 3, 4, 5), "int16"), Grid((3, 4, 5), affine)))
    with pytest.warns(MedsegWarning, match="not orthogonal"):
        read = io.read(tmp_path / "a.nii")
    assert farthest_mm(read.grid, Grid((3, 4, 5), affine)) < 0.01
    assert nib.load(tmp_path / "a.nii").header["qform_code"] == 0


def test_a_long_axis_takes_nifti_2(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nii", Segmentation(np.ones((1, 1, 40_000), np.uint8), Grid((1, 1, 40_000), np.eye(4))))
    assert isinstance(nib.load(tmp_path / "a.nii"), nib.Nifti2Image)
    assert io.read_segmentation(tmp_path / "a.nii").data.shape == (1, 1, 40_000)


def test_comments_of_others_are_left_alone(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOXELS, RAS)
    for text in (b"not ours", b'{"theirs": 1}', b'{"napari_medseg": 3}'):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, text))
    nib.save(image, tmp_path / "a.nii")
    with pytest.warns(MedsegWarning, match="attributes are not understood and left out"):
        assert io.load(tmp_path / "a.nii").provenance == {}


class TestRealFiles:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            pytest.param(
                "abdomen_ct/example_ct.nii.gz",
                "112x101x122 at 3, 3, 3 mm, origin (94.3, -11.32, 178), SAR",
                id="CT",
            ),
            pytest.param(
                "ms_lesions_mr/patient07/FLAIR.nii.gz",
                "91x109x91 at 2, 2, 2 mm, origin (-71.5, 125.5, -89.5), SAL",
                id="qform only",
            ),
            pytest.param(
                "spine_mr/t2.nii.gz", "52x55x60 at 1, 1, 1 mm, origin (-19.32, -31.79, 32.22), RSP", id="sagittal"
            ),
            pytest.param(
                "spine_mr/t2s.nii.gz",
                "9x54x49 at 7.5, 0.5, 0.5 mm, origin (2.58, 13.22, -9.425), SAL, oblique",
                id="oblique",
            ),
            pytest.param("nifti_odd/big.nii.gz", "21x64x64 at 6, 4, 4 mm, origin (0, 0, 0), SAL", id="big-endian"),
        ],
    )
    def test_a_volume_lies_where_it_lies(self, medseg_data: Path, name: str, expected: str) -> None:
        assert io.read(medseg_data / name).grid.describe() == expected

    @pytest.mark.parametrize(
        "name", ["abdomen_ct/example_ct_sm.nii.gz", "spine_mr/t2.nii.gz", "nifti_odd/little.nii.gz"]
    )
    def test_nibabel_agrees(self, medseg_data: Path, name: str) -> None:
        volume, image = io.read(medseg_data / name), nib.load(medseg_data / name)
        assert np.array_equal(volume.data[0], np.asanyarray(image.dataobj).T.reshape(volume.grid.shape))
        assert np.allclose(geometry.to_nifti(volume.grid.affine), image.affine)

    def test_both_byte_orders_hold_the_same(self, medseg_data: Path) -> None:
        big, little = (io.read(medseg_data / "nifti_odd" / f"{order}.nii.gz") for order in ("big", "little"))
        assert np.array_equal(big.data[:], little.data[:])

    def test_labels_lie_on_their_images(self, medseg_data: Path) -> None:
        folder = medseg_data / "hippocampus"
        files = sorted((folder / "labels").glob("*.nii.gz"))[:5]
        assert len(files) == 5
        for labels in files:
            image = io.read(folder / "images" / labels.name)
            assert set(np.unique(io.read_segmentation(labels).data[:])) == {0, 1, 2}
            assert io.read_segmentation(labels).grid.same_as(image.grid)

    def test_float_labels_are_whole_numbers(self, medseg_data: Path) -> None:
        labels = io.read_segmentation(medseg_data / "spine_mr" / "t2_seg-manual_labeled.nii.gz")
        assert labels.data.dtype == np.uint8

    def test_of_a_diffusion_series_one_volume_is_chosen(self, medseg_data: Path) -> None:
        with pytest.raises(InputError, match=r"4D image of shape .* = \(40, 42, 5, 7\)"):
            io.read(medseg_data / "spine_mr" / "dmri.nii.gz")
        assert io.read(medseg_data / "spine_mr" / "dmri.nii.gz#6").data.shape == (1, 5, 42, 40)

    def test_what_is_not_a_nifti(self, medseg_data: Path) -> None:
        with pytest.raises(FileError, match=r"not-nifti\.nii: not a NIfTI file"):
            io.read(medseg_data / "nifti_odd" / "not-nifti.nii")

    def test_labels_are_described(self, medseg_data: Path) -> None:
        folder = medseg_data / "abdomen_ct"
        lines = describe(folder / "example_seg.nii.gz", labels=True, image=folder / "example_ct_sm.nii.gz")
        assert "  5  liver  38634 voxels" in lines  # TotalSegmentator's name, from the header
        assert lines[-1].startswith("grid: the same as that of")


def test_an_outline_needs_no_voxels(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 1000, (1, 20, 20, 20)).astype(np.int16)
    io.write(path, Volume(voxels, Grid.from_spacing((20, 20, 20), (3, 2, 1))))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert io.peek(path).grid.spacing == (3.0, 2.0, 1.0)
    with pytest.raises(FileError, match=r"a\.nii\.gz: the gzip stream is damaged"):
        io.read(path)


@pytest.mark.parametrize(("stored", "slope", "read"), [("int16", 0.5, "float32"), ("int32", 2.0, "float64")])
def test_an_outline_has_the_type_of_scaled_values(tmp_path: Path, stored: str, slope: float, read: str) -> None:
    image = nib.Nifti1Image(np.ones((3, 4, 5), stored), np.eye(4))
    image.header.set_slope_inter(slope, 1.0)
    nib.save(image, tmp_path / "a.nii")
    assert io.peek(tmp_path / "a.nii").dtype == io.read(tmp_path / "a.nii").data.dtype == np.dtype(read)


def test_the_outline_of_a_time_series_is_that_of_a_point(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"name a\.nii#0 to a\.nii#1"):
        io.peek(tmp_path / "a.nii")
    assert io.peek(tmp_path / "a.nii#1").grid.shape == (5, 4, 3)
    assert io.peek(tmp_path / "a.nii#channels").channels == ("channel 0", "channel 1")
