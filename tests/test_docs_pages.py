"""The pages of the docs are current, lead to what exists, and name messages that the program has."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import npe2
import pytest

from napari_medseg.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
MESSAGES = re.compile(r"^\| `(?P<message>[^`]+)`(?: \([^)]*\))? \|", re.MULTILINE)
OTHERS = {"No module named 'napari'", 'could not load the Qt platform plugin "xcb"', "CUDA out of memory"}
OTHERS |= {"command not found: napari-medseg", "needs Python 3.11 or newer", "ssh -X"}
"""What the page explains and other programs say."""


@pytest.fixture(scope="module")
def generate() -> Iterator[Any]:
    """The script docs/generate.py as a module, with the ones beside it at hand."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        spec.loader.exec_module(module)
        yield module


def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse of 3.13 prints help in another form")
def test_the_generated_parts_are_current(generate: Any) -> None:
    pages = generate.pages()
    assert {page.name for page in pages} >= {"api.md", "command-line.md", "hardware.md", "measure.md", "measuring.md"}
    stale = [page.name for page in pages if generate.written(page) != page.read_text(encoding="utf-8")]
    assert stale == [], "run python docs/generate.py"


def test_a_stale_part_and_an_empty_one_are_written_anew(generate: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- presets -->\nold\n<!-- end -->\n\nkept\n\n<!-- presets -->\n", encoding="utf-8")
    written = generate.written(page)
    assert written.count("| `lits` |") == 2
    assert "kept" in written
    assert "old" not in written
    page.write_text(written, encoding="utf-8")
    assert generate.written(page) == written


def test_no_empty_table_is_written(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- filled -->\n\n| a |\n|---|\n| 1 |\n\n<!-- end -->\n", encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    monkeypatch.setitem(generate.PARTS, "filled", lambda *_: generate.table([("a",)]))
    monkeypatch.setattr(generate, "pages", lambda: [page])
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert generate.main() == 1
    assert page.read_text(encoding="utf-8") == before
    assert "page.md: the table of filled would have no row" in capsys.readouterr().err


def test_a_picture_appears_with_its_file(generate: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- picture: a.png | A panel -->\n<!-- end -->\n", encoding="utf-8")
    assert "![" not in generate.written(page)
    (tmp_path / "a.png").touch()
    assert "![A panel](a.png)" in generate.written(page)


def test_the_first_model_learns_the_scan_that_was_corrected() -> None:
    page = (DOCS / "guide" / "first-model.md").read_text(encoding="utf-8")
    commands = re.findall(r"^napari-medseg (train .*)$", page, re.MULTILINE)
    first, again = (build_parser().parse_args(command.split()) for command in commands)
    assert (first.val, again.val) == (0.25, 0), "the corrected scan is the last by name, and the last validate"


def test_the_readme_links_are_whole_and_lead_into_the_repository() -> None:
    repository = project()["urls"]["Repository"]
    targets = LINK.findall(README)
    assert [t for t in targets if not t.startswith("https://")] == [], "package indexes show no relative links"
    paths = [t.split("/main/", 1)[1] for t in targets if t.startswith(repository)]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_urls_of_the_project_are_of_one_repository() -> None:
    urls = project()["urls"]
    assert set(urls) == {"Repository", "Documentation", "Issues", "Changelog"}
    assert all(url.startswith(urls["Repository"]) for url in urls.values())


def test_the_start_page_leads_to_every_page_of_the_guide_by_a_card() -> None:
    cards = (DOCS / "index.md").read_text(encoding="utf-8").partition('<div class="grid cards" markdown>')[2]
    targets = set(LINK.findall(cards.partition("</div>")[0]))
    assert targets >= {
        "tutorial.md",
        *(f"guide/{n}.md" for n in ("first-model", "open", "segment", "train", "measure")),
    }
    assert [t for t in targets if not (DOCS / t).is_file()] == []


def test_every_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    texts = [text for path in (ROOT / "src").rglob("*.py") for text in texts_of(path)]
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = [m for m in MESSAGES.findall(page) if m not in OTHERS]
    assert len(messages) > 30
    pieces = {piece.strip() for message in messages for piece in message.split("...") if piece.strip()}
    assert sorted(piece for piece in pieces if not any(piece in text for text in texts)) == []


def texts_of(path: Path) -> list[str]:
    """The texts in a module; those of an f-string are its constant pieces."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_manifest_has_an_icon_that_the_package_ships() -> None:
    manifest = npe2.PluginManifest.from_file(ROOT / "src" / "napari_medseg" / "napari.yaml")
    assert manifest.icon is not None
    package, _, name = str(manifest.icon).partition(":")
    png = (ROOT / "src" / package / name).read_bytes()
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    assert png.startswith(b"\x89PNG")
    assert width == height >= 128


def test_the_moving_picture_is_small() -> None:
    assert (DOCS / "images" / "moving.gif").stat().st_size <= 2 * 2**20
