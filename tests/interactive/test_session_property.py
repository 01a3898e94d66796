"""What a session holds follows from its volume and its steps alone, whatever way led there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_medseg.errors import InputError
from napari_medseg.interactive import session as session_module
from napari_medseg.interactive.objects import Cache, Segmenter
from napari_medseg.interactive.session import InteractiveSession, interact, resume_interaction
from napari_medseg.prompts import Box, Lasso, Point, Prompt, Scribble, SliceMask
from napari_medseg.volume import Grid, Segmentation, Volume

SHAPE = (5, 6, 7)
GRID = Grid.from_spacing(SHAPE, (1.5, 1.0, 1.0))
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(0, 1, (1, *SHAPE)) + 4 * (np.indices(SHAPE).sum(axis=0) > 9)
VOLUME = Volume(IMAGE.astype(np.float32), GRID)
LABELS = st.integers(1, 3)

voxels = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))
signs = st.booleans()


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    label, positive = draw(LABELS), draw(signs)
    kind = draw(st.sampled_from(["point", "point", "scribble", "box", "lasso", "slice"]))
    if kind == "point":
        return Point(draw(voxels), label=label, positive=positive)
    if kind == "scribble":
        return Scribble(np.array(draw(st.lists(voxels, min_size=1, max_size=5))), label=label, positive=positive)
    if kind == "box":
        low, size = draw(voxels), draw(voxels)
        z, y, x = (min(n, a + 1 + b) for a, b, n in zip(low, size, SHAPE, strict=True))
        return Box(low, (z, y, x), label=label, positive=positive)
    axis = draw(st.integers(0, 2))
    index = draw(st.integers(0, SHAPE[axis] - 1))
    if kind == "lasso":
        polygon = np.array([[0.5, 0.5], [0.5, 4.5], [3.5, 4.5], [3.5, 0.5]])
        return Lasso(polygon, axis, index, label=label, positive=positive)
    across = [n for a, n in enumerate(SHAPE) if a != axis]
    mask = np.random.default_rng(draw(st.integers(0, 50))).random(across) > 0.6
    return SliceMask(mask, axis, index, label=label, positive=positive)


starts = st.integers(0, 50).map(
    lambda seed: Segmentation(np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8), GRID, {1: f"n{seed}"})
)
changes = st.one_of(
    st.tuples(st.just("add"), prompts()),
    st.tuples(st.just("add"), prompts()),
    st.tuples(st.just("add_all"), st.lists(prompts(), min_size=2, max_size=3)),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["undo", "redo", "resume"]), st.none()),
    st.tuples(st.sampled_from(["lock", "unlock"]), LABELS),
    st.tuples(st.just("start_from"), starts),
)


def data(session: InteractiveSession) -> npt.NDArray[Any]:
    return np.asarray(session.segmentation.data[...])


def resumed(session: InteractiveSession) -> InteractiveSession:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.json"
        session.save(path)
        return resume_interaction(path, VOLUME)


def do(session: InteractiveSession, name: str, value: Any) -> InteractiveSession:
    """The session after a change; a change that is refused must leave it as it was."""
    if name == "resume":
        return resumed(session)
    if name == "remove":
        known = session.prompts
        if known:
            session.remove(known[value % len(known)])
        return session
    before = session.steps
    try:
        getattr(session, name)(*([] if value is None else [value]))
    except InputError:
        assert session.steps == before
    return session


def check(walk: list[tuple[str, Any]]) -> None:
    session = interact(VOLUME)
    for name, value in walk:
        locked = {label: data(session) == label for label in session.locked}
        session = do(session, name, value)
        if name in ("add", "add_all", "start_from", "lock", "unlock"):
            for label, mask in locked.items():
                np.testing.assert_array_equal(data(session) == label, mask)
    fresh = interact(VOLUME)
    fresh.replay(session.steps)
    np.testing.assert_array_equal(data(session), data(fresh))
    assert session.segmentation.labels == fresh.segmentation.labels
    again = resumed(session)
    np.testing.assert_array_equal(data(session), data(again))
    assert session.locked == again.locked
    assert session.segmentation.labels == again.segmentation.labels


walks = st.lists(changes, min_size=1, max_size=12)
unhurried = partial(settings, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@unhurried(max_examples=15)
@given(walks)
def test_any_way_to_the_same_steps_gives_the_same_bits(walk: list[tuple[str, Any]]) -> None:
    check(walk)


@pytest.mark.slow
@unhurried(max_examples=1000)
@given(walks)
def test_a_thousand_ways(walk: list[tuple[str, Any]]) -> None:
    check(walk)


def steps_of(make: Callable[[Volume], InteractiveSession]) -> npt.NDArray[Any]:
    session = make(VOLUME)
    for prompt in (
        Point((1, 1, 1), label=1),
        Point((4, 5, 6), label=2),
        Point((2, 2, 2), label=1),
        Scribble(np.array([[3, 3, 3], [3, 3, 4]]), label=2),
        Point((0, 0, 3), label=1, positive=False),
    ):
        session.add(prompt)
    session.undo()
    session.remove(session.prompts[1])
    session.redo()
    return data(session)


def test_results_do_not_depend_on_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = steps_of(interact)
    np.testing.assert_array_equal(steps_of(partial(InteractiveSession, remembered_bytes=1)), usual)
    monkeypatch.setattr(session_module, "Segmenter", partial(Segmenter, cached_bytes=1))
    np.testing.assert_array_equal(steps_of(interact), usual)


def test_a_cache_keeps_the_latest_within_its_bytes() -> None:
    cache = Cache(10)
    for key in "abc":
        cache.put(key, key.upper(), 4)
    assert [cache.get(key) for key in "abc"] == [None, "B", "C"]
    cache.put("b", "new", 6)  # in the place of the old one: 10 bytes in all
    assert (cache.get("b"), cache.get("c")) == ("new", "C")
    cache.put("large", "L", 100)  # the last one stays, whatever its size
    assert (cache.get("large"), cache.get("c")) == ("L", None)
