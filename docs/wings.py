"""Draw the ground plan from the imports of the source: `python docs/wings.py` writes docs/images/wings.svg.

The boxes are the wings, their floors come from the contracts in pyproject.toml, and the arrows are imports. An arrow is
left out where other arrows lead to the same wing. An import that runs upwards is drawn in red. After such an import, or
a circle of imports, the exit status is 1 and stderr names it.
"""

from __future__ import annotations

import html
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "wings.svg"
PACKAGE = "napari_medseg"
STUB = ROOT / "src" / PACKAGE / "__init__.pyi"

Arrow = tuple[str, str]
"""(importer, imported): two wings of the same folder, such as ("training", "inference") or ("io.dicom", "io.disk")."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """The wings, where they may lie, and what they import. The folder "" is the package itself."""

    floors: Mapping[str, Sequence[Sequence[str]]]
    """{folder: the names of its wings, floor by floor from the bottom}, as the contracts have them."""
    modules: Mapping[str, int]
    """{wing: its modules, faces not counted}."""
    imports: frozenset[Arrow]

    def wings(self, folder: str) -> list[list[str]]:
        """The wings of a folder by their full names, floor by floor from the bottom."""
        return [[f"{folder}.{name}".lstrip(".") for name in floor] for floor in self.floors[folder]]

    def floor(self, wing: str) -> int:
        """The floor of a wing in its folder, counted from 0 at the bottom. KeyError for a wing that has none."""
        folder, _, name = wing.rpartition(".")
        for number, names in enumerate(self.floors[folder]):
            if name in names:
                return number
        raise KeyError(f"{wing} lies in none of the layers of pyproject.toml")

    @property
    def upwards(self) -> list[Arrow]:
        """The imports that run from a floor to a higher one."""
        return sorted((a, b) for a, b in self.imports if self.floor(a) < self.floor(b))

    @property
    def circles(self) -> list[str]:
        """The wings that import themselves by way of others, each with its way."""
        return [" -> ".join(way) for wing in sorted(self.modules) if (way := _way(self.imports, wing, wing))]

    @property
    def drawn(self) -> list[Arrow]:
        """The imports that run downwards or sideways, without those that follow from others."""
        down = self.imports - set(self.upwards)
        return sorted((a, b) for a, b in down if not _way(down - {(a, b)}, a, b))

    def listing(self) -> list[str]:
        """What the picture shows, line by line: the test compares it with the imports."""
        boxes = [
            f"floor {number}: " + ", ".join(f"{wing} {self.modules[wing]}" for wing in wings)
            for folder in sorted(self.floors)
            for number, wings in enumerate(self.wings(folder), start=1)
        ]
        return [*boxes, *(f"{a} -> {b}" for a, b in self.drawn), *(f"UPWARDS {a} -> {b}" for a, b in self.upwards)]

    def faults(self) -> list[str]:
        """A line for each import upwards and each circle."""
        up = [f"{a} imports {b}, which lies on a higher floor" for a, b in self.upwards]
        return [*up, *(f"a circle of imports: {way}" for way in self.circles)]


def _way(imports: Iterable[Arrow], start: str, end: str) -> list[str]:
    """The wings on the shortest way of at least one import from start to end; empty where there is none."""
    following = defaultdict(list)
    for a, b in sorted(imports):
        following[a].append(b)
    ways, seen = [[start]], set()
    for way in ways:
        for wing in following[way[-1]]:
            if wing == end:
                return [*way, end]
            if wing not in seen:
                seen.add(wing)
                ways.append([*way, wing])
    return []


def read_plan() -> Plan:
    """The plan of the source as it is."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    return plan_of(graph, contracts(ROOT / "pyproject.toml"), STUB.read_text(encoding="utf-8"))


def contracts(pyproject: Path) -> dict[str, list[list[str]]]:
    """{folder: its wings, floor by floor from the bottom} of the contracts of layers."""
    rules = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return {
        container.removeprefix(PACKAGE).lstrip("."): [re.findall(r"\w+", layer) for layer in reversed(rule["layers"])]
        for rule in rules
        if rule["type"] == "layers"
        for container in rule["containers"]
    }


def plan_of(graph: grimp.ImportGraph, floors: Mapping[str, Sequence[Sequence[str]]], stub: str) -> Plan:
    """The plan of a graph of imports. The public face loads lazily: what imports it imports what its stub names."""
    modules: Counter[str] = Counter()
    imports: set[Arrow] = set()
    behind_the_face = [f"{PACKAGE}.{name}" for name in sorted(set(re.findall(r"^from \.(\w+)", stub, re.MULTILINE)))]
    for importer in graph.modules:
        if not graph.find_children(importer):
            modules.update(_wings_of(importer, floors))
        for imported in graph.find_modules_directly_imported_by(importer):
            for target in behind_the_face if imported == PACKAGE else [imported]:
                imports.update(_arrow(importer, target, floors))
    return Plan(floors, modules, frozenset(imports))


def _wings_of(module: str, floors: Mapping[str, object]) -> Iterator[str]:
    """The wing that a module lies in, and the wing inside that one, where there is one."""
    parts = module.split(".")[1:]
    for depth in range(len(parts)):
        if ".".join(parts[:depth]) in floors:
            yield ".".join(parts[: depth + 1])


def _arrow(importer: str, imported: str, floors: Mapping[str, object]) -> Iterator[Arrow]:
    """The arrow that an import is, unless it stays inside a wing or concerns a face."""
    a, b = importer.split(".")[1:], imported.split(".")[1:]
    common = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if ".".join(a[:common]) in floors and common < min(len(a), len(b)):
        yield ".".join(a[: common + 1]), ".".join(b[: common + 1])


# The picture. All lengths are in pixels; y grows downwards, as in SVG.

MARGIN, GAP_X, GAP_Y = 56, 22, 44
CHIP_HEIGHT, HEAD_HEIGHT = 22, 26
CHARACTER, SMALL = 7.6, 6.4
"""Widths of a character in the two sizes of text."""
PASSAGE = 8
"""Width that an arrow takes where it passes a row."""
SWEEPS = 200
"""How often the rows are put in order."""
STRAIGHT = 3
"""How much more an arrow is pulled straight between two passages than towards its ends."""
CAPTION = "Each box is a wing, with its number of modules. An arrow runs from what imports to what is imported."
STYLE = """
text { font-family: Helvetica, Arial, sans-serif; fill: #1c2733; text-anchor: middle }
.name { font-size: 14px; font-weight: bold } .small { font-size: 11.5px } .floor { font-size: 12px; fill: #5b6b7b }
.wing { fill: #ffffff; stroke: #41576d; stroke-width: 1.4 } .inner { fill: #dcebf7 }
.import { fill: none; stroke: #41576d; stroke-width: 1.2 } .upwards { fill: none; stroke: #d00000; stroke-width: 3 }
"""


@dataclass
class Box:
    """Something in a row: a wing, or (without a name) the place where an arrow passes."""

    name: str
    width: float
    height: float
    x: float = 0.0
    """Of its middle."""
    top: float = 0.0
    row_height: float = 0.0
    """Of the highest box beside it."""

    @property
    def below(self) -> float:
        """Where its row ends and arrows may turn."""
        return self.top + self.row_height


class Picture:
    """Boxes in rows, the lowest floor last, and the arrows between them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.floors = [_rows(plan, floor) for floor in plan.wings("")]
        self.rows = [[self._box(wing) for wing in row] for rows in reversed(self.floors) for row in reversed(rows)]
        self.boxes = {box.name: box for row in self.rows for box in row}
        self.ways = [self._passed(arrow) for arrow in plan.drawn if "." not in arrow[0]]
        self._arrange()
        self.width = 2 * MARGIN + max(box.x + box.width / 2 for row in self.rows for box in row)
        self._stack()

    def _chips(self, wing: str) -> list[list[str]]:
        """The wings inside a wing as they are written, floor by floor from the top."""
        if wing not in self.plan.floors:
            return []
        floors = reversed(self.plan.wings(wing))
        return [[f"{_last(inner)} {_count(self.plan, inner)}".strip() for inner in floor] for floor in floors]

    def _box(self, wing: str) -> Box:
        chips = self._chips(wing)
        widths = [sum(_chip_width(text) + 6 for text in row) + 8 for row in chips]
        title = f"{wing} {_count(self.plan, wing)}"
        return Box(wing, max([CHARACTER * len(title) + 22, *widths]), HEAD_HEIGHT + len(chips) * CHIP_HEIGHT)

    def _passed(self, arrow: Arrow) -> list[Box]:
        """The boxes that an arrow connects, with a place to pass in each row between them."""
        first, last = (next(n for n, row in enumerate(self.rows) if self.boxes[w] in row) for w in arrow)
        passages = [Box("", PASSAGE, 0) for _ in range(first + 1, last)]
        for number, passage in enumerate(passages, start=first + 1):
            self.rows[number].append(passage)
        return [self.boxes[arrow[0]], *passages, self.boxes[arrow[1]]]

    def _arrange(self) -> None:
        """Order the rows so that few arrows cross, then move each box towards what it is connected with."""
        near: dict[int, list[Box]] = defaultdict(list)
        for way in self.ways:
            for upper, lower in pairwise(way):
                pull = 1 if upper.name or lower.name else STRAIGHT
                near[id(upper)] += [lower] * pull
                near[id(lower)] += [upper] * pull
        for row in self.rows:
            _place(row, [0.0 for _ in row])
        for sweep in range(2 * SWEEPS):
            for row in self.rows if sweep % 2 else reversed(self.rows):
                wanted = {id(b): sum(n.x for n in near[id(b)]) / max(1, len(near[id(b)])) for b in row}
                if sweep < SWEEPS:
                    row.sort(key=lambda box: wanted[id(box)])
                _place(row, [wanted[id(box)] for box in row])
        left = min(box.x - box.width / 2 for row in self.rows for box in row)
        for row in self.rows:
            for box in row:
                box.x += MARGIN - left

    def _stack(self) -> None:
        """Put the rows below each other."""
        self.bands: list[tuple[int, float, float]] = []
        y, row_number = 30.0, 0
        for floor in range(len(self.floors), 0, -1):
            top = y
            for _ in self.floors[floor - 1]:
                row = self.rows[row_number]
                height = max(box.height for box in row)
                for box in row:
                    box.top, box.row_height = y + GAP_Y / 2, height
                y, row_number = y + height + GAP_Y, row_number + 1
            self.bands.append((floor, top, y))
        self.height = y

    def svg(self) -> str:
        """The picture, with what it shows as text in its description."""
        listing = html.escape("\n".join(self.plan.listing()))
        body = [*self._draw_bands(), *self._draw_arrows(), *self._draw_boxes(), *self._draw_upwards()]
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height + 10:.0f}">',
                "<title>The wings of napari-medseg: an arrow points from what imports to what is imported</title>",
                f"<desc>\n{listing}\n</desc>",
                f"<style>{STYLE}</style>",
                '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
                '<path d="M0,0 L9,4 L0,8 z" fill="#41576d"/></marker></defs>',
                *body,
                "</svg>\n",
            ]
        )

    def _draw_bands(self) -> Iterator[str]:
        yield f'<rect width="{self.width:.0f}" height="{self.height + 10:.0f}" fill="#ffffff"/>'
        yield _text(self.width / 2, 20, "small", CAPTION)
        for floor, top, bottom in self.bands:
            fill = "#eef3f8" if floor % 2 else "#f8fafc"
            yield f'<rect y="{top:.0f}" width="{self.width:.0f}" height="{bottom - top:.0f}" fill="{fill}"/>'
            yield _text(18, (top + bottom) / 2 + 4, "floor", str(floor))

    def _draw_arrows(self) -> Iterator[str]:
        starts, ends = (self._ports(first) for first in (True, False))
        for number, way in enumerate(self.ways):
            points: list[Point] = [(starts[number], way[0].top + way[0].height), (starts[number], way[0].below)]
            for passage in way[1:-1]:
                points += [(passage.x, passage.top), (passage.x, passage.below)]
            points.append((ends[number], way[-1].top - 1))
            yield f'<path class="import" marker-end="url(#head)" d="{_curve(points)}"/>'

    def _ports(self, first: bool) -> list[float]:
        """Where each arrow leaves its first box, or reaches its last: side by side along the edge."""
        found = [0.0] * len(self.ways)
        for box in self.boxes.values():
            here = [n for n, way in enumerate(self.ways) if way[0 if first else -1] is box]
            here.sort(key=lambda n: self.ways[n][1 if first else -2].x)
            for place, number in enumerate(here, start=1):
                found[number] = box.x - box.width / 2 + box.width * place / (len(here) + 1)
        return found

    def _draw_boxes(self) -> Iterator[str]:
        for box in self.boxes.values():
            yield _rectangle("wing", box.x, box.top, box.width, box.height)
            count = _count(self.plan, box.name)
            yield _text(box.x, box.top + 18, "name", f"{box.name} {count}".strip())
            for text, (x, y) in self._chip_places(box):
                yield _rectangle("wing inner", x, y, _chip_width(text), CHIP_HEIGHT - 5)
                yield _text(x, y + 12.5, "small", text)

    def _chip_places(self, box: Box) -> Iterator[tuple[str, Point]]:
        """The wings inside a box, as they are written, and the middles of their upper edges."""
        for row, texts in enumerate(self._chips(box.name)):
            x = box.x - sum(_chip_width(text) + 6 for text in texts) / 2
            for text in texts:
                yield text, (x + 3 + _chip_width(text) / 2, box.top + HEAD_HEIGHT + row * CHIP_HEIGHT)
                x += _chip_width(text) + 6

    def _draw_upwards(self) -> Iterator[str]:
        for a, b in self.plan.upwards:
            (x0, y0), (x1, y1) = self._middle(a), self._middle(b)
            yield f'<path class="upwards" d="M{x0:.0f},{y0:.0f} L{x1:.0f},{y1:.0f}"/>'

    def _middle(self, wing: str) -> Point:
        """The middle of a wing's upper edge."""
        box = self.boxes[wing.partition(".")[0]]
        if "." not in wing:
            return box.x, box.top
        return next(place for text, place in self._chip_places(box) if text.split()[0] == _last(wing))


def _rows(plan: Plan, floor: Sequence[str]) -> list[list[str]]:
    """A floor in rows from the bottom: what imports something of its own floor stands above it."""
    rows: list[list[str]] = []
    left = list(floor)
    while left:
        above = {a for a, b in plan.imports if a in left and b in left}
        ready = [wing for wing in left if wing not in above] or left  # a circle stands in one row
        rows.append(ready)
        left = [wing for wing in left if wing not in ready]
    return rows


def _place(row: list[Box], wanted: Sequence[float]) -> None:
    """Move the boxes of a row, in their order, as near to where they are wanted as their widths allow.

    Isotonic regression: neighbours that would overlap are moved together, by the mean of what they want.
    """
    offsets, offset = [], 0.0
    for left, box in zip([None, *row], row, strict=False):
        offset += (left.width / 2 + GAP_X + box.width / 2) if left else 0.0
        offsets.append(offset)
    groups: list[tuple[float, int]] = []
    for target, offset in zip(wanted, offsets, strict=True):
        groups.append((target - offset, 1))
        while len(groups) > 1 and groups[-2][0] >= groups[-1][0]:
            (a, n), (b, m) = groups[-2:]
            groups[-2:] = [((a * n + b * m) / (n + m), n + m)]
    starts = [mean for mean, size in groups for _ in range(size)]
    for box, start, offset in zip(row, starts, offsets, strict=True):
        box.x = start + offset


def _curve(points: Sequence[Point]) -> str:
    """A way through points that leaves and reaches each of them vertically."""
    (x, y), *rest = points
    path = f"M{x:.1f},{y:.1f}"
    for x1, y1 in rest:
        middle = (y + y1) / 2
        path += f" C{x:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}"
        y, x = y1, x1
    return path


def _rectangle(kind: str, x: float, top: float, width: float, height: float) -> str:
    place = f'x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" rx="4" {place}/>'


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'


def _chip_width(text: str) -> float:
    return SMALL * len(text) + 12


def _count(plan: Plan, wing: str) -> str:
    """The number of modules of a wing, as it is written; empty for a wing that is one file."""
    is_file = (ROOT / "src" / PACKAGE / f"{wing.replace('.', '/')}.py").is_file()
    return "" if is_file else str(plan.modules[wing])


def _last(wing: str) -> str:
    return wing.rpartition(".")[2]


def main() -> int:
    plan = read_plan()
    PICTURE.write_text(Picture(plan).svg(), encoding="utf-8")
    for fault in plan.faults():
        print(fault, file=sys.stderr)
    return 1 if plan.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
