"""What goes with a scheme, and what is refused before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_medseg.config import LossConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.registry import network as network_named
from napari_medseg.training.schemes.scheme import SchemeSpec, given_knobs
from napari_medseg.training.schemes.table import SCHEMES

if TYPE_CHECKING:
    from napari_medseg.models.spec import ModelSpec
    from napari_medseg.training.cases import PreparedCase

_CLEARLY = 1.5
"""How much longer than a patch a label is where the patch shows a part of it only."""


def require_fitting(
    spec: SchemeSpec, config: TrainConfig, *, unlabelled: object, target: object, planned: bool
) -> None:
    """Raise InputError for settings, images and plans that a scheme has no use for, and for what it lacks."""
    require_taken(spec, unlabelled)
    require_target(spec, target)
    require_used(spec, config)
    require_mining(spec, config.sampling.hard_patches)
    require_objects(spec, config.objects)
    require_whole(spec, config.loss)
    require_plain(spec, config, planned=planned)


def require_taken(spec: SchemeSpec, unlabelled: object) -> None:
    """Raise InputError for images without labels that a scheme has no use for, and for their absence where it has."""
    if unlabelled and not spec.takes_unlabelled:
        raise InputError(f"scheme {spec.name} takes no unlabelled images: leave them out, or choose another scheme")
    if spec.takes_unlabelled and not unlabelled:
        raise InputError(f"scheme {spec.name} needs unlabelled images: give a folder of them, or choose another scheme")


def require_target(spec: SchemeSpec, target: object) -> None:
    """Raise InputError for images of another domain that a scheme has no use for, and for their absence."""
    if target and not spec.takes_target:
        raise InputError(
            f"scheme {spec.name} takes no target images: leave them out, or choose adapt-statistics or cyclegan"
        )
    if spec.takes_target and not target:
        raise InputError(f"scheme {spec.name} needs target images: give a folder of them, or choose another scheme")


def require_whole(spec: SchemeSpec, loss: LossConfig) -> None:
    """Raise InputError for labels that are known in part, with a scheme that makes images of them."""
    in_part = (
        (f"weak {loss.weak}", loss.weak != "none"),
        ("unlabelled_slices ignore", loss.unlabelled_slices == "ignore"),
        (f"ignore_label {loss.ignore_label}", loss.ignore_label is not None),
    )
    for name, holds in in_part:
        if spec.makes_images and holds:
            raise InputError(
                f"scheme {spec.name} makes images of labels, of which {name} leaves a part unknown: leave it out, or "
                f"choose supervised"
            )


def require_used(spec: SchemeSpec, config: TrainConfig) -> None:
    """Raise InputError for a knob of schemes that this one does not use."""
    for name in given_knobs(config):
        if name not in spec.knobs:
            uses = f"its own are {', '.join(spec.knobs)}" if spec.knobs else "it has none of its own"
            raise InputError(f"scheme {spec.name} has no use for {name}: {uses}")


def require_mining(spec: SchemeSpec, share: float) -> None:
    """Raise InputError for patches centred on mistakes, with a scheme that does not look for these."""
    if share and not spec.is_plain:
        raise InputError(f"scheme {spec.name} has no use for hard_patches: leave it out, or choose supervised")


def require_searching(spec: SchemeSpec, config: TrainConfig, *, starts: bool, planned: bool) -> None:
    """Raise InputError for a search where a plan is given, or where more than one plan of one network is trained.

    starts: whether the training starts from a model.
    """
    decided = (
        ("a plan", planned),
        ("a model to start from", starts),
        (f"cascade {config.cascade}", config.cascade != "none"),
        (f"scheme {spec.name}", not spec.is_plain),
        ("val 0, since validation cases judge the plans", config.validation.val == 0),
    )
    reason = next((name for name, holds in decided if holds), "")
    if config.searching.search and reason:
        raise InputError(f"search tries plans of one network, and does not go with {reason}: leave one of them out")


def require_trains(scheme: SchemeSpec, network: str) -> None:
    """Raise UnknownNameError for an unknown network, InputError for one that the scheme does not train."""
    if network_named(network).takes == scheme.takes:
        return
    if scheme.takes != "image":
        raise InputError(f"scheme {scheme.name} trains {scheme.network}, not {network}: leave the network out")
    own = next(spec.name for spec in SCHEMES.values() if spec.takes == network_named(network).takes)
    raise InputError(f"network {network} is no network from image to labels: it is trained by scheme {own}")


def require_plain(scheme: SchemeSpec, config: TrainConfig, *, planned: bool) -> None:
    """Raise InputError for what goes with networks of an image alone. planned: whether a plan is given."""
    if scheme.takes == "image":
        return
    planless = scheme.takes != "instances"
    given = (
        ("a plan", planned and planless),
        ("mode", config.mode != "auto" and planless),
        ("cascade", config.cascade != "none"),
        ("adapt", config.optimiser.adapt != "all" and planless),
        ("ema", config.optimiser.ema > 0),
        ("fusion", config.fusion != "input"),
        ("loss", config.loss.loss != LossConfig().loss and scheme.takes == "instances"),
    )
    for name, is_given in given:
        if is_given:
            raise InputError(f"scheme {scheme.name} has no use for {name}: leave it out")


def require_objects(spec: SchemeSpec, objects: str) -> None:
    """Raise InputError where it is said what an object is, and the scheme learns labels."""
    if objects != "components" and spec.learns == "labels":
        raise InputError(f"scheme {spec.name} learns labels: leave objects={objects} out, or choose another scheme")


def crop_doubt(scheme: SchemeSpec, spec: ModelSpec, cases: Sequence[PreparedCase]) -> str:
    """Whether patches show a scheme that learns shapes only parts of a label, in one line; empty where they do not.

    Along an axis of the patch, a label is as long as it is in the median case.
    """
    if scheme.name != "acnn":
        return ""
    axes = [0, 1, 2] if spec.mode == "3d" else [1, 2]
    patch = np.array(spec.patch_zyx)
    for k, label in enumerate(spec.label_ids):
        extents = [np.ptp(case.spots[k], axis=0) + 1 for case in cases if k and k in case.spots]
        extent = np.median(extents, axis=0) if extents else np.zeros(3)
        if (extent > _CLEARLY * patch)[axes].any():
            long, short = ("x".join(f"{n:.0f}" for n in sizes[axes]) for sizes in (extent, patch))
            return (
                f"{spec.labels[label]} has {long} voxels, and a patch {short}: scheme {scheme.name} learns crops of "
                f"it, not its shape; give a larger patch_zyx, or a coarser spacing_zyx_mm"
            )
    return ""
