"""The knobs: valid once built, and documented once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from balls import segmentation, volume
from napari_medseg import iter_segment, iter_train
from napari_medseg.config import (
    AugmentationConfig,
    BudgetConfig,
    CalibrationConfig,
    InstancesConfig,
    LossConfig,
    MetricsConfig,
    OptimiserConfig,
    RatersConfig,
    RegionsConfig,
    ReportConfig,
    SamplingConfig,
    SchemeConfig,
    SearchConfig,
    SegmentConfig,
    StatisticsConfig,
    TrainConfig,
    ValidationConfig,
    configured,
    field_docs,
    knobs_of,
)
from napari_medseg.errors import InputError, UnknownKnobError, UnknownNameError
from napari_medseg.metrics import evaluate
from napari_medseg.metrics.agreement.calibration import calibrate
from napari_medseg.metrics.pairwise.instances import match_instances
from napari_medseg.metrics.study.study import study_of
from napari_medseg.transforms.regions import passes

GROUPS: dict[str, type] = {
    "budget": BudgetConfig,
    "sampling": SamplingConfig,
    "optimiser": OptimiserConfig,
    "augmentation": AugmentationConfig,
    "loss": LossConfig,
    "validation": ValidationConfig,
    "reporting": ReportConfig,
    "schemes": SchemeConfig,
    "searching": SearchConfig,
}
WRONG = {
    "overlap_of_all": (lambda: SegmentConfig(overlap=1.0), "overlap must be at least 0 and below 1; got 1.0"),
    "overlap_nan": (lambda: SegmentConfig(overlap=float("nan")), "overlap must be at least 0"),
    "precision": (lambda: SegmentConfig(precision="fp16"), "precision is auto, fp32 or bf16; got 'fp16'"),  # type: ignore[arg-type]
    "batch_size": (lambda: SegmentConfig(batch_size=0), "batch_size must be at least 1; got 0"),
    "two_budgets": (lambda: BudgetConfig(epochs=1, minutes=1.0), "epochs or in minutes, not both"),
    "text_for_a_fraction": (lambda: SegmentConfig(overlap="half"), "overlap must be a number; got 'half'"),  # type: ignore[arg-type]
    "half_an_epoch": (lambda: BudgetConfig(epochs=0.5), "epochs must be a whole number; got 0.5"),  # type: ignore[arg-type]
    "no_epochs": (lambda: BudgetConfig(epochs=0), "epochs must be at least 1; got 0"),
    "no_minutes": (lambda: BudgetConfig(minutes=0.0), "minutes must be above 0; got 0.0"),
    "all_for_validation": (lambda: ValidationConfig(val=1.0), "val must be at least 0 and below 1; got 1.0"),
    "learning_rate": (lambda: OptimiserConfig(learning_rate=0.0), "learning_rate must be above 0; got 0.0"),
    "weight_decay": (lambda: OptimiserConfig(weight_decay=-1.0), "weight_decay must be at least 0; got -1.0"),
    "gradient_clip": (lambda: OptimiserConfig(gradient_clip=0.0), "gradient_clip must be above 0; got 0.0"),
    "tracker": (lambda: ReportConfig(tracker="excel"), "tracker is none, tensorboard or mlflow; got 'excel'"),  # type: ignore[arg-type]
    "tracker_without_report": (lambda: ReportConfig(report=False, tracker="mlflow"), "leave report on"),
    "elastic": (lambda: AugmentationConfig(elastic_mm=-1.0), "elastic_mm must lie in 0 to 100; got -1.0"),
    "fusion": (lambda: TrainConfig(fusion="layer", mode="2.5d"), "fusion layer takes channels apart"),
    "ignored_background": (lambda: LossConfig(ignore_label=0), "ignore_label must be at least 1; got 0"),
    "no_augmentation": (lambda: AugmentationConfig(augment=False, mirror="all"), "need augment"),
    "no_mirroring": (lambda: AugmentationConfig(augment=False, mirror="auto"), "need augment"),
    "schedule": (lambda: OptimiserConfig(schedule="step"), "schedule is cosine or poly; got 'step'"),  # type: ignore[arg-type]
    "unlabelled": (
        lambda: LossConfig(unlabelled_slices="skip"),  # type: ignore[arg-type]
        "unlabelled_slices is background or ignore; got 'skip'",
    ),
    "validations": (lambda: ValidationConfig(validations=-1), "validations must be at least 0; got -1"),
    "foreground": (lambda: SamplingConfig(foreground=1.5), "foreground must lie in 0 to 1; got 1.5"),
    "patch": (lambda: SamplingConfig(patch_zyx=(0, 8, 8)), r"patch_zyx needs three positive numbers.*\(0, 8, 8\)"),
    "spacing": (lambda: SamplingConfig(spacing_zyx_mm=(1.0, -1.0, 1.0)), "spacing_zyx_mm needs three positive numbers"),
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
    [
        SegmentConfig,
        *GROUPS.values(),
        MetricsConfig,
        InstancesConfig,
        StatisticsConfig,
        CalibrationConfig,
        RatersConfig,
    ],
    ids=lambda c: c.__name__,
)
def test_every_field_is_documented_in_a_sentence(config: type) -> None:
    docs = field_docs(config)
    assert list(docs) == [f.name for f in fields(config)]
    assert all(text.endswith(".") for text in docs.values())


def test_the_knobs_of_the_groups_stand_beside_those_of_the_training() -> None:
    own = [f.name for f in fields(TrainConfig) if f.name not in GROUPS]
    grouped = [f.name for group in GROUPS.values() for f in fields(group)]
    knobs = knobs_of(TrainConfig)
    assert list(knobs) == list(field_docs(TrainConfig)) == own + grouped
    assert len({*own, *grouped}) == len(own) + len(grouped), "no knob is there twice"
    assert {*own, *grouped} & {*GROUPS} == {"loss"}, "only the loss is named as its group: the knob goes first"
    assert configured(TrainConfig, None, {"loss": "ce"}).loss.loss == "ce"
    assert all(knob.doc.endswith(".") for knob in knobs.values())
    epochs, seed = knobs["epochs"], knobs["seed"]
    assert (epochs.group, epochs.kind, epochs.default) == ("budget", int | None, None)
    assert (seed.group, seed.kind, seed.default) == ("", int, 0)


def test_knobs_find_their_groups() -> None:
    config = configured(TrainConfig, None, {"seed": 3, "epochs": 5, "val": 0.5, "validations": 2})
    assert config == TrainConfig(
        seed=3, budget=BudgetConfig(epochs=5), validation=ValidationConfig(val=0.5, validations=2)
    )
    assert configured(TrainConfig, config, {"val": 0.0}).validation == ValidationConfig(val=0.0, validations=2)
    assert configured(TrainConfig, config, {}) == config
    assert configured(SegmentConfig, None, {"overlap": 0.25}) == SegmentConfig(overlap=0.25)


@pytest.mark.parametrize(
    ("knobs", "error", "says"),
    [
        ({"epoch": 3}, UnknownNameError, "TrainConfig has no knob 'epoch': did you mean epochs.*its knobs are seed, "),
        ({"budget": BudgetConfig()}, UnknownNameError, "TrainConfig has no knob 'budget'"),
        ({"epochs": 3, "minutes": 1}, InputError, "epochs or in minutes, not both"),
        ({"mode": "4d"}, InputError, "mode is auto, 2d, 2.5d, triplanar or 3d; got '4d'"),
    ],
    ids=["unknown", "group", "both budgets", "choice"],
)
def test_a_wrong_knob_is_refused_in_a_line(knobs: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as refused:
        configured(TrainConfig, None, knobs)
    assert "\n" not in str(refused.value)


@dataclass(frozen=True, kw_only=True)
class Silent:
    """Has a knob that nobody describes."""

    knob: int = 1


def test_a_field_without_its_text_is_a_defect() -> None:
    with pytest.raises(KeyError, match="knob"):
        field_docs(Silent)


def test_knobs_do_not_change_once_built() -> None:
    config = SegmentConfig()
    with pytest.raises(FrozenInstanceError, match="overlap"):
        config.overlap = 0.0  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class Nested:
    """A config with groups, as StudyConfig is."""

    seed: int = 0
    """Its own."""
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    """A group."""
    statistics: StatisticsConfig = field(default_factory=StatisticsConfig)
    """Another group."""


def test_knobs_change_the_config_that_is_given_or_the_defaults() -> None:
    assert configured(SegmentConfig, None, {}) == SegmentConfig()
    given = SegmentConfig(overlap=0.25)
    assert configured(SegmentConfig, given, {}) == given
    assert configured(SegmentConfig, given, {"device": "cpu"}) == SegmentConfig(overlap=0.25, device="cpu")


def test_knobs_of_groups_are_flat() -> None:
    made = configured(Nested, None, {"preset": "lits", "confidence": 0.9, "bootstrap": 0})
    expected = Nested(metrics=MetricsConfig(preset="lits"), statistics=StatisticsConfig(confidence=0.9, bootstrap=0))
    assert made == expected
    # A field of the config itself comes before that of a group, and a given config is changed by the knobs.
    given = Nested(metrics=MetricsConfig(nsd_tolerance_mm=2.0))
    made = configured(Nested, given, {"seed": 3, "preset": "chaos"})
    assert made == Nested(seed=3, metrics=MetricsConfig(nsd_tolerance_mm=2.0, preset="chaos"))


def test_an_unknown_knob_is_told_with_what_may_be_meant() -> None:
    with pytest.raises(UnknownKnobError, match=r"SegmentConfig has no knob 'overlapp': did you mean overlap\?"):
        configured(SegmentConfig, None, {"overlapp": 0.5})
    with pytest.raises(TypeError, match="Nested has no knob 'zzz': its knobs are seed, preset"):
        configured(Nested, None, {"zzz": 1})


def test_a_config_of_another_verb_is_refused() -> None:
    with pytest.raises(InputError, match="config must be a SegmentConfig; got MetricsConfig"):
        configured(SegmentConfig, MetricsConfig(), {})
    with pytest.raises(InputError, match="overlap must be at least 0"):
        configured(SegmentConfig, None, {"overlap": -1})


@pytest.mark.parametrize(
    "call",
    [
        lambda knobs: next(iter(iter_segment(volume(), "nowhere.safetensors", **knobs))),
        lambda knobs: next(iter(iter_train([], out="m.safetensors", **knobs))),
        lambda knobs: evaluate(prediction=segmentation(), reference=segmentation(), **knobs),
        lambda knobs: match_instances(prediction=segmentation(), reference=segmentation(), **knobs),
        lambda knobs: calibrate(probabilities=volume(), reference=segmentation(), **knobs),
        lambda knobs: study_of([], **knobs),
    ],
    ids=["segment", "train", "evaluate", "instances", "calibrate", "study"],
)
def test_every_verb_tells_an_unknown_knob(call: Callable[[dict[str, object]], object]) -> None:
    with pytest.raises(UnknownKnobError, match="has no knob 'nonsense'"):
        call({"nonsense": 1})


def test_regions_of_one_name_in_two_spellings_are_refused() -> None:
    with pytest.raises(InputError, match="merge names a region twice"):
        RegionsConfig(merge={"left-kidney": 1, "Left_Kidney": 2})  # type: ignore[arg-type]
    (one,) = passes(RegionsConfig(merge={"Left_Kidney": 1}))  # type: ignore[arg-type]
    labels = replace(segmentation(), labels={1: "part", 2: "left-kidney"})
    with pytest.raises(InputError, match="the region Left_Kidney has the name of label 2, which is in no region"):
        one.of(labels)
