"""A few mutations of every format: read or refused in one line, and nothing else happens (for many: tests/fuzz.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mutations
from fuzz_targets import TARGETS, run_case

IN_PROCESS, IN_CHILD, SLOW = 80, 25, ("model", "torch", "torch-unchecked")
CRASHES, CRASHING = 2, ("nrrd-unchecked", "mha-unchecked", "dicom-unchecked")
"""Mutations of readers whose child dies of most of them: each start of a child loads its library for seconds."""
_CASES = [pytest.param(name, marks=pytest.mark.slow) if name in CRASHING else name for name in TARGETS]


@pytest.mark.parametrize("reader", _CASES)
def test_mutations_are_read_or_refused(tmp_path: Path, reader: str) -> None:
    target = TARGETS[reader]
    folder = tmp_path / "files"
    folder.mkdir()
    path = target.make(folder)
    files = target.files(folder)
    before = [file.read_bytes() for file in files]
    count = CRASHES if reader in CRASHING else 10 if reader in SLOW else IN_CHILD if target.in_child else IN_PROCESS
    outcomes = [run_case(target, path, files, 20, case) for case in range(count)]
    assert [file.read_bytes() for file in target.files(folder)] == before
    assert any(outcome != "read" for outcome in outcomes)


@pytest.mark.parametrize("kinds", [mutations.BINARY, mutations.TEXT, mutations.JSON, mutations.GZIP], ids=len)
def test_a_case_can_be_made_again(kinds: tuple[mutations.Mutation, ...]) -> None:
    whole = b'{"a": [1, 2], "b": "' + bytes(range(48, 90)) + b'"}'
    made = [mutations.mutate(np.random.default_rng([3, case]), whole, kinds) for case in range(50)]
    again = [mutations.mutate(np.random.default_rng([3, case]), whole, kinds) for case in range(50)]
    assert made == again
    assert sum(content != whole for content in made) > 40
