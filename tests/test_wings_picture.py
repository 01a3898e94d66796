"""The picture of the wings shows the imports as they are, and the pages about the code name files that exist."""

from __future__ import annotations

import html
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "napari_medseg"
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md")
PATH = re.compile(r"`(\w+/[\w./-]*|\w+\.(?:py|md|toml|yaml))`")
"""What a page writes as code and means as a file or a folder: it has a slash or one of these suffixes."""


@pytest.fixture(scope="module")
def wings() -> Any:
    """The script docs/wings.py as a module."""
    spec = importlib.util.spec_from_file_location("wings", ROOT / "docs" / "wings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wings"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan(wings: Any) -> Any:
    """The plan of the source as it is."""
    return wings.read_plan()


def planted(wings: Any, importer: str, imported: str) -> Any:
    """The plan of the source with one import more."""
    graph = grimp.build_graph("napari_medseg", exclude_type_checking_imports=True, cache_dir=None)
    graph.add_import(importer=f"napari_medseg.{importer}", imported=f"napari_medseg.{imported}")
    return wings.plan_of(graph, wings.contracts(ROOT / "pyproject.toml"), wings.STUB.read_text(encoding="utf-8"))


def shown(picture: str) -> list[str]:
    """The lines of a picture's description."""
    found = re.search(r"<desc>\n(.*?)\n</desc>", picture, re.DOTALL)
    assert found is not None
    return html.unescape(found[1]).splitlines()


def test_the_picture_is_current(wings: Any, plan: Any) -> None:
    drawn = shown(wings.PICTURE.read_text(encoding="utf-8"))
    assert drawn == plan.listing(), "run `python docs/wings.py` and commit the picture"


def test_no_arrow_runs_upwards_and_none_in_a_circle(plan: Any) -> None:
    assert plan.faults() == []


@pytest.mark.parametrize(
    ("importer", "imported", "fault"),
    [
        ("io.folders", "training.fit", "io imports training, which lies on a higher floor"),
        ("io.disk.files", "io.formats", "io.disk imports io.formats, which lies on a higher floor"),
    ],
)
def test_a_planted_import_upwards_is_drawn_in_red(wings: Any, importer: str, imported: str, fault: str) -> None:
    changed = planted(wings, importer, imported)
    picture = wings.Picture(changed).svg()
    assert fault in changed.faults()
    assert 'class="upwards"' in picture
    assert f"UPWARDS {fault.split()[0]} -> {fault.split()[2].rstrip(',')}" in shown(picture)


def test_a_planted_circle_on_one_floor_is_named(wings: Any) -> None:
    changed = planted(wings, "geometry", "volume")
    assert "a circle of imports: geometry -> volume -> geometry" in changed.faults()
    assert changed.upwards == []
    assert "geometry" in wings.Picture(changed).svg()


def test_an_import_of_the_public_face_counts(plan: Any) -> None:
    assert ("widgets", "training") in plan.imports


def test_an_arrow_that_follows_from_others_is_left_out(wings: Any) -> None:
    three = wings.Plan({"": [["a"], ["b"], ["c"]]}, {"a": 1, "b": 1, "c": 1}, {("c", "b"), ("b", "a"), ("c", "a")})
    assert three.drawn == [("b", "a"), ("c", "b")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = [path.rstrip("/") for path in PATH.findall(page.read_text(encoding="utf-8"))]
    inside = {path.as_posix() for path in PACKAGE.rglob("*")}
    missing = [name for name in named if not (ROOT / name).exists() and not any(p.endswith(f"/{name}") for p in inside)]
    assert named
    assert missing == []


def rows_of_changes() -> list[tuple[str, str, str]]:
    """(what, files, names) of the table of architecture.md that says where to change what."""
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| look for |\n")[2]
    rows = table.partition("\n\n")[0].splitlines()[1:]
    return [(cells[0], cells[1], cells[2]) for row in rows if (cells := row.strip("| ").split(" | "))]


@pytest.mark.parametrize(("what", "files", "names"), rows_of_changes(), ids=[row[0] for row in rows_of_changes()])
def test_what_to_look_for_is_defined_there(what: str, files: str, names: str) -> None:
    places = [PACKAGE / path for path in PATH.findall(files)]
    modules = [m for place in places for m in (place.rglob("*.py") if place.is_dir() else [place])]
    source = "\n".join(module.read_text(encoding="utf-8") for module in modules)
    wanted = re.findall(r"`(\w+)`", names)
    missing = [n for n in wanted if not re.search(rf"^\s*(?:def|class) {n}\b|^{n}(?: =|:)", source, re.MULTILINE)]
    assert wanted, what
    assert missing == []
