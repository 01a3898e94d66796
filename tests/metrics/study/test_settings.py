"""How numbers were made, in words and for programs."""

from __future__ import annotations

import pytest

from napari_medseg.config import CalibrationConfig, InstancesConfig, MetricsConfig, RatersConfig, StatisticsConfig
from napari_medseg.metrics.study.settings import (
    Setting,
    calibration_settings,
    instances_settings,
    metrics_settings,
    raters_settings,
    statistics_settings,
    text_of,
    values_of,
)


@pytest.mark.parametrize(
    ("settings", "values", "text"),
    [
        (
            metrics_settings(MetricsConfig(nsd_tolerance_mm=2)),
            {"preset": "survey", "nsd_tolerance_mm": 2, "rvd_unit": "fraction"},
            "preset survey, NSD at 2 mm",
        ),
        (
            metrics_settings(MetricsConfig(preset="chaos")),
            {"preset": "chaos", "nsd_tolerance_mm": 1.0, "rvd_unit": "percent"},
            "preset chaos, NSD at 1 mm, RVD in %",
        ),
        (raters_settings(RatersConfig()), {}, ""),
        (
            raters_settings(RatersConfig(consensus="staple")),
            {"consensus": "staple"},
            "against the consensus of the readers by STAPLE",
        ),
        (
            instances_settings(InstancesConfig(connectivity=6, iou=(0.5, 0.0))),
            {"instances": "components", "connectivity": 6, "iou_thresholds": "0.5, 0"},
            "components of 6-neighbours, pairs above IoU 0.5, 0",
        ),
        (
            instances_settings(InstancesConfig(instances="ids")),
            {"instances": "ids", "iou_thresholds": "0.5"},
            "every id is an instance, pairs above IoU 0.5",
        ),
        (
            calibration_settings(CalibrationConfig(bins=10, region="foreground")),
            {"bins": 10, "region": "foreground"},
            "10 bins, voxels of the foreground",
        ),
        (
            statistics_settings(StatisticsConfig(bootstrap=500, confidence=0.9, seed=3)),
            {"bootstrap": 500, "confidence": 0.9, "seed": 3},
            "90 % intervals of 500 bootstrap resamples, seed 3",
        ),
        (
            statistics_settings(StatisticsConfig(bootstrap=0)),
            {"bootstrap": 0, "confidence": 0.95, "seed": 0},
            "no confidence intervals",
        ),
    ],
    ids=["survey", "chaos", "reference", "staple", "components", "ids", "calibration", "intervals", "no_intervals"],
)
def test_choices_in_words_and_as_values(settings: tuple[Setting, ...], values: dict[str, object], text: str) -> None:
    assert dict(values_of(settings)) == values
    assert text_of(settings) == text
