"""The models of networks that take more than an image, from the plan of the cases for a network that takes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from napari_medseg.config import TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.interactive.guided.clips import SIZE
from napari_medseg.models.spec import ModelSpec, Normalisation
from napari_medseg.registry import Argument, network
from napari_medseg.training.losses.supervised import DEFAULT

_STEP = 16
"""The memory network halves a slice four times."""


def of_memory(plan: ModelSpec, config: TrainConfig, arguments: Mapping[str, Argument]) -> ModelSpec:
    """A memory network knows objects, not labels; slices have SIZE samples a side, or those of the patch asked for.

    Raises InputError for several channels, and for a loss: it has its own.
    """
    if len(plan.channels) != 1:
        raise InputError(f"scheme memory learns from images of one channel; got {len(plan.channels)}")
    if config.loss.loss != DEFAULT:
        raise InputError("scheme memory has a loss of its own: leave loss out")
    given = config.sampling.patch_zyx
    size = SIZE if given is None else -(-given[2] // _STEP) * _STEP
    return replace(
        plan,
        network="mem3d",
        arguments=network("mem3d").arguments(**arguments),  # type: ignore[arg-type]  # no preset among them
        labels={1: "object"},
        patch_zyx=(1, size, size),
        normalisation=(Normalisation(kind="none"),),
        mode="2d",
        deep_supervision=False,
        description="A volumetric memory network. The region around the annotated slices is normalised by them.",
    )


def of_clicks(plan: ModelSpec, config: TrainConfig, arguments: Mapping[str, Argument]) -> ModelSpec:
    """R-Net on volumes. It standardises the surroundings of the labels that it corrects by themselves."""
    return _on_volumes(
        plan, "deepigeos_rnet", arguments, (Normalisation(kind="zscore"),) * len(plan.channels), "R-Net of DeepIGeoS."
    )


def of_graph(plan: ModelSpec, config: TrainConfig, arguments: Mapping[str, Argument]) -> ModelSpec:
    """A graph network, which segments images through their supervoxels."""
    return _on_volumes(plan, "graph_unet", arguments, plan.normalisation, "A graph network on supervoxels.")


def _on_volumes(
    plan: ModelSpec,
    name: str,
    arguments: Mapping[str, Argument],
    normalisation: tuple[Normalisation, ...],
    description: str,
) -> ModelSpec:
    spec = network(name)
    own = {"in_channels": spec.inputs_for(len(plan.channels)), "out_channels": len(plan.labels) + 1, "spatial_dims": 3}
    given = spec.arguments(**own, **arguments)  # type: ignore[arg-type]  # no preset among them
    return replace(
        plan,
        network=name,
        arguments=given,
        normalisation=normalisation,
        mode="3d",
        deep_supervision=False,
        description=description,
    )
