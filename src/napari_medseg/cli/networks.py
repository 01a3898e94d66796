"""List the networks that can be trained, and the models in the models folder."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from argparse import ArgumentParser, Namespace

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.registry import NetworkSpec

NAME = "networks"
_INDENT = " " * 6


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print a JSON list of the networks.")


def run(args: Namespace) -> None:
    specs = registry.networks().values()
    if args.json:
        terminal.print_result(json.dumps([_facts(spec) for spec in specs], indent=2, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for family in registry.FAMILIES:
        terminal.print_result(f"{family}:")
        for spec in specs:
            if spec.family == family:
                terminal.print_result(_entry(spec, width))
    _say_models()


def _entry(spec: NetworkSpec, width: int | None) -> str:
    """A network in lines no wider than the terminal; in one line where there is none, for `grep` and the like."""
    dims = ", ".join(f"{d}D" for d in spec.dims)
    count = f"{spec.parameters_paper:,}" if spec.parameters_paper else "-"
    facts = f"  {spec.name:<20} {spec.year}  {dims:<6} {count:>11}"
    text = f"{spec.summary}. {spec.reference}"
    if width is None:
        return f"{facts}  {text}"
    lines = textwrap.wrap(text, max(40, width - len(_INDENT)), break_long_words=False, break_on_hyphens=False)
    return "\n".join([facts, *(_INDENT + line for line in lines)])


def _say_models() -> None:
    from napari_medseg.models.file import list_models, models_folder

    models = [path.name for path in list_models()]
    terminal.print_result(f"models in {models_folder()}: {', '.join(models) or 'none'}")


def _facts(spec: NetworkSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "family": spec.family,
        "year": spec.year,
        "dims": list(spec.dims),
        "parameters_paper": spec.parameters_paper,
        "counting": spec.counting,
        "reference": spec.reference,
        "summary": spec.summary,
        "when": spec.when,
        "presets": ["default"] if spec.paper is None else ["default", "paper"],
    }
