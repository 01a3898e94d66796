"""What a validation says of a model, by logits that are made up; and what becomes of it in the model and in a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from balls import volume
from napari_medseg import ModelSpec, iter_segment, load_model, segment
from napari_medseg.arrays.boxes import whole
from napari_medseg.doubt.streaming import opened
from napari_medseg.doubt.trusting import (
    Observed,
    _some,
    fit_line,
    fit_temperature,
    observing,
    reliability,
    signs_of,
    trust_of,
)
from napari_medseg.errors import InputError
from napari_medseg.events import Finished, Notice, run_to_end
from napari_medseg.geometry import AS_IT_IS
from napari_medseg.inference.blend import Piece
from napari_medseg.inference.results.sink import Outputs, Sink
from napari_medseg.inference.results.softness import Softness
from napari_medseg.models.file import Model, write_model
from napari_medseg.models.several import averaged
from napari_medseg.models.trust import DiceLine, Signs, Trust, ece_of
from napari_medseg.training.reporting.log import RunLog
from napari_medseg.training.reporting.page import run_page

LINE = DiceLine(intercept=0.1, slope=0.8, per_volume=0.0, spread=0.02, cases=12)


def sure(right: int, wrong: int, logit: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of two classes whose logits all say the first, of which some are of the second."""
    logits = np.zeros((right + wrong, 2), np.float32)
    logits[:, 0] = logit
    return logits, np.array([0] * right + [1] * wrong)


def test_the_temperature_makes_confidence_what_came_true() -> None:
    logits, classes = sure(90, 10, 6.0)
    # 90 % are right: the best temperature is the one that gives 0.9, whose log-odds are log(9).
    assert fit_temperature(logits, classes) == pytest.approx(6 / math.log(9), rel=1e-2)
    assert fit_temperature(logits / 6 * 0.5, classes) == pytest.approx(0.5 / math.log(9), rel=1e-2)
    assert 0.05 <= fit_temperature(*sure(50, 0, 1.0)) < 0.1, "never wrong: about as cold as is allowed"


def test_trust_halves_and_more_of_the_calibration_error() -> None:
    logits, classes = sure(90, 10, 6.0)
    trust = trust_of([Observed(logits, classes.astype(np.int16), 0.9, 1.0)])
    assert ece_of(trust.before) == pytest.approx(1 / (1 + math.exp(-6)) - 0.9, abs=1e-4)
    assert ece_of(trust.after) < 0.005
    assert trust.dice is None
    unknown = np.full(100, -1, np.int16)
    assert trust_of([Observed(logits, unknown, 1.0, 1.0)]) == Trust()


def test_bins_hold_their_upper_edge() -> None:
    logits = np.log([[0.6, 0.4], [0.95, 0.05], [0.2, 0.8]]).astype(np.float32)
    found = reliability(logits, np.array([0, 1, 1]))
    np.testing.assert_allclose(found, [[1 / 3, 0.6, 1], [1 / 3, 0.8, 1], [1 / 3, 0.95, 0]], rtol=1e-5)


def signs(soft: list[float], volumes: list[float], sure: list[float]) -> list[Signs]:
    return [Signs(*values) for values in zip(soft, volumes, sure, strict=True)]


def test_the_expected_dice_takes_what_tells() -> None:
    soft, volumes = [0.5, 0.6, 0.7, 0.8, 0.9, 0.65], [1.0, 8.0, 2.0, 0.5, 3.0, 4.0]
    sure = [0.3, 0.1, 0.2, 0.35, 0.15, 0.2]
    every = signs(soft, volumes, sure)
    by_soft = fit_line(every, [0.1 + 0.8 * s for s in soft])
    assert by_soft is not None
    assert (by_soft.intercept, by_soft.slope, by_soft.per_volume, by_soft.spread) == pytest.approx((0.1, 0.8, 0, 0))
    by_volume = fit_line(every, [0.7 + 0.1 * math.log(ml) for ml in volumes])
    assert by_volume is not None
    assert (by_volume.intercept, by_volume.slope, by_volume.per_volume) == pytest.approx((0.7, 0, 0.1))
    assert by_volume.expected(Signs(0.1, math.e, 0.5))[0] == pytest.approx(0.8)
    by_sure = fit_line(every, [0.5 + s for s in sure])
    assert by_sure is not None
    assert (by_sure.intercept, by_sure.slope, by_sure.per_sure) == pytest.approx((0.5, 0, 1))
    assert by_sure.expected(Signs(0.1, 1.0, 0.25))[0] == pytest.approx(0.75)
    assert fit_line(every[:5], soft[:5]) is None
    worse = fit_line(signs(soft, [1.0] * 6, [0.0] * 6), [1.4 - s for s in soft])
    assert worse is not None
    assert (worse.slope, worse.per_volume, worse.per_sure) == (0, 0, 0)
    assert worse.intercept == pytest.approx(1.4 - sum(soft) / 6)
    # The mean of the 5 others is off by 6 / 5 of the distance to the mean of all.
    assert worse.spread == pytest.approx(1.2 * float(np.std(soft)))
    middle, low, high = LINE.expected(Signs(0.9, 1.0, 0.5))
    reach = 2.201 * 0.02  # Student's t of 11 degrees of freedom
    assert (middle, high - middle, middle - low) == pytest.approx((0.82, reach, reach), rel=1e-3)
    assert LINE.expected(Signs(5.0, 0.0, 0.0)) == (1.0, 1.0, 1.0)


def test_soft_dice_by_hand() -> None:
    # Two labels; three voxels are of label 1 with 0.8, one of the background with 0.1 of each label.
    p = torch.tensor([[0.1, 0.1, 0.1, 0.8], [0.8, 0.8, 0.8, 0.1], [0.1, 0.1, 0.1, 0.1]])
    softness = Softness(3)
    softness.add(p[:, :2])
    softness.add(p[:, 2:])
    assert softness.voxels == (3, 0)
    assert softness.soft_dice == pytest.approx(2 * 2.4 / (2.5 + 3))  # label 2 has less than a voxel: it does not count
    assert softness.signs(500.0) == Signs(softness.soft_dice, 1.5, 0.0), "each has a tenth of background"
    assert Softness(3).signs(1.0) == Signs(1.0, 0.0, 0.0)
    # Of label 1 one voxel of two is sure, though it may be label 2; of label 2 the only one is.
    softness.add(torch.tensor([[0.04, 0.0], [0.5, 0.2], [0.46, 0.8]]))
    softness.add(torch.tensor([[0.9], [0.1], [0.0]]))
    assert softness.signs(1.0).sure == pytest.approx((1 / 4 + 1) / 2)
    made_up = np.log(p.numpy().T)
    assert signs_of(Observed(made_up * 2, np.zeros(4, np.int16), 1.0, 7.0), 2.0).soft_dice == pytest.approx(
        2 * 2.4 / 5.5
    )


def test_which_voxels_are_kept_depends_on_their_places_only() -> None:
    shape = (6, 7, 8)
    everything = _some(whole(shape), shape, 100)
    parts = np.concatenate([_some((slice(z, z + 1), slice(0, 7), slice(0, 8)), shape, 100) for z in range(6)])
    assert np.array_equal(everything, parts)
    assert 60 < everything.sum() < 140
    assert _some(whole(shape), shape, 10**9).all()


def test_a_temperature_changes_probabilities_and_no_label() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0]).reshape(3, 1, 1, 1)
    found = []
    for temperature in (1.0, 2.0):
        made = Outputs(
            np.zeros((1, 1, 1), np.uint8), np.zeros((3, 1, 1, 1), np.float32), np.zeros((2, 1, 1, 1), np.float32)
        )
        Sink(made, AS_IT_IS, (0, 4, 7), whole((1, 1, 1)), temperature).write(Piece(whole((1, 1, 1)), logits.clone()))
        found.append(made)
    assert [int(made.labels[0, 0, 0]) for made in found] == [4, 4]
    expected = np.exp([0, 1, -0.5]) / np.exp([0, 1, -0.5]).sum()
    np.testing.assert_allclose(found[1].probabilities[:, 0, 0, 0], expected, rtol=1e-5)
    assert found[1].uncertainty[0] > found[0].uncertainty[0]


def test_trust_is_saved_and_older_files_have_none(ball_model: Path) -> None:
    plain = load_model(ball_model).spec
    assert "trust" not in plain.to_json()
    assert ModelSpec.from_json(plain.to_json()).trust == Trust()
    trusted = replace(plain, trust=Trust(temperature=1.5, dice=LINE, after=((1.0, 0.9, 0.8),)))
    assert ModelSpec.from_json(trusted.to_json()) == trusted
    older = json.loads(trusted.to_json())
    del older["trust"]["dice"]["per_sure"]
    assert ModelSpec.from_json(json.dumps(older)) == trusted, "a file of before the share of sure voxels"
    for bad in ('"temperature": 0', '"temperature": "1"', '"dice": 1', '"dice": {}', '"hot": 1', '"after": [[1, 2]]'):
        text = plain.to_json().replace('"training"', f'"trust": {{{bad}}}, "training"', 1)
        with pytest.raises(InputError, match="trust") as caught:
            ModelSpec.from_json(text)
        assert "\n" not in str(caught.value)


@pytest.fixture
def trusted(ball_model: Path, tmp_path: Path) -> Model:
    """The model with a temperature and a line."""
    model = load_model(ball_model)
    spec = replace(model.spec, trust=Trust(temperature=3.0, dice=LINE, before=((1, 0.9, 0.7),), after=((1, 0.8, 0.7),)))
    return write_model(tmp_path / "trusted.safetensors", spec, model.load_network().state_dict())


def test_a_run_says_what_dice_to_expect(trusted: Model, ball_model: Path) -> None:
    events = list(iter_segment(volume(), trusted, device="cpu"))
    told = [e.message for e in events if isinstance(e, Notice) and "expected Dice" in e.message]
    assert len(told) == 1
    last = events[-1]
    assert isinstance(last, Finished)
    assert np.array_equal(last.result.data, np.asarray(segment(volume(), ball_model, device="cpu").data))
    both = averaged([trusted, load_model(ball_model)])
    assert both.spec.trust == Trust(temperature=math.sqrt(3.0))


def test_the_page_of_a_training_shows_the_reliability(trusted: Model) -> None:
    page = run_page(RunLog(), trusted, None)
    assert "temperature 3, ECE 0.1000" in page or "reliability of the validation" in page
    assert "expected Dice of 0.100 + 0.800 x its soft Dice + 0.000 x log(its ml) + 0.000 x its share of sure" in page


def test_a_network_is_observed_on_the_grid_of_the_case(ball_model: Path) -> None:
    model = load_model(ball_model)
    _, predictor = opened(volume(), model, "cpu", 0.5)
    classes = np.asarray(segment(volume(), model, device="cpu", preset="exact").data).astype(np.int16)
    classes[0] = -1
    seen = run_to_end(observing(volume(), classes, model.spec, predictor, 10**9))
    assert seen.logits.shape == (classes.size, 3)
    known = seen.classes >= 0
    assert known.sum() == classes[1:].size
    assert (seen.logits.argmax(axis=1) == seen.classes)[known].all()
    assert seen.dice == 1.0
    assert seen.volume_ml == pytest.approx(2e-3 * int((seen.logits.argmax(axis=1) > 0).sum()))
