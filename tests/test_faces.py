"""The faces of the packages: light to import, whole, and all that documents and copied scripts name."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels

import napari_medseg
from napari_medseg.config import MetricsConfig, RegionsConfig
from napari_medseg.widgets.measuring.as_python import evaluation_script, folders_script

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(napari_medseg.__file__).parent
LAZY = ["napari_medseg", *(f"napari_medseg.{stub.parent.name}" for stub in PACKAGE.glob("*/__init__.pyi"))]
HEAVY = ("torch", "monai", "napari", "qtpy", "scipy", "pandas", "matplotlib", "jinja2")
DOCUMENTED = re.findall(r"^::: (\S+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABELS = Labels(np.zeros((1, 2, 2), np.uint8), name="manual")
SCRIPTS = {
    "layers": evaluation_script(LABELS, LABELS, MetricsConfig()),
    "folders": folders_script(Path("a"), Path("b"), MetricsConfig(), RegionsConfig(merge=(("liver", (1, 2)),))),
    **{page.name: "".join(PYTHON.findall(page.read_text(encoding="utf-8"))) for page in sorted(DOCS.rglob("*.md"))},
}


def depth(module: str) -> int:
    """How far below the package a module lies: 0 for the package, 1 for its parts, which have faces."""
    return module.count(".")


def imported_from(script: str) -> list[str]:
    """The modules of ours that a script imports."""
    found = []
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    return [module for module in found if module.split(".")[0] == "napari_medseg"]


def test_the_faces_are_found() -> None:
    parts = {name.removeprefix("napari_medseg.") for name in LAZY}
    assert parts >= {"architectures", "inference", "metrics", "models", "training", "widgets"}


@pytest.mark.parametrize("face", LAZY)
def test_a_face_has_every_name_that_it_lists(face: str) -> None:
    package = importlib.import_module(face)
    assert package.__all__
    for name in package.__all__:
        value = getattr(package, name)
        assert getattr(value, "__name__", name) == name, "neither missing, nor hidden by a module of the same name"


def test_faces_load_nothing_heavy() -> None:
    code = f"import sys, {', '.join(LAZY)}; sys.stderr.write(' '.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_reference_names_faces_only(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    if depth(name) == 1:  # a whole module
        importlib.import_module(name)
        return
    assert depth(module) == 1
    assert hasattr(importlib.import_module(module), attribute)


def test_the_reference_documents_the_whole_face_of_the_metrics() -> None:
    assert {f"napari_medseg.metrics.{name}" for name in napari_medseg.metrics.__all__} <= set(DOCUMENTED)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_scripts_import_from_faces_only(script: str) -> None:
    assert [module for module in imported_from(script) if depth(module) > 1] == []


def test_a_deep_import_is_found() -> None:
    script = "import napari_medseg as ms\nfrom napari_medseg.metrics.study.study import study_of\n"
    assert [module for module in imported_from(script) if depth(module) > 1] == ["napari_medseg.metrics.study.study"]
