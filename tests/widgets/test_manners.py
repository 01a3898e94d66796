"""A plugin changes nothing that its host and other plugins feel: no such call stands anywhere in the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_medseg

FORBIDDEN = {
    "gc": {"disable", "freeze", "set_threshold"},
    "sys": {"setswitchinterval", "setrecursionlimit", "settrace", "setprofile"},
    "threading": {"settrace", "setprofile", "stack_size"},
    "torch": {"set_num_threads", "set_num_interop_threads", "set_default_dtype", "set_default_device"},
    "QThreadPool": {"globalInstance"},
    "faulthandler": {"enable"},
    "locale": {"setlocale"},
    "os": {"chdir", "putenv", "nice"},
}
"""{module or class: its functions that change the whole program, whatever name they are imported by}"""
ALLOWED = {"inference/scale/crew.py": ["torch.set_num_threads"] * 2}
"""In a worker, which works for the process that asks, and back."""
ANYWHERE = {"setMaxThreadCount", "setExpiryTimeout", "setQuitOnLastWindowClosed"}
"""Methods of objects that belong to the host."""


def calls(tree: ast.AST) -> Iterator[str]:
    """The forbidden functions that a module names, as "owner.function"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in ANYWHERE or node.attr in FORBIDDEN.get(owner, ()):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name in FORBIDDEN.get(node.module or "", ()))


def test_no_module_changes_the_whole_program() -> None:
    package = Path(napari_medseg.__file__).parent
    found = {
        str(path.relative_to(package)): names
        for path in package.rglob("*.py")
        if (names := list(calls(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "import gc; gc.disable()",
        "from gc import freeze",
        "import torch; torch.set_num_threads(1)",
        "pool = QThreadPool.globalInstance()",
        "pool.setMaxThreadCount(9)",
        "import sys; sys.setswitchinterval(1)",
    ],
)
def test_a_planted_call_is_found(line: str) -> None:
    assert list(calls(ast.parse(line))) != []
