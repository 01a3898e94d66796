"""A run in blocks by workers: the labels of a run without them, and a journal that the next run reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from balls import volume
from napari_medseg import Volume, load_model, read, read_segmentation, registry, segment, write
from napari_medseg.cases import Case
from napari_medseg.cli import main
from napari_medseg.config import SegmentConfig
from napari_medseg.events import Filled, Notice, Progress
from napari_medseg.inference.results.wanted import Wanted
from napari_medseg.inference.runs.files import segmenting_case
from napari_medseg.inference.runs.many import segmenting_cases
from napari_medseg.models.file import Channel, ModelSpec, Normalisation, write_model

T = TypeVar("T")
R = TypeVar("R")
CPU = SegmentConfig(device="cpu")


class Here:
    """Workers in this process; some blocks are done twice, the last first, and `after` blocks the crew is gone."""

    size = 2

    def __init__(self, after: int = 100) -> None:
        self.after = after
        self.items: Sequence[Any] = ()

    def run(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        self.items = items
        for item in list(reversed(items))[: self.after]:
            function(item)
            yield function(item)
        if self.after < len(items):
            raise KeyboardInterrupt


@pytest.fixture
def tall(tmp_path: Path) -> Path:
    """An image of three rows of chunks, as a store."""
    one = np.asarray(volume(seed=1).data)
    data = np.concatenate([one] * -(-150 // one.shape[1]), axis=1)[:, :150, :20, :22]
    grid = volume().grid
    write(tmp_path / "tall.zarr", Volume(data, type(grid)(data.shape[1:], grid.affine), name="tall"))
    return tmp_path / "tall.zarr"


def test_blocks_in_any_order_and_twice_are_the_labels_of_one_process(
    tall: Path, ball_model: Path, tmp_path: Path
) -> None:
    expected = np.asarray(segment(read(tall), ball_model, device="cpu").data)
    assert len(np.unique(expected)) > 1
    model, case = load_model(ball_model), Case(name="tall", images=(tall,))
    crew, out, p = Here(after=1), tmp_path / "out.zarr", tmp_path / "p.zarr"
    with pytest.raises(KeyboardInterrupt):
        list(segmenting_case(case, model, CPU, Wanted(out, p), crew))
    assert len(crew.items) == 3
    assert all(len(item.setup) < 100_000 for item in crew.items), "a block carries no voxels"
    events = list(segmenting_case(case, model, CPU, Wanted(out, p, resume=True), later := Here()))
    assert len(later.items) == 2, "one block was done before"
    assert [(e.done, e.total) for e in events if isinstance(e, Progress) and e.message == "blocks"] == [(1, 2), (2, 2)]
    assert len([e for e in events if isinstance(e, Filled)]) == 2
    assert np.array_equal(np.asarray(read_segmentation(out).data), expected)
    assert np.array_equal(np.asarray(read(p).data).argmax(0), expected)


def test_what_several_blocks_tell_is_told_once(ball_model: Path, tmp_path: Path) -> None:
    data = np.tile(np.asarray(volume(seed=1).data, np.float32), (1, 12, 1, 1))[:, :150]
    data[0, [3, 140], 5, 5] = np.nan
    grid = volume().grid
    write(tmp_path / "odd.zarr", Volume(data, type(grid)(data.shape[1:], grid.affine), name="odd"))
    case, crew = Case(name="odd", images=(tmp_path / "odd.zarr",)), Here()
    events = list(segmenting_case(case, load_model(ball_model), CPU, Wanted(tmp_path / "out.zarr"), crew))
    assert len(crew.items) > 1
    told = [e.message for e in events if isinstance(e, Notice) and "no numbers" in e.message]
    assert told == ["odd has voxels that are no numbers (NaN or infinite): they count as 0"]


def test_cases_over_workers(ball_images: Path, ball_model: Path, tmp_path: Path) -> None:
    cases = [Case(name=path.name, images=(path,)) for path in sorted(ball_images.iterdir())]
    wanted = [Wanted(tmp_path / f"{number}.nii.gz") for number in range(len(cases))]
    events = segmenting_cases(cases, load_model(ball_model), CPU, wanted, Here())
    assert [e.done for e in events if isinstance(e, Progress)] == [0, 1, 2, 3]
    for case, goal in zip(cases, wanted, strict=True):
        expected = np.asarray(segment(case.volume(), ball_model, device="cpu").data)
        assert goal.out is not None
        assert np.array_equal(np.asarray(read_segmentation(goal.out).data), expected)


@pytest.mark.slow
def test_two_processes_give_the_labels_of_one(tall: Path, ball_model: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "one.zarr", tmp_path / "two.zarr"]
    common = ["segment", str(tall), "--model", str(ball_model), "--device", "cpu", "-o"]
    assert main([*common, str(outs[0])]) == 0
    assert main([*common, str(outs[1]), "--workers", "2"]) == 0
    one, two = (np.asarray(read_segmentation(out).data) for out in outs)
    assert np.array_equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 4], ids=["blocks", "cases"])
def test_workers_have_the_threads_of_the_run(tall: Path, tmp_path: Path, images: int) -> None:
    """To the last bit of the probabilities, in which runs of this network on one thread and on two differ."""
    torch.manual_seed(0)
    network = registry.network("pspnet")
    arguments = network.arguments(in_channels=1, out_channels=3)
    spec = ModelSpec(
        network="pspnet",
        arguments=arguments,
        channels=(Channel(name="CT", modality="CT"),),
        labels={1: "one", 2: "two"},
        patch_zyx=(32, 32, 32),
        normalisation=(Normalisation(kind="zscore"),),
        deep_supervision=False,
    )
    model = tmp_path / "model.safetensors"
    write_model(model, spec, network.build_from(arguments).state_dict())
    cases = [tall, *(tmp_path / f"tall{number}.zarr" for number in range(1, images))]
    for copy in cases[1:]:
        shutil.copytree(tall, copy)
    found = {}
    for name, threads, more in (("alone", "2", []), ("workers", "2", ["--workers", "2"]), ("one thread", "1", [])):
        folder = tmp_path / name
        out = ["-o", str(folder if images > 1 else folder / "tall.zarr")]
        out += ["--probabilities", str(folder / ("{name}_p.zarr" if images > 1 else "tall_p.zarr"))]
        command = [sys.executable, "-c", "from napari_medseg.cli import main; raise SystemExit(main())", "segment"]
        command += [*map(str, cases), "--model", str(model)]
        folder.mkdir()
        subprocess.run(
            [*command, "--device", "cpu", *out, *more], check=True, env={**os.environ, "OMP_NUM_THREADS": threads}
        )
        found[name] = np.stack([np.asarray(read(path).data) for path in sorted(folder.glob("*_p.zarr"))])
    assert len(found["alone"]) == images
    assert np.array_equal(found["alone"], found["workers"])
    assert not np.array_equal(found["alone"], found["one thread"]), "else this test shows nothing"
