"""The log of a session: it comes back whole, and what is not one is refused in one line."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.errors import FileError, InputError, MedsegError
from napari_medseg.interactive import log
from napari_medseg.interactive.masks import SparseMask
from napari_medseg.interactive.steps import AddStep, DeleteStep, LockStep, NameStep, StartStep, Step
from napari_medseg.prompts import Box, Lasso, Point, Scribble, SliceMask
from napari_medseg.volume import Grid, Volume

SHAPE = (3, 4, 5)
DATA = np.random.default_rng(0).integers(0, 99, (1, *SHAPE)).astype(np.int16)
VOLUME = Volume(DATA, Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0)), name="scan")
MASK = np.random.default_rng(1).random((4, 5)) > 0.5
STEPS: tuple[Step, ...] = (
    AddStep((Point((0, 1, 2), label=1),)),
    AddStep((Box((0, 0, 0), (1, 2, 3), label=2, positive=False),)),
    AddStep((Scribble(np.array([[0, 0, 0], [2, 3, 4]]), label=3),)),
    AddStep((Lasso(np.array([[0.25, 0.5], [3.0, 0.1], [2.0, 4.0]]), axis=0, index=2, label=1),)),
    AddStep((SliceMask(MASK, axis=0, index=1, label=1), Point((2, 2, 2), label=1, positive=False))),
    LockStep(2, True),
    LockStep(2, False),
    NameStep(3, "vena cava, Ω"),
    DeleteStep(3),
    StartStep({4: SparseMask.of((slice(0, 1), slice(0, 4), slice(0, 5)), MASK[None])}, {4: "liver, left"}),
)


def written(steps: tuple[Step, ...], folder: Path) -> dict[str, Any]:
    log.save(folder / "log.json", VOLUME, steps, "auto")
    found: dict[str, Any] = json.loads((folder / "log.json").read_text())
    return found


def same(a: Step, b: Step) -> bool:
    plain = LockStep | NameStep | DeleteStep
    if isinstance(a, plain) or isinstance(b, plain):
        return a == b
    if isinstance(a, StartStep) and isinstance(b, StartStep):
        return a.names == b.names and all(a.masks[k].same_as(b.masks[k]) for k in {*a.masks, *b.masks})
    assert isinstance(a, AddStep)
    assert isinstance(b, AddStep)
    return all(
        type(p) is type(q) and all(np.array_equal(value, vars(q)[name]) for name, value in vars(p).items())
        for p, q in zip(a.prompts, b.prompts, strict=True)
    )


@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_steps_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    path = tmp_path_factory.mktemp("logs") / "log.json"
    log.save(path, VOLUME, steps, "geodesic")
    method, found = log.read(path, VOLUME)
    assert method == "geodesic"
    assert len(found) == len(steps)
    assert all(same(a, b) for a, b in zip(steps, found, strict=True))


def test_a_list_of_prompts_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('[{"do": "point", "at": [0, 1, 2], "label": 1}, {"do": "lock", "label": 1}]')
    method, (point, lock) = log.read(path, VOLUME)
    assert (method, lock) == ("auto", LockStep(1, True))
    assert same(point, STEPS[0])
    path.write_text('[{"do": "click", "at": [0, 1, 2], "label": 1}]')
    with pytest.raises(FileError, match=r'"do" is one of point, box'):
        log.read(path, VOLUME)


def test_a_log_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"napari_medseg_interaction": 1, "steps": [{"do": "point", "at": [0, 1, 2], "label": 1}]}')
    _, (step,) = log.read(path, VOLUME)
    assert isinstance(step, AddStep)
    assert (step.label, step.prompts[0].positive) == (1, True)


def test_another_volume_is_refused(tmp_path: Path) -> None:
    written(STEPS, tmp_path)
    changed = DATA.copy()
    changed[0, 1, 1, 1] += 1
    for other in (changed, DATA.astype(np.int32), DATA[:, :2]):
        volume = Volume(other, Grid.from_spacing(other.shape[1:], (1.0, 1.0, 1.0)), name="other scan")
        with pytest.raises(InputError, match=r"this session is of another volume.*other scan"):
            log.read(tmp_path / "log.json", volume)


def bomb(shape: list[int], raw_bytes: int) -> dict[str, Any]:
    return {"shape": shape, "deflated": base64.b64encode(zlib.compress(bytes(raw_bytes))).decode()}


def a_slice(mask: Any) -> dict[str, Any]:
    return {"do": "slice", "mask": mask, "axis": 0, "index": 1, "label": 1}


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a list": (lambda found: [found], "not the log of an interactive session"),
    "another version": (lambda d: {**d, "napari_medseg_interaction": 2}, "not the log"),
    "an unknown field": (lambda d: {**d, "run": "rm"}, "unknown field `run`"),
    "an unknown step": (lambda d: {**d, "steps": [{"do": "eval"}]}, "eval"),
    "a step by another word": (
        lambda d: {**d, "steps": [{"do": "rename", "label": 1, "name": "liver"}]},
        r'"do" is one of point, box, scribble, lasso, slice, lock, unlock, name, delete, start, together$',
    ),
    "a lock among prompts": (
        lambda d: {**d, "steps": [{"do": "together", "prompts": [{"do": "lock", "label": 1}]}]},
        r'"do" is one of point, box, scribble, lasso, slice$',
    ),
    "a step without a word": (lambda d: {**d, "steps": [{"label": 1}]}, r'"do" is one of point'),
    "label 0": (lambda d: {**d, "steps": [{"do": "lock", "label": 0}]}, "label"),
    "a huge index": (lambda d: {**d, "steps": [{"do": "point", "at": [0, 0, 2**63], "label": 1}]}, "not the log"),
    "a fraction": (lambda d: {**d, "steps": [{"do": "point", "at": [0, 0, 0.5], "label": 1}]}, "not the log"),
    "an unknown method": (lambda d: {**d, "method": "sam"}, "not the log"),
    "together, nothing": (lambda d: {**d, "steps": [{"do": "together", "prompts": []}]}, "not the log"),
    "together, several labels": (
        lambda d: {
            **d,
            "steps": [{"do": "together", "prompts": [{"do": "point", "at": [0, 0, 0], "label": k} for k in (1, 2)]}],
        },
        "one label",
    ),
    "a mask of another size": (lambda d: {**d, "steps": [a_slice(bomb([9, 9], 11))]}, r"shape \(9, 9\)"),
    "a bomb": (lambda d: {**d, "steps": [a_slice(bomb([4, 5], 1 << 24))]}, "damaged"),
    "a bomb that says so": (lambda d: {**d, "steps": [a_slice(bomb([1 << 20, 1 << 20], 9))]}, "voxels in all"),
    "no base64": (lambda d: {**d, "steps": [a_slice({"shape": [4, 5], "deflated": "*"})]}, "damaged"),
    "no deflate": (lambda d: {**d, "steps": [a_slice({"shape": [4, 5], "deflated": "AAAA"})]}, "damaged"),
    "a start outside": (
        lambda d: {
            **d,
            "steps": [
                {"do": "start", "labels": [{"label": 1, "box": [[0, 9], [0, 1], [0, 1]], "mask": bomb([9, 1, 1], 2)}]}
            ],
        },
        "outside of the volume",
    ),
}


@pytest.mark.parametrize(("change", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_log_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(change(written(STEPS, tmp_path))))
    with pytest.raises(MedsegError, match=message) as refusal:
        log.read(path, VOLUME)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"{", b"[" * 100_000, b'{"steps": NaN}', b"null", b"\0" * 10],
    ids=["no text", "half", "deep", "nan", "null", "zeros"],
)
def test_no_json_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match="not the log of an interactive session"):
        log.read(path, VOLUME)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        log.read(tmp_path / "none.json", VOLUME)
    with pytest.raises(FileError, match="not a regular file"):
        log.read(tmp_path, VOLUME)
    (tmp_path / "empty.json").touch()
    with pytest.raises(FileError, match="empty"):
        log.read(tmp_path / "empty.json", VOLUME)


@pytest.mark.parametrize("limit", ["_MOST_MASK_VOXELS", "_MOST_BYTES"])
def test_what_could_not_be_read_again_is_not_written(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was saved, and refused when it was to be resumed."""
    written(STEPS[:5], tmp_path)
    before = (tmp_path / "log.json").read_bytes()
    monkeypatch.setattr(log, limit, 20 if limit == "_MOST_MASK_VOXELS" else len(before))
    with pytest.raises(InputError, match="too long to be saved"):
        log.save(tmp_path / "log.json", VOLUME, STEPS, "auto")
    assert (tmp_path / "log.json").read_bytes() == before
    log.read(tmp_path / "log.json", VOLUME)


def test_a_long_name_comes_back_cut(tmp_path: Path) -> None:
    mask = SparseMask.of((slice(0, 1), slice(0, 4), slice(0, 5)), MASK[None])
    log.save(tmp_path / "log.json", VOLUME, [StartStep({4: mask}, {4: "x" * 2000})], "auto")
    (step,) = log.read(tmp_path / "log.json", VOLUME)[1]
    assert isinstance(step, StartStep)
    assert step.names == {4: "x" * 1024}
