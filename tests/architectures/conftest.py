"""The presets that a suite of a network is run with, and which of its tests are slow."""

from __future__ import annotations

import pytest

from napari_medseg import registry
from network_suite import NetworkSuite, is_first_of_its_kind


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `preset` its values, which depend on the network of the suite."""
    if "preset" in metafunc.fixturenames and metafunc.cls is not None and issubclass(metafunc.cls, NetworkSuite):
        metafunc.parametrize("preset", metafunc.cls.presets())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Make a test that runs once per kind of network slow for the others."""
    suite = getattr(item, "cls", None)
    if not getattr(getattr(item, "function", None), "once_per_kind", False) or suite is None:
        return
    if not is_first_of_its_kind(registry.network(suite.network)):
        item.add_marker(pytest.mark.slow)
