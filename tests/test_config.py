"""The knobs: valid once built, and documented once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields

import pytest

from napari_medseg.config import (
    CalibrationConfig,
    InstancesConfig,
    MetricsConfig,
    RatersConfig,
    SegmentConfig,
    StatisticsConfig,
    TrainConfig,
    field_docs,
)
from napari_medseg.errors import InputError

WRONG = {
    "overlap_of_all": (lambda: SegmentConfig(overlap=1.0), "overlap must be at least 0 and below 1; got 1.0"),
    "overlap_nan": (lambda: SegmentConfig(overlap=float("nan")), "overlap must be at least 0"),
    "precision": (lambda: SegmentConfig(precision="fp16"), "precision is auto, fp32 or bf16; got 'fp16'"),  # type: ignore[arg-type]
    "batch_size": (lambda: SegmentConfig(batch_size=0), "batch_size must be at least 1; got 0"),
    "two_budgets": (lambda: TrainConfig(epochs=1, minutes=1.0), "epochs or in minutes, not both"),
    "text_for_a_fraction": (lambda: SegmentConfig(overlap="half"), "overlap must be a number; got 'half'"),  # type: ignore[arg-type]
    "half_an_epoch": (lambda: TrainConfig(epochs=0.5), "epochs must be a whole number; got 0.5"),  # type: ignore[arg-type]
    "no_epochs": (lambda: TrainConfig(epochs=0), "epochs must be at least 1; got 0"),
    "no_minutes": (lambda: TrainConfig(minutes=0.0), "minutes must be above 0; got 0.0"),
    "all_for_validation": (lambda: TrainConfig(val=1.0), "val must be at least 0 and below 1; got 1.0"),
    "learning_rate": (lambda: TrainConfig(learning_rate=0.0), "learning_rate must be above 0; got 0.0"),
    "foreground": (lambda: TrainConfig(foreground=1.5), "foreground must lie in 0 to 1; got 1.5"),
    "patch": (lambda: TrainConfig(patch_zyx=(0, 8, 8)), r"patch_zyx needs three positive numbers.*\(0, 8, 8\)"),
    "spacing": (lambda: TrainConfig(spacing_zyx_mm=(1.0, -1.0, 1.0)), "spacing_zyx_mm needs three positive numbers"),
    "preset": (lambda: MetricsConfig(preset="brats"), "preset is survey, lits or chaos; got 'brats'"),  # type: ignore[arg-type]
    "instances": (lambda: InstancesConfig(instances="blobs"), "instances is components or ids; got 'blobs'"),  # type: ignore[arg-type]
    "connectivity": (lambda: InstancesConfig(connectivity=8), "connectivity is 6, 18 or 26; got 8"),  # type: ignore[arg-type]
    "no_threshold": (lambda: InstancesConfig(iou=()), "iou needs one or more thresholds"),
    "threshold_of_one": (lambda: InstancesConfig(iou=(0.5, 1.0)), "iou needs one or more thresholds from 0 to below 1"),
    "bootstrap": (lambda: StatisticsConfig(bootstrap=-1), "bootstrap must be 0 or at least 50; got -1"),
    "confidence": (lambda: StatisticsConfig(confidence=1.0), "confidence must lie between 0 and 1; got 1.0"),
    "statistics_seed": (lambda: StatisticsConfig(seed=-1), "seed must be at least 0; got -1"),
    "consensus": (lambda: RatersConfig(consensus="mean"), "consensus is none, vote or staple; got 'mean'"),  # type: ignore[arg-type]
    "no_bins": (lambda: CalibrationConfig(bins=0), "bins must be at least 1; got 0"),
    "region": (lambda: CalibrationConfig(region="brain"), "region is all or foreground; got 'brain'"),  # type: ignore[arg-type]
    "text_for_a_tolerance": (
        lambda: MetricsConfig(nsd_tolerance_mm="a"),  # type: ignore[arg-type]
        "nsd_tolerance_mm must be a number; got 'a'",
    ),
    "no_tolerance": (lambda: MetricsConfig(nsd_tolerance_mm=None), "nsd_tolerance_mm must be a number; got None"),  # type: ignore[arg-type]
    "single_threshold": (lambda: InstancesConfig(iou=0.5), "iou needs one or more thresholds .* got 0.5"),  # type: ignore[arg-type]
    "text_for_thresholds": (lambda: InstancesConfig(iou="a"), "iou needs one or more thresholds .* got a"),  # type: ignore[arg-type]
    "half_a_resample": (lambda: StatisticsConfig(bootstrap=99.5), "bootstrap must be a whole number; got 99.5"),  # type: ignore[arg-type]
    "half_a_bin": (lambda: CalibrationConfig(bins=2.5), "bins must be a whole number; got 2.5"),  # type: ignore[arg-type]
    "tolerance": (lambda: MetricsConfig(nsd_tolerance_mm=-1.0), "nsd_tolerance_mm must be at least 0; got -1.0"),
}


@pytest.mark.parametrize(("build", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_refused_by_name(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    "config",
    [SegmentConfig, TrainConfig, MetricsConfig, InstancesConfig, StatisticsConfig, CalibrationConfig, RatersConfig],
    ids=lambda c: c.__name__,
)
def test_every_field_is_documented_in_a_sentence(config: type) -> None:
    docs = field_docs(config)
    assert list(docs) == [f.name for f in fields(config)]
    assert all(text.endswith(".") for text in docs.values())


def test_a_field_without_its_text_is_a_defect() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Silent:
        """Has a knob that nobody describes."""

        knob: int = 1

    with pytest.raises(KeyError, match="knob"):
        field_docs(Silent)


def test_knobs_do_not_change_once_built() -> None:
    config = SegmentConfig()
    with pytest.raises(FrozenInstanceError, match="overlap"):
        config.overlap = 0.0  # type: ignore[misc]
