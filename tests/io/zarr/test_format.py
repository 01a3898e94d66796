from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaozarrs
import zarr

from grids import ORIENTATIONS, grid, oblique
from napari_medseg import io
from napari_medseg.cli.describe import describe
from napari_medseg.errors import FileError, InputError, MedsegWarning, NotSupportedError
from napari_medseg.geometry import nearest_axes
from napari_medseg.io.choice import ChoiceError
from napari_medseg.io.zarr.array import StoredArray
from napari_medseg.io.zarr.format import filling_labels, journal_of, scratch_like
from napari_medseg.volume import Grid, Segmentation, Volume
from processes import started
from reader_suite import LABELS, ReaderSuite, farthest_mm, noise

BIG = Grid.from_spacing((70, 130, 40), (0.7, 1.2, 2.5), (3.0, 1.0, -7.0))


class TestOmeZarr(ReaderSuite):
    suffix = ".zarr"
    dtypes: ClassVar[tuple[str, ...]] = (*ReaderSuite.dtypes, "int8", "int64", "uint64", "float16")


class TestOmeZarrByItsLongName(ReaderSuite):
    suffix = ".ome.zarr"


def foreign(
    path: Path,
    axes: str = "zyx",
    shape: tuple[int, ...] = (3, 4, 5),
    scale: tuple[float, ...] | None = None,
    *,
    unit: str | None = "millimeter",
    version: str = "0.5",
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """An OME-Zarr as other tools write it, with parts of its multiscale replaced."""
    transform = {"type": "scale", "scale": list(scale or (1.0,) * len(axes))}
    dataset = {"path": "0", "coordinateTransformations": [transform]}
    kinds = {"t": "time", "c": "channel"}
    rows = [{"name": a, "type": kinds.get(a, "space"), **({"unit": unit} if unit and a in "zyx" else {})} for a in axes]
    multiscale = {"axes": rows, "datasets": [dataset], **(changes or {})}
    if version == "0.4":
        group = zarr.create_group(path, zarr_format=2, attributes={"multiscales": [{**multiscale, "version": "0.4"}]})
    else:
        group = zarr.create_group(path, attributes={"ome": {"version": version, "multiscales": [multiscale]}})
    group.create_array("0", shape=shape, dtype="int16", chunks=(2,) * len(shape))[...] = values(shape)
    return path


def values(shape: tuple[int, ...]) -> Any:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def test_an_image_is_opened_and_not_read(tmp_path: Path) -> None:
    io.write(tmp_path / "a.zarr", Volume(noise((2, *BIG.shape), "int16"), BIG))
    volume = io.read(tmp_path / "a.zarr")
    assert isinstance(volume.data, StoredArray)
    assert volume.data.chunks == (1, 64, 64, 40)


def test_labels_are_the_array_on_the_disk(tmp_path: Path) -> None:
    io.write(tmp_path / "a.zarr", Segmentation(np.ones((3, 4, 5), np.uint8), oblique("LAS")))
    assert isinstance(io.read_segmentation(tmp_path / "a.zarr").data, StoredArray)


@pytest.mark.parametrize("kind", ["image", "labels", "label store"])
def test_what_is_written_is_valid(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    if kind == "image":
        io.write(path, Volume(noise((2, *BIG.shape), "int16"), BIG))
    elif kind == "labels":
        io.write(path, Segmentation(noise(BIG.shape, "uint8"), BIG, {1: "liver"}))
    else:
        with filling_labels(path, BIG, {1: "liver"}, dtype="uint8"):
            pass
    yaozarrs.validate_zarr_store(str(path))


def test_levels_of_an_image_lie_on_each_other(tmp_path: Path) -> None:
    io.write(tmp_path / "a.zarr", Volume(noise((1, *BIG.shape), "float32"), BIG))
    metadata = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    datasets = metadata["attributes"]["ome"]["multiscales"][0]["datasets"]
    fine, coarse = ([t[t["type"]] for t in dataset["coordinateTransformations"]] for dataset in datasets[:2])
    assert fine == [[1.0, 0.7, 1.2, 2.5], [0.0, 3.0, 1.0, -7.0]]
    assert coarse == [pytest.approx([1.0, 1.4, 2.4, 2.5]), pytest.approx([0.0, 3.35, 1.6, -7.0])]
    arrays = zarr.open_group(tmp_path / "a.zarr", mode="r")
    first = np.asarray(arrays["0"][0, :2, :2, 0])  # type: ignore[index]
    assert arrays["1"][0, 0, 0, 0] == pytest.approx(first.mean(), rel=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_other_readers_see_the_centre_in_its_place(tmp_path: Path, orientation: str) -> None:
    made = oblique(orientation)
    io.write(tmp_path / "a.zarr", Volume(noise((1, 3, 4, 5), "int16"), made))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    del group.attrs["napari_medseg"]
    seen = io.read(tmp_path / "a.zarr").grid
    centre = made.index_to_world((np.array(made.shape) - 1) / 2)
    along_axes = ["SPL".index(c) if c in "SPL" else "IAR".index(c) for c in orientation]
    signs = [1 if c in "SPL" else -1 for c in orientation]
    assert seen.index_to_world((np.array(made.shape) - 1) / 2) == pytest.approx(centre[along_axes] * signs)
    assert seen.spacing == pytest.approx(made.spacing)


def fill(path: Path, value: int, *, break_off: bool) -> None:
    """Fill a store of labels, wholly or until a cancellation."""
    with suppress(KeyboardInterrupt), filling_labels(path, grid("SPL"), {}, dtype="uint8") as array:
        array[...] = value
        if break_off:
            raise KeyboardInterrupt


FILL_HALF = """
import sys
from napari_medseg import Grid
from napari_medseg.io.zarr.format import filling_labels
with filling_labels(sys.argv[1], Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0)), {}, dtype="uint8") as array:
    array[:2] = 2
    print("half", flush=True)
    sys.stdin.read()
"""


class TestLabelStore:
    def test_it_is_filled_and_marked(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.zarr"
        with filling_labels(
            path, oblique("RSP"), LABELS, dtype="int32", chunks=(2, 2, 2), provenance={"model": "ab12"}
        ) as array:
            assert (array.shape, array.chunks, array.dtype) == ((3, 4, 5), (2, 2, 2), np.dtype("int32"))
            array[:2] = 7
            with pytest.warns(MedsegWarning, match=r"labels\.zarr: the segmentation was not finished"):
                partial = io.read_segmentation(path)
            assert np.unique(np.asarray(partial.data)).tolist() == [0, 7]
            array[2:] = 1
        whole = io.read_segmentation(path)
        assert np.unique(np.asarray(whole.data)).tolist() == [1, 7]
        assert whole.labels == LABELS
        assert farthest_mm(whole.grid, oblique("RSP")) < 1e-9
        assert io.read_segmentation(path).provenance == {"model": "ab12"}

    def test_a_chunk_of_background_is_not_a_missing_one(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.zarr"
        with filling_labels(path, grid("SPL"), {}, dtype="uint8", chunks=(2, 4, 5)) as array:
            assert array.nchunks_initialized == 0
            array[:2] = 0
            assert array.nchunks_initialized == 1

    def test_a_complete_one_stays_until_the_next_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.zarr"
        with filling_labels(path, grid("SPL"), {}, dtype="uint8") as first:
            first[...] = 1
        with filling_labels(path, grid("SAR", (2, 2, 2)), {}, dtype="uint8") as second:
            second[...] = 2
            assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [1]
        assert np.asarray(io.read_segmentation(path).data).tolist() == np.full((2, 2, 2), 2).tolist()
        assert np.asarray(second).tolist() == np.full((2, 2, 2), 2).tolist(), "the array was moved with its store"
        assert [p.name for p in tmp_path.iterdir()] == ["labels.zarr"]

    @pytest.mark.parametrize("before", ["complete", "incomplete", "nothing"])
    def test_broken_off_it_leaves_the_complete_one_or_itself(self, tmp_path: Path, before: str) -> None:
        path = tmp_path / "labels.zarr"
        if before != "nothing":
            fill(path, 1, break_off=before == "incomplete")
        fill(path, 2, break_off=True)
        if before == "complete":
            assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [1]
        else:
            with pytest.warns(MedsegWarning, match="not finished"):
                assert np.unique(np.asarray(io.read_segmentation(path).data)).tolist() == [2]
        assert [p.name for p in tmp_path.iterdir()] == ["labels.zarr"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows does not kill so")
    @pytest.mark.parametrize("before", ["complete", "nothing"])
    def test_killed_it_never_looks_finished(self, tmp_path: Path, before: str) -> None:
        path = tmp_path / "labels.zarr"
        if before == "complete":
            fill(path, 1, break_off=False)
        with started(FILL_HALF, path) as process:
            process.kill()
            process.wait()
        halves = [path, *tmp_path.glob(".medseg-*")]
        if before == "complete":
            assert np.unique(np.asarray(io.read_segmentation(halves.pop(0)).data)).tolist() == [1]
        (half,) = halves
        with pytest.warns(MedsegWarning, match="the segmentation was not finished"):
            assert np.unique(np.asarray(io.read_segmentation(half).data)).tolist() == [0, 2]
        fill(path, 3, break_off=False)
        assert [p.name for p in tmp_path.iterdir()] == ["labels.zarr"]

    def test_what_is_not_ours_is_kept(self, tmp_path: Path) -> None:
        theirs, image, folder = foreign(tmp_path / "a.zarr"), tmp_path / "b.zarr", tmp_path / "c.zarr"
        io.write(image, Volume(noise((1, 3, 4, 5), "int16"), grid("SPL")))
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
        for path, match in (
            (theirs, "was not written by napari-medseg"),
            (image, "it holds something else"),
            (folder, "(not an OME-Zarr|was not written by)"),
        ):
            with (
                pytest.raises(FileError, match=match),
                filling_labels(path, grid("SPL"), {}, dtype="uint8"),
            ):
                pytest.fail("it was made")
            with pytest.raises(FileError, match=match):
                io.write(path, Segmentation(np.ones((3, 4, 5), np.uint8), grid("SPL")))
        assert (folder / "thesis.txt").read_text() == "years of work"
        assert np.array_equal(np.asarray(io.read(theirs).data)[0], values((3, 4, 5)))


class TestForeignImages:
    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_scale_and_translation_place_it(self, tmp_path: Path, version: str) -> None:
        path = foreign(
            tmp_path / "a.zarr",
            unit="micrometer",
            version=version,
            changes={
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1000, 500, 250]},
                            {"type": "translation", "translation": [10_000, 0, 0]},
                        ],
                    }
                ],
                "coordinateTransformations": [{"type": "scale", "scale": [2, 2, 2]}],
            },
        )
        volume = io.read(path)
        assert volume.grid.describe() == "3x4x5 at 2, 1, 0.5 mm, origin (20, 0, 0), SPL"
        assert np.array_equal(np.asarray(volume.data)[0], values((3, 4, 5)))

    def test_a_missing_unit_is_told(self, tmp_path: Path) -> None:
        with pytest.warns(MedsegWarning, match="no unit is stored for the axes z, y, x; mm are taken"):
            io.read(foreign(tmp_path / "a.zarr", unit=None))

    def test_a_missing_scale_is_told(self, tmp_path: Path) -> None:
        with pytest.warns(MedsegWarning, match="no scale is stored"):
            io.read(foreign(tmp_path / "a.zarr", changes={"datasets": [{"path": "0"}]}))

    @pytest.mark.parametrize(
        ("axes", "shape", "expected"),
        [
            pytest.param("czyx", (2, 3, 4, 5), (2, 3, 4, 5), id="channels"),
            pytest.param("tczyx", (1, 2, 3, 4, 5), (2, 3, 4, 5), id="one time point"),
            pytest.param("tzyx", (1, 3, 4, 5), (1, 3, 4, 5), id="time without channels"),
            pytest.param("yx", (4, 5), (1, 1, 4, 5), id="a plane"),
            pytest.param("cyx", (2, 4, 5), (2, 1, 4, 5), id="planes of channels"),
        ],
    )
    def test_axes_are_taken_by_name(
        self, tmp_path: Path, axes: str, shape: tuple[int, ...], expected: tuple[int, ...]
    ) -> None:
        volume = io.read(foreign(tmp_path / "a.zarr", axes, shape))
        assert volume.data.shape == expected
        assert not isinstance(volume.data, np.ndarray)
        assert np.array_equal(np.asarray(volume.data).ravel(), values(shape).ravel())

    def test_another_order_of_axes_is_told(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.zarr", "xyz", (3, 4, 5), (1.0, 2.0, 3.0))
        with pytest.warns(MedsegWarning, match="stored in the order x, y, z; they are read in the order z, y, x"):
            volume = io.read(path)
        assert volume.grid.spacing == (3.0, 2.0, 1.0)
        assert np.array_equal(np.asarray(volume.data)[0], values((3, 4, 5)).T)

    def test_a_time_series_is_not_guessed(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.zarr", "tzyx", (2, 3, 4, 5))
        says = r"\(t, z, y, x\) = \(2, 3, 4, 5\); .*not guessed: name a\.zarr#0 to a\.zarr#1"
        with pytest.raises(InputError, match=says):
            io.read(path)
        for point in (0, 1):
            volume = io.read(tmp_path / f"a.zarr#{point}")
            assert np.array_equal(np.asarray(volume.data)[0], values((2, 3, 4, 5))[point])
        with pytest.raises(InputError, match="#2 is none of them"):
            io.read(tmp_path / "a.zarr#2")

    def test_a_point_of_a_store_by_another_name_is_read(self, tmp_path: Path) -> None:
        foreign(tmp_path / "0", "tzyx", (2, 3, 4, 5))
        volume = io.read(tmp_path / "0#1")
        assert np.array_equal(np.asarray(volume.data)[0], values((2, 3, 4, 5))[1])

    def test_a_choice_among_one_is_told(self, tmp_path: Path) -> None:
        foreign(tmp_path / "a.zarr", "zyx", (3, 4, 5))
        with pytest.raises(InputError, match=r"a\.zarr: #1 chooses nothing"):
            io.read(tmp_path / "a.zarr#1")

    def test_channel_names_of_omero(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.zarr", "czyx", (2, 3, 4, 5))
        group = zarr.open_group(path, mode="r+")
        ome: Any = group.attrs["ome"]
        group.attrs["ome"] = {**ome, "omero": {"channels": [{"label": "T1"}, {"label": "T2"}]}}
        assert io.read(path).channels == ("T1", "T2")

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            pytest.param({"version": "9.9"}, "version 9.9 is not known: 0.4 and 0.5 are read", id="version"),
            pytest.param({"scale": (0, 1, 1)}, "scale .*must be positive", id="zero scale"),
            pytest.param({"scale": (-1, 1, 1)}, "scale .*must be positive", id="negative scale"),
            pytest.param({"scale": (float("nan"), 1, 1)}, "finite numbers", id="NaN scale"),
            pytest.param({"scale": (1, 1)}, "length of 3, one number for each of the axes", id="two scales"),
            pytest.param({"unit": "parsec"}, "unit 'parsec': expected a length", id="unit"),
            pytest.param(
                {"changes": {"datasets": []}},
                r"multiscales\[0\]: Expected `array` of length >= 1 - at `\$\.datasets`",
                id="no datasets",
            ),
            pytest.param({"changes": {"datasets": [{"path": "../b.zarr/0"}]}}, "leads outside of the store", id="path"),
            pytest.param({"changes": {"axes": None}}, r"Expected `array`, got `null` - at `\$\.axes`", id="no axes"),
            pytest.param(
                {"changes": {"axes": [{"name": "z"}, {"name": "x"}, {"name": "x"}]}}, "its axes are z, x, x", id="twice"
            ),
            pytest.param({"shape": (3, 4)}, "3 axes .* for an array of shape", id="array of two axes"),
        ],
    )
    def test_what_cannot_be_placed_is_refused(self, tmp_path: Path, arguments: dict[str, Any], match: str) -> None:
        with pytest.raises(FileError, match=rf"a\.zarr: .*{match}"):
            io.read(foreign(tmp_path / "a.zarr", **arguments))

    def test_other_transformations_are_refused(self, tmp_path: Path) -> None:
        datasets = [{"path": "0", "coordinateTransformations": [{"type": "rotation"}]}]
        with pytest.raises(NotSupportedError, match="transformation of type 'rotation' is not read"):
            io.read(foreign(tmp_path / "a.zarr", changes={"datasets": datasets}))

    @pytest.mark.filterwarnings("ignore:.*no scale is stored")
    def test_a_missing_array_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="first dataset, 'absent', is missing or damaged"):
            io.read(foreign(tmp_path / "a.zarr", changes={"datasets": [{"path": "absent"}]}))

    def test_damaged_metadata_is_told(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.zarr")
        text = (path / "zarr.json").read_text()
        (path / "zarr.json").write_text(text[: len(text) // 2])
        with pytest.raises(FileError, match=r"a\.zarr: .*its zarr metadata .*is damaged"):
            io.read(path)

    def test_a_group_without_an_image_is_told(self, tmp_path: Path) -> None:
        zarr.create_group(tmp_path / "a.zarr").create_group("first")
        with pytest.raises(FileError, match=r"no multiscales.*; groups in it: first"):
            io.read(tmp_path / "a.zarr")

    def test_a_plain_array_has_no_spacing(self, tmp_path: Path) -> None:
        zarr.create_array(tmp_path / "a.zarr", data=values((3, 4, 5)))
        assert io.read(tmp_path / "a.zarr").data.shape == (1, 3, 4, 5)
        note = "note: a plain zarr array: spacing and orientation are unknown; 1 mm is taken"
        assert note in describe(tmp_path / "a.zarr")

    @pytest.mark.parametrize("place", [grid("SAR"), oblique("LPI")], ids=["aligned", "oblique"])
    @pytest.mark.parametrize("added", [False, True], ids=["dataset", "multiscale"])
    def test_our_affine_moves_to_a_changed_position(self, tmp_path: Path, place: Grid, added: bool) -> None:
        io.write(tmp_path / "a.zarr", Volume(noise((1, 3, 4, 5), "int16"), place))
        group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
        ome: Any = group.attrs["ome"]
        (multiscale,) = ome["multiscales"]
        if added:
            multiscale["coordinateTransformations"] = [{"type": "translation", "translation": [0, 10, 20, -30]}]
        else:
            position = multiscale["datasets"][0]["coordinateTransformations"][1]["translation"]
            position[1:] = np.add(position[1:], [10, 20, -30]).tolist()
        group.attrs["ome"] = ome
        with pytest.warns(MedsegWarning, match="the position was changed after napari-medseg wrote it"):
            found = io.read(tmp_path / "a.zarr").grid
        axes, signs = nearest_axes(place.affine)
        assert np.allclose((np.subtract(found.origin, place.origin)[list(axes)] * signs), [10, 20, -30])
        assert np.array_equal(found.affine[:3, :3], place.affine[:3, :3])

    def test_names_that_were_changed_are_read(self, tmp_path: Path) -> None:
        colours = {1: (1, 2, 3)}
        io.write(
            tmp_path / "a.zarr", Segmentation(np.zeros((3, 4, 5), int), grid("SAR"), {1: "liver"}, colours=colours)
        )
        group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
        ome: Any = group.attrs["ome"]
        ome["image-label"]["properties"] = [{"label-value": 1, "name": "kidney"}, {"label-value": 3, "name": "new"}]
        ome["image-label"]["colors"] = [{"label-value": 1, "rgba": [9, 9, 9, 255]}]
        group.attrs["ome"] = ome
        read = io.read_segmentation(tmp_path / "a.zarr")
        assert (dict(read.labels), dict(read.colours)) == ({1: "kidney", 3: "new"}, {1: (9, 9, 9)})

    def test_our_affine_gives_way_to_a_changed_scale(self, tmp_path: Path) -> None:
        io.write(tmp_path / "a.zarr", Volume(noise((1, 3, 4, 5), "int16"), grid("SAR")))
        group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
        ome: Any = group.attrs["ome"]
        ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1, 9, 9, 9]
        group.attrs["ome"] = ome
        with pytest.warns(MedsegWarning, match="the scale was changed after napari-medseg wrote it"):
            assert io.read(tmp_path / "a.zarr").grid.spacing == (9.0, 9.0, 9.0)


class TestLabelsOfAnImage:
    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        """An image of others with two label images in its labels group."""
        path = foreign(tmp_path / "image.zarr")
        zarr.create_group(path / "labels", attributes={"ome": {"version": "0.5", "labels": ["cells", "nuclei"]}})
        for number, name in enumerate(("cells", "nuclei")):
            foreign(path / "labels" / name)
            group = zarr.open_group(path / "labels" / name, mode="r+")
            ome: Any = group.attrs["ome"]
            properties: Any = [{"label-value": 1, "name": f"name {number}"}, {"label-value": 2}]
            group.attrs["ome"] = {**ome, "image-label": {"properties": properties}}
        return path

    def test_the_image_is_what_is_read(self, image: Path) -> None:
        assert io.read(image).name == "image"

    def test_several_must_be_chosen_from(self, image: Path) -> None:
        with pytest.raises(InputError, match=r"2 label images: name one of .*labels.cells, .*labels.nuclei"):
            io.read_segmentation(image)

    def test_one_is_read_by_its_path(self, image: Path) -> None:
        labels = io.read_segmentation(image / "labels" / "nuclei")
        assert labels.labels == {1: "name 1"}
        assert labels.name == "nuclei"

    def test_the_only_one_is_found(self, image: Path) -> None:
        zarr.open_group(image / "labels", mode="r+").attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
        assert io.read_segmentation(image).labels == {1: "name 0"}

    def test_an_image_of_integers_can_be_labels(self, tmp_path: Path) -> None:
        labels = io.read_segmentation(foreign(tmp_path / "a.zarr", "czyx", (1, 3, 4, 5)))
        assert np.array_equal(np.asarray(labels.data), values((3, 4, 5)))


def test_a_collection_names_its_images_in_their_order(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    zarr.create_group(plate, zarr_format=2, attributes={"plate": {"wells": [{"path": "A/1"}]}})
    zarr.create_group(plate / "A", zarr_format=2)
    for name in ("10", "2"):
        foreign(plate / "A" / "1" / name, version="0.4")
    with pytest.raises(ChoiceError, match=r"a collection of images.*: name one of .*/2, .*/10$") as several:
        io.read(plate)
    assert several.value.choices == (f"{plate}/A/1/2", f"{plate}/A/1/10")
    assert io.read(several.value.choices[0]).grid.shape == (3, 4, 5)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_left_and_right_are_those_that_the_axes_state(tmp_path: Path, version: str) -> None:
    towards = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}
    axes = [
        {"name": name, "type": "space", "unit": "millimeter", "orientation": {"type": "anatomical", "value": value}}
        for name, value in towards.items()
    ]
    path = foreign(tmp_path / "a.zarr", scale=(3, 2, 1), version=version, changes={"axes": axes})
    grid = io.read(path).grid
    assert (grid.orientation, grid.spacing) == ("SAR", (3, 2, 1))


@pytest.mark.parametrize("resume", [False, True], ids=["anew", "resumed"])
def test_scratch_of_a_killed_run_is_in_nobodys_way(tmp_path: Path, resume: bool) -> None:
    path, grid = tmp_path / "labels.zarr", Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0))
    with suppress(KeyboardInterrupt), filling_labels(path, grid, {1: "one"}, dtype=np.uint8) as array:
        journal_of(array).write_text("{}\n")
        with scratch_like(array) as scratch:
            kept = scratch.store.root
        raise KeyboardInterrupt
    kept.mkdir()  # a kill removes nothing
    with filling_labels(path, grid, {1: "one"}, dtype=np.uint8, resume=resume):
        pass
    assert not kept.exists()
