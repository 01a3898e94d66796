"""The cores that a process of our own takes, where a container is granted fewer than there are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from napari_medseg.io.disk import own


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "12800000 100000\n"}, 8),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "0\n"}, 8),
        ({}, 8),
    ],
)
def test_a_container_grants_cores(
    said: Mapping[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in said.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert own.granted_cores(tmp_path) == cores


@pytest.mark.parametrize(("granted", "asked", "threads"), [(2, None, "2"), (8, None, None), (2, "5", "5")])
def test_an_own_process_takes_as_many_threads_as_it_is_granted(
    granted: int, asked: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "keep_freed", lambda: None)  # this process is pytest's
    monkeypatch.setattr(own, "granted_cores", lambda: granted)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked or "")
    for name in own.WAITING:
        monkeypatch.setenv(name, "7")
    if asked is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    own.begin_own_process()
    found = os.environ.pop("OMP_NUM_THREADS", None)
    assert found == threads
    assert [os.environ[name] for name in own.WAITING] == ["7", "7"], "what the user set stays"


def test_threads_of_an_own_process_wait_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "keep_freed", lambda: None)  # this process is pytest's
    for name in ("OMP_NUM_THREADS", *own.WAITING):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    own.begin_own_process()
    assert {name: os.environ[name] for name in own.WAITING} == own.WAITING
