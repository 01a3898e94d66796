"""The ground plan: imports run downwards only, without circles, and no module reaches for its own package's face."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import napari_medseg

ROOT = Path(__file__).parents[1]
PACKAGE = Path(napari_medseg.__file__).parent
PUBLIC = "napari_medseg"
MOST_MODULES = 15
FACES_USED_BY = ("napari_medseg.widgets.", "napari_medseg.cli.")
"""What may import the public face: the rims, which do as a script of a user does."""


def fresh_graph() -> grimp.ImportGraph:
    return grimp.build_graph(PUBLIC, exclude_type_checking_imports=True, cache_dir=None)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return fresh_graph()


def is_package(module: str) -> bool:
    return (PACKAGE.parent / module.replace(".", "/")).is_dir()


def circles(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """(importer, imported) of every import that leads back to its importer."""
    found = []
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            if graph.find_shortest_chain(imported, importer) is not None:
                found.append((importer, imported))
    return sorted(found)


def own_faces(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """(importer, package) of every module that imports through the face of a package it lies in."""
    return sorted(
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if is_package(imported)
        and importer.startswith(f"{imported}.")
        and not (imported == PUBLIC and importer.startswith(FACES_USED_BY))
    )


def contracts_of_layers() -> Iterator[tuple[str, list[str]]]:
    """(container, its layers from the top, as import-linter writes them) of each contract of layers."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    for contract in tools["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            for container in contract["containers"]:
                yield container, contract["layers"]


def members(layer: str) -> set[str]:
    return {name.strip() for name in layer.replace("|", ":").split(":")}


def upwards(graph: grimp.ImportGraph, container: str, layers: list[str]) -> list[tuple[str, str]]:
    """(importer, imported) of the layers that reach upwards."""
    as_layers = [grimp.Layer(*members(layer), independent="|" in layer) for layer in layers]
    found = graph.find_illegal_dependencies_for_layers(as_layers, containers={container})
    return sorted((dependency.importer, dependency.imported) for dependency in found)


def test_no_circles(graph: grimp.ImportGraph) -> None:
    assert circles(graph) == []


def test_a_planted_circle_is_found() -> None:
    graph = fresh_graph()
    graph.add_import(importer="napari_medseg.geometry", imported="napari_medseg.volume")
    assert ("napari_medseg.volume", "napari_medseg.geometry") in circles(graph)


def test_no_module_imports_its_own_packages_face(graph: grimp.ImportGraph) -> None:
    assert own_faces(graph) == []


def test_a_planted_import_of_an_own_face_is_found() -> None:
    graph = fresh_graph()
    graph.add_import(importer="napari_medseg.io.folders", imported="napari_medseg.io")
    graph.add_import(importer="napari_medseg.training.fit", imported="napari_medseg")
    assert own_faces(graph) == [
        ("napari_medseg.io.folders", "napari_medseg.io"),
        ("napari_medseg.training.fit", "napari_medseg"),
    ]


@pytest.mark.parametrize(("container", "layers"), list(contracts_of_layers()), ids=lambda value: str(value)[:30])
def test_wings_import_downwards_only(container: str, layers: list[str], graph: grimp.ImportGraph) -> None:
    assert upwards(graph, container, layers) == []


@pytest.mark.parametrize(("container", "layers"), list(contracts_of_layers()), ids=lambda value: str(value)[:30])
def test_a_planted_import_upwards_is_found(container: str, layers: list[str]) -> None:
    graph = fresh_graph()
    top, bottom = (f"{container}.{min(members(layer))}" for layer in (layers[0], layers[-1]))
    graph.add_import(importer=bottom, imported=top)
    assert (bottom, top) in upwards(graph, container, layers)


def test_folders_hold_few_modules() -> None:
    crowded = {
        str(folder.relative_to(PACKAGE)): len(modules)
        for folder in (PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir()))
        if len(modules := list(folder.glob("*.py"))) > MOST_MODULES
    }
    assert crowded == {}
