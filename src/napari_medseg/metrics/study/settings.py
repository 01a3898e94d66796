"""How numbers were made: the choices behind a table, as text for people and as values for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_medseg.config import (
    CalibrationConfig,
    InstancesConfig,
    MetricsConfig,
    RatersConfig,
    RegionsConfig,
    StatisticsConfig,
)
from napari_medseg.metrics.pairwise.columns import columns_of

if TYPE_CHECKING:
    from napari_medseg.metrics.pairwise.scores import Value


@dataclass(frozen=True)
class Setting:
    """One choice."""

    name: str
    """A column of a CSV file, a key in JSON."""
    value: Value
    text: str
    """The words in a title; empty where another setting says it, or it is the default."""


def metrics_settings(config: MetricsConfig) -> tuple[Setting, ...]:
    """Settings of the scores. RVD is a fraction or, with some presets, in percent."""
    in_percent = columns_of(config.preset)["rvd"].unit == "%"
    return (
        Setting("preset", config.preset, f"preset {config.preset}"),
        Setting("nsd_tolerance_mm", config.nsd_tolerance_mm, f"NSD at {config.nsd_tolerance_mm:g} mm"),
        Setting("rvd_unit", "percent" if in_percent else "fraction", "RVD in %" if in_percent else ""),
    )


def pixel_settings() -> tuple[Setting, ...]:
    """The setting of images that do not say how large a pixel is."""
    return (Setting("pixel_size", "unknown (1 mm taken)", "pixels of unknown size taken for 1 mm"),)


def regions_settings(config: RegionsConfig) -> tuple[Setting, ...]:
    """Settings of what is measured as one; none where every label is measured by itself."""
    if config.foreground:
        return (Setting("regions", "foreground", "all labels as one"),)
    text = "; ".join(f"{name}={','.join(map(str, ids))}" for name, ids in config.merge)
    return (Setting("regions", text, f"regions {text}"),) if text else ()


def raters_settings(config: RatersConfig) -> tuple[Setting, ...]:
    """Settings of a consensus of raters; none where the reference alone counts."""
    if config.consensus == "none":
        return ()
    names = {"vote": "majority vote of the readers", "staple": "consensus of the readers by STAPLE"}
    return (Setting("consensus", config.consensus, f"against the {names[config.consensus]}"),)


def instances_settings(config: InstancesConfig) -> tuple[Setting, ...]:
    """Settings of instances; only components have a connectivity."""
    thresholds = ", ".join(f"{t:g}" for t in config.iou)
    above = Setting("iou_thresholds", thresholds, f"pairs above IoU {thresholds}")
    if config.instances == "ids":
        return Setting("instances", "ids", "every id is an instance"), above
    return (
        Setting("instances", "components", ""),
        Setting("connectivity", config.connectivity, f"components of {config.connectivity}-neighbours"),
        above,
    )


def calibration_settings(config: CalibrationConfig) -> tuple[Setting, ...]:
    """Settings of calibration."""
    region = "all voxels" if config.region == "all" else "voxels of the foreground"
    return Setting("bins", config.bins, f"{config.bins} bins"), Setting("region", config.region, region)


def statistics_settings(config: StatisticsConfig) -> tuple[Setting, ...]:
    """Settings of confidence intervals over cases."""
    resamples = f"{config.confidence * 100:g} % intervals of {config.bootstrap} bootstrap resamples, seed {config.seed}"
    return (
        Setting("bootstrap", config.bootstrap, resamples if config.bootstrap else "no confidence intervals"),
        Setting("confidence", config.confidence, ""),
        Setting("seed", config.seed, ""),
    )


def setting_names() -> frozenset[str]:
    """The names of all settings."""
    every = (
        *metrics_settings(MetricsConfig()),
        *pixel_settings(),
        *regions_settings(RegionsConfig(foreground=True)),
        *raters_settings(RatersConfig(consensus="vote")),
        *instances_settings(InstancesConfig()),
        *calibration_settings(CalibrationConfig()),
        *statistics_settings(StatisticsConfig()),
    )
    return frozenset(setting.name for setting in every)


def values_of(settings: Iterable[Setting]) -> Mapping[str, Value]:
    """{name: value}."""
    return {setting.name: setting.value for setting in settings}


def text_of(settings: Iterable[Setting]) -> str:
    """All texts on one line, for a title."""
    return ", ".join(setting.text for setting in settings if setting.text)
