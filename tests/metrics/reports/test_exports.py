"""Scores and tables as files: complete, defined, and harmless whatever names they hold."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from napari_medseg import Grid, Scores, Segmentation, Volume, __version__, evaluate, io
from napari_medseg.config import InstancesConfig, RatersConfig
from napari_medseg.errors import FileError, GridMismatchError, InputError
from napari_medseg.metrics import combine
from napari_medseg.metrics.pairwise.columns import Column
from napari_medseg.metrics.pairwise.instances import InstanceRow, Pair, match_instances
from napari_medseg.metrics.reports.exports import write_scores
from napari_medseg.metrics.reports.html import html_document
from napari_medseg.metrics.reports.latex import escaped, latex_document
from napari_medseg.metrics.reports.slices import Picture, worst_slices
from napari_medseg.metrics.study.settings import Setting, instances_settings, raters_settings
from napari_medseg.metrics.study.study import FailedRow
from napari_medseg.metrics.study.tables import Table, scores_table, table_of

HOSTILE = {
    1: "<script>alert(1)</script>",
    2: 'a" onerror="alert(1)',
    3: r"\input{/etc/passwd} $\frac{1}$ 100 % #1 ~ ^ _",
    4: "=HYPERLINK(A1)",
    5: "two\nlines\x00 \udcff肝臓",
}


def pair() -> tuple[Segmentation, Segmentation]:
    """Five labels with hostile names; one missed, the others a voxel short."""
    reference = np.zeros((4, 12, 30), np.uint8)
    for label in HOSTILE:
        reference[1:3, 3:9, 6 * label - 5 : 6 * label - 1] = label
    prediction = reference.copy()
    prediction[:, 3] = 0
    prediction[prediction == 5] = 0
    grid = Grid.from_spacing(reference.shape, (3.0, 1.0, 1.0))
    return Segmentation(prediction, grid), Segmentation(reference, grid, HOSTILE)


@pytest.fixture
def single() -> Scores:
    prediction, reference = pair()
    return evaluate(prediction=prediction, reference=reference)


@pytest.fixture
def no_rows(single: Scores) -> Scores:
    """Scores whose page has no plots, which take most of its time."""
    return replace(single, rows=())


@pytest.fixture
def several(single: Scores) -> Scores:
    other = replace(single, rows=tuple(replace(row, dice=row.dice / 2) for row in single.rows))
    return combine([("<b>case</b>", single), ("-1+cmd|' /C calc'!A0", other)])


@pytest.fixture
def tables() -> list[Table]:
    prediction, reference = pair()
    found = match_instances(prediction=prediction, reference=reference)
    return [
        table_of(found.rows, InstanceRow, name="instances", title="Instances & more"),
        table_of(found.pairs, Pair, name="pairs", title="Pairs"),
    ]


class Page(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        yield from (attributes for name, attributes in self.tags if name == tag)


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_table_knows_what_its_columns_mean(tables: list[Table]) -> None:
    instances, pairs = tables
    assert list(instances.columns)[:2] == ["label", "name"], "no case, no column for it"
    assert "Kirillov" in instances.definitions["pq"]
    assert pairs.to_frame()["state"].tolist() == ["found"] * 4 + ["missed"]


def test_a_table_of_several_cases_names_them() -> None:
    prediction, reference = pair()
    rows = [replace(row, case="a") for row in match_instances(prediction=prediction, reference=reference).rows]
    assert "case" in table_of(rows, InstanceRow, name="instances", title="Instances").columns


def test_csv_of_several_tables_lie_beside_each_other(tmp_path: Path, several: Scores, tables: list[Table]) -> None:
    written = write_scores(tmp_path / "scores.csv", several, tables)
    assert [path.name for path in written] == ["scores.csv", "scores_instances.csv", "scores_pairs.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    scores, pairs = pd.read_csv(written[0]), pd.read_csv(written[2])
    assert scores["dice"].tolist() == several.to_frame()["dice"].tolist()
    assert pairs["iou"].tolist() == tables[1].to_frame()["iou"].tolist()


def test_tables_that_an_earlier_csv_had_are_removed(tmp_path: Path, several: Scores, tables: list[Table]) -> None:
    failed = table_of([FailedRow(case="a", reason="b")], FailedRow, name="failed", title="Failed")
    compared = replace(scores_table(several), name="compared")
    path = tmp_path / "scores.csv"
    write_scores(path, several, [*tell(tables), failed, compared])
    (written,) = write_scores(path, several)
    assert [written] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["scores_failed.csv", "scores_notes.csv", "other_failed.csv", "scores_pairs.csv", "scores_failed.txt"],
    ids=["a_column_more", "no_table", "another_export", "another_table", "another_suffix"],
)
def test_a_file_that_no_export_wrote_stays(tmp_path: Path, single: Scores, name: str) -> None:
    mine = tmp_path / name
    mine.write_text("case,reason,mine\nc1,damaged,repaired\n" if name == "scores_failed.csv" else "case,reason\n")
    (tmp_path / "scores_volumes.csv").mkdir()
    (tmp_path / "scores_shape_reference.csv").write_bytes(b"\xff\x00" * 5000)
    before = {*tmp_path.iterdir(), tmp_path / "scores.csv"}
    write_scores(tmp_path / "scores.csv", single)
    assert set(tmp_path.iterdir()) == before


def test_a_folder_in_the_way_of_a_table_leaves_all_as_it_was(
    tmp_path: Path, single: Scores, tables: list[Table]
) -> None:
    (tmp_path / "scores_pairs.csv").mkdir()
    with pytest.raises(FileError, match=r"scores_pairs\.csv: a folder of this name is there"):
        write_scores(tmp_path / "scores.csv", single, tables)
    assert [path.name for path in tmp_path.iterdir()] == ["scores_pairs.csv"]


def tell(tables: list[Table]) -> list[Table]:
    """The tables, the first of which says how it was made."""
    return [replace(tables[0], settings=instances_settings(InstancesConfig(connectivity=18))), *tables[1:]]


STAPLE = raters_settings(RatersConfig(consensus="staple"))


def test_every_line_of_csv_says_how_it_was_made(tmp_path: Path, several: Scores, tables: list[Table]) -> None:
    written = write_scores(tmp_path / "scores.csv", several, tell(tables), settings=STAPLE)
    scores, instances, pairs = (pd.read_csv(path) for path in written)
    assert [*scores.columns] == [*several.columns, "preset", "nsd_tolerance_mm", "rvd_unit", "consensus"]
    assert scores.groupby("preset")["consensus"].unique().to_dict() == {"survey": ["staple"]}
    assert [*instances.columns[-3:]] == ["instances", "connectivity", "iou_thresholds"]
    assert instances["connectivity"].eq(18).all()
    assert [*pairs.columns] == [*tables[1].columns]


def test_json_says_how_each_table_was_made(tmp_path: Path, single: Scores, tables: list[Table]) -> None:
    (path,) = write_scores(tmp_path / "scores.json", single, tell(tables), settings=STAPLE)
    content = json.loads(path.read_text())
    assert content["napari_medseg"] == __version__
    assert content["settings"] == {
        "preset": "survey",
        "nsd_tolerance_mm": 1.0,
        "rvd_unit": "fraction",
        "consensus": "staple",
    }
    settings = {name: table["settings"] for name, table in content["tables"].items()}
    assert settings == {
        "instances": {"instances": "components", "connectivity": 18, "iou_thresholds": "0.5"},
        "pairs": {},
    }


def test_a_page_says_how_each_table_was_made(tmp_path: Path, no_rows: Scores, tables: list[Table]) -> None:
    (path,) = write_scores(tmp_path / "scores.html", no_rows, tell(tables), settings=STAPLE)
    text = page(path).text
    assert "preset survey, NSD at 1 mm, against the consensus of the readers by STAPLE" in text
    assert "Instances & more\ncomponents of 18-neighbours, pairs above IoU 0.5" in text


def test_captions_in_latex_say_how_the_numbers_were_made(single: Scores, tables: list[Table]) -> None:
    text = latex_document(single, tell(tables), STAPLE)
    assert rf"\caption{{Scores (preset survey, NSD at 1 mm, {STAPLE[0].text})" in text
    assert r"\caption{Instances \& more (components of 18-neighbours, pairs above IoU 0.5)" in text


def test_percent_is_told_where_a_preset_has_it(tmp_path: Path) -> None:
    prediction, reference = pair()
    scores = evaluate(prediction=prediction, reference=reference, preset="chaos")
    (csv,) = write_scores(tmp_path / "scores.csv", scores)
    (html,) = write_scores(tmp_path / "scores.html", replace(scores, rows=()))
    frame = pd.read_csv(csv)
    assert frame["rvd_unit"].eq("percent").all()
    assert frame["rvd"][0] == pytest.approx(100 / 6), "a row of six is missing"
    assert "RVD (%)" in page(html).text
    assert r"RVD (\%)" in latex_document(scores)


def test_no_name_is_a_formula_in_a_spreadsheet(tmp_path: Path, several: Scores) -> None:
    (path,) = write_scores(tmp_path / "scores.csv", several)
    frame = pd.read_csv(path)
    assert not [v for v in (*frame["name"], *frame["case"]) if v[0] in "=+-@"]
    assert "'=HYPERLINK(A1)" in set(frame["name"])


def test_json_holds_every_table_with_its_definitions(tmp_path: Path, single: Scores, tables: list[Table]) -> None:
    (path,) = write_scores(tmp_path / "scores.json", single, tables)
    content = json.loads(path.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    single.to_json(path)
    alone = json.loads(path.read_text())
    assert {key: content[key] for key in alone} == alone
    assert list(content["tables"]) == ["instances", "pairs"]
    assert content["tables"]["instances"]["definitions"]["sq"].startswith("Segmentation quality")
    assert [row["sq"] for row in content["tables"]["instances"]["rows"]][-1] == "nan"


def test_html_is_one_file_that_runs_and_loads_nothing(tmp_path: Path, several: Scores, tables: list[Table]) -> None:
    prediction, reference = pair()
    pictures = [replace(p, case="<i>") for p in worst_slices(prediction=prediction, reference=reference)]
    (path,) = write_scores(tmp_path / "scores.html", several, tables, pictures)
    shown = page(path)
    assert not {"script", "link", "iframe", "object", "svg", "b", "i"} & {tag for tag, _ in shown.tags}
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert all(str(image["src"]).startswith("data:image/") for image in shown.all("img"))
    policy = next(a["content"] for a in shown.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    for name in ("<script>alert(1)</script>", 'a" onerror="alert(1)', "<b>case</b>", "two lines   肝臓"):
        assert name in shown.text


BREAKING_OUT = (
    "</td></tr></table><h1>owned</h1>"
    "'\"><img src=x onerror=alert(1)>"
    "</style><script>alert(1)</script>"
    "{{ 7 * 7 }}{% for i in scores %}{# <b> #}"
)


def test_no_text_changes_the_structure_of_the_page(single: Scores) -> None:
    """Whatever a name, case, title, heading, definition, setting or caption holds, the page has the same elements."""

    def made_with(name: str) -> Page:
        row = replace(single.rows[0], name=name)
        meaning = Column(title=name, unit="", formula=name)
        settings = (Setting(name, name, name),)
        table = Table(name=name, title=name, columns={name: meaning}, rows=[{name: name}], settings=settings)
        picture = Picture(case=name, label=1, name=name, caption=name, png=b"")
        scores = combine([(name, replace(single, rows=(row,)))])
        return Page(html_document(scores, [table], [picture], settings))

    def structure(of: Page) -> list[tuple[str, set[str]]]:
        return [(tag, set(attributes)) for tag, attributes in of.tags]

    plain, hostile = made_with("plain"), made_with(BREAKING_OUT)
    assert structure(hostile) == structure(plain)
    assert hostile.text.count(BREAKING_OUT) == plain.text.count("plain") > 5, "and shows the text as it is"


def test_headings_in_html_explain_themselves(tmp_path: Path, no_rows: Scores, tables: list[Table]) -> None:
    (path,) = write_scores(tmp_path / "scores.html", no_rows, tables)
    titles = [heading["title"] for heading in page(path).all("th")]
    assert "2 |A∩B| / (|A| + |B|)" in titles
    assert all(titles)
    assert len(titles) == len(no_rows.columns) + sum(len(table.columns) for table in tables)


def test_plots_and_pictures_in_html_are_whole(tmp_path: Path, single: Scores, several: Scores) -> None:
    prediction, reference = pair()
    pictures = list(worst_slices(prediction=prediction, reference=reference, labels=[1]))
    two = replace(several, rows=tuple(row for row in several.rows if row.label < 3))
    for scores, volumes in ((single, 0), (two, 2)):
        (path,) = write_scores(tmp_path / "scores.html", scores, pictures=pictures)
        images = [str(image["src"]).partition(",") for image in page(path).all("img")]
        plots = [base64.b64decode(content) for kind, _, content in images if "svg" in kind]
        assert len(plots) == 4 + volumes, "four metrics, and each label's volumes over cases"
        assert all(ElementTree.fromstring(plot).tag.endswith("svg") for plot in plots)
        slices = [base64.b64decode(content) for kind, _, content in images if "png" in kind]
        assert slices == [pictures[0].png]


def test_one_label_with_a_long_name_leaves_room_for_its_plot(tmp_path: Path, single: Scores) -> None:
    long = replace(single, rows=(replace(single.rows[0], name="W" * 500),))
    (path,) = write_scores(tmp_path / "scores.html", long)
    assert len(list(page(path).all("img"))) == 4
    assert "W" * 500 in page(path).text, "the table has it whole"


def test_the_same_scores_give_the_same_file(tmp_path: Path, single: Scores) -> None:
    one = single.of_label(1)
    paths = [write_scores(tmp_path / name, one)[0] for name in ("a.html", "b.html")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_no_label_at_all_is_a_report_too(tmp_path: Path) -> None:
    background = Segmentation(np.zeros((2, 2, 2), np.uint8), Grid.from_spacing((2, 2, 2), (1.0, 1.0, 1.0)))
    nothing = evaluate(prediction=background, reference=background)
    for suffix in (".csv", ".json", ".tex", ".html"):
        assert write_scores(tmp_path / f"scores{suffix}", nothing)[0].stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("~^$#", r"\textasciitilde{}\textasciicircum{}\$\#"),
        ("<b>|", r"\textless{}b\textgreater{}\textbar{}"),
        ("two\nlines", "two lines"),
    ],
    ids=["plain", "command", "signs", "brackets", "lines"],
)
def test_latex_sets_a_name_as_it_is(text: str, expected: str) -> None:
    assert escaped(text) == expected


def cells_of(text: str, name: str) -> list[str]:
    """Of the rows that begin with the name, in all tables."""
    rows = [line.removesuffix(r" \\") for line in text.splitlines() if line.startswith(name)]
    return [cell for row in rows for cell in row.split(" & ")]


def test_latex_of_one_case_has_its_values(single: Scores, tables: list[Table]) -> None:
    text = latex_document(single, tables)
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == text.count(r"\bottomrule")
    assert f"{single.rows[3].dice:.3f}" in cells_of(text, "=HYPERLINK")
    assert r"$\infty$" in text
    assert r"Instances \& more" in text
    # Nothing but our own commands is left of any name.
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    commands = set(re.findall(r"\\([a-z]+)", body))
    assert commands <= {
        *("begin", "end", "caption", "toprule", "midrule", "bottomrule", "endfirsthead", "endhead"),
        *("infty", "pm", "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"),
    }
    assert "% Dice: 2 |A∩B| / (|A| + |B|)" in text.splitlines(), "what the columns mean is told"


def test_latex_of_several_cases_has_mean_and_deviation(several: Scores) -> None:
    text = latex_document(several)
    dice = [r.dice for r in several.rows if r.label == 4]
    assert rf"{np.mean(dice):.3f} $\pm$ {np.std(dice, ddof=1):.3f}" in cells_of(text, "=HYPERLINK")
    assert "--" in cells_of(text, "two lines"), "no finite distance"


def test_latex_tables_are_no_wider_than_a_page(single: Scores, tables: list[Table]) -> None:
    lines = latex_document(single, tables).splitlines()
    widths = [line.count(" & ") + 1 for line in lines if line.endswith(r" \\") and "caption" not in line]
    assert 3 <= min(widths) <= max(widths) <= 10


def test_another_suffix_is_refused(tmp_path: Path, single: Scores) -> None:
    with pytest.raises(InputError, match=r"scores\.xlsx: scores are written as \.csv, \.json, \.tex or \.html"):
        write_scores(tmp_path / "scores.xlsx", single)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".tex", ".html"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, no_rows: Scores, suffix: str) -> None:
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        write_scores(tmp_path / "nowhere" / f"scores{suffix}", no_rows)


def colours(picture: Picture) -> set[str]:
    """The saturated colours of a picture."""
    from io import BytesIO

    from matplotlib.image import imread

    pixels = (imread(BytesIO(picture.png))[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {f"#{r:02X}{g:02X}{b:02X}" for r, g, b in pixels.tolist() if max(r, g, b) - min(r, g, b) > 100}


def test_pictures_show_both_outlines_and_ring_the_worst_place() -> None:
    prediction, reference = pair()
    image = Volume(np.random.default_rng(0).normal(size=(1, *reference.grid.shape)), reference.grid)
    found = list(worst_slices(prediction=prediction, reference=reference, image=image))
    assert [(p.label, p.name) for p in found] == list(HOSTILE.items())
    assert {"#009E73", "#E69F00", "#D55E00"} <= colours(found[0])
    assert "#E69F00" not in colours(found[4]), "the prediction misses it"
    assert "1.0 mm apart" in found[0].caption
    assert "one of the two is missing" in found[4].caption
    s, p, l = (int(v) for v in re.findall(r"[SPL] (-?\d+)", found[0].caption))  # noqa: E741
    assert reference.data[s // 3, p, l] == 1


def test_labels_that_are_gone_have_no_picture() -> None:
    prediction, reference = pair()
    assert [p.label for p in worst_slices(prediction=prediction, reference=reference, labels=[99, 2, 1])] == [2, 1]
    assert not list(worst_slices(prediction=prediction, reference=reference, labels=[99]))


def test_an_image_of_one_slice_is_shown_as_it_is() -> None:
    """And not along the largest spacing, where it would be a line."""
    from io import BytesIO

    from matplotlib.image import imread

    data = np.zeros((1, 40, 50), np.uint8)
    data[0, 10:30, 10:30] = 1
    one = Segmentation(data, Grid.from_spacing(data.shape, (1.0, 2.0, 1.0)))
    (picture,) = worst_slices(prediction=one, reference=one)
    height, width, _ = imread(BytesIO(picture.png)).shape
    assert 1 < height / width < 2, "40 mm high and 20 mm wide, with as much around on each side"


def test_a_picture_needs_the_image_on_the_same_grid() -> None:
    prediction, reference = pair()
    image = Volume(np.zeros((1, 4, 12, 30)), Grid.from_spacing((4, 12, 30), (3.0, 1.0, 2.0)))
    with pytest.raises(GridMismatchError, match="the image and the segmentation"):
        list(worst_slices(prediction=prediction, reference=reference, image=image))


def test_a_report_on_real_organs(tmp_path: Path, medseg_data: Path) -> None:
    folder = medseg_data / "abdomen_ct"
    prediction, reference = (io.read_segmentation(folder / f"example_seg{end}.nii.gz") for end in ("", "_fast"))
    image = io.read(folder / "example_ct_sm.nii.gz")
    scores = evaluate(prediction=prediction, reference=reference)
    pictures = list(worst_slices(prediction=prediction, reference=reference, image=image, labels=[1, 5]))
    (path,) = write_scores(tmp_path / "organs.html", scores, pictures=pictures)
    assert len(list(page(path).all("tr"))) == len(scores.rows) + 1
    assert path.stat().st_size < 2_000_000
