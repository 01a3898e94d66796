"""The one table of networks. Pure data: a network's module (and torch) is imported when it is built."""

from __future__ import annotations

from napari_medseg.errors import UnknownNameError, did_you_mean
from napari_medseg.registry import detection, interactive, light, monai, residual, transformers, unets
from napari_medseg.registry.spec import NetworkSpec, shown

_PARTS = (unets, residual, monai, transformers, light, interactive, detection)
_TABLE: dict[str, NetworkSpec] = {spec.name: spec for part in _PARTS for spec in part.NETWORKS}


def networks() -> dict[str, NetworkSpec]:
    """Every network by name; no torch is loaded."""
    return dict(_TABLE)


def network(name: str) -> NetworkSpec:
    """The network of that name; UnknownNameError lists the choices."""
    if name not in _TABLE:
        hint, choices = did_you_mean(name, _TABLE), ", ".join(sorted(_TABLE))
        raise UnknownNameError(f"unknown network {shown(name)}: {hint}choose one of {choices}")
    return _TABLE[name]
