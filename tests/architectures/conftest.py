"""The presets that a suite of a network is run with."""

from __future__ import annotations

import pytest

from network_suite import NetworkSuite


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `preset` its values, which depend on the network of the suite."""
    if "preset" in metafunc.fixturenames and metafunc.cls is not None and issubclass(metafunc.cls, NetworkSuite):
        metafunc.parametrize("preset", metafunc.cls.presets())
