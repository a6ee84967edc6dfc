"""Every figure and table of the four texts is reproduced by a file, or there is a reason; and the report says which.

The texts are looked for in the folder that PAPERS_DIR names; without it, what they name is not checked.
"""

import ast
import json
import os
import re
import tomllib
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from helpers.run import paths
from helpers.run.cache import notebook_key
from helpers.run.claims import ClaimError, load_published
from helpers.run.profile import Run
from helpers.run.provenance import write_json
from helpers.run.report import build_report, paper_titles

NOTEBOOKS = sorted({name for name in load_published().query("kind != 'number'")["notebook"] if name})
PLACES = load_published().query("kind != 'number'").set_index("id")


# --- what the notebooks make --------------------------------------------------------------------------------------


def calls(notebook: str) -> list[tuple[str, str, list[str]]]:
    """(figure or table, name of the file, published ids) for every `study.figure` and `study.table` of a notebook."""
    found = []
    path = paths.NOTEBOOKS / f"{notebook}.ipynb"
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("study.figure", "study.table"):
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                if "published" in given:  # the others may take their names from what they compute
                    ids = evaluated(given["published"])
                    ids = [ids] if isinstance(ids, str) else list(ids)
                    found.append((node.func.attr, evaluated(node.args[0]), ids))
    return found


def evaluated(node: ast.expr):
    """A literal, or `tuple(f"..." for letter in "ABCD")`: nothing that the notebook computes."""
    whole = re.sub(r"\[:[^\]]*\]", "", ast.unparse(node))  # MedMNIST's classes make the first of them alone
    return eval(whole, {"__builtins__": {"tuple": tuple}})


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_publishes_every_figure_and_table_that_names_it_and_no_other(notebook):
    assert (paths.NOTEBOOKS / f"{notebook}.ipynb").is_file(), f"there is no notebook {notebook}"
    published = {name for _, _, ids in calls(notebook) for name in ids}
    assert published == set(PLACES.index[PLACES["notebook"] == notebook])


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_file_that_shows_it_is_among_the_reference_figures(notebook):
    if not (paths.REFERENCE / notebook).is_dir():
        pytest.skip(f"the reference lacks {notebook}: `make reproduce` to the end, then `make reference`")
    suffix = {"figure": ".png", "table": ".csv"}
    wanted = {f"{name}{suffix[kind]}" for kind, name, ids in calls(notebook) if ids}
    assert sorted(name for name in wanted if not (paths.REFERENCE / notebook / name).is_file()) == []


def test_what_no_notebook_makes_has_a_reason_in_words():
    without = PLACES[PLACES["notebook"] == ""]
    assert (without["reason"].str.split().str.len() >= 4).all()


# --- what the texts name ------------------------------------------------------------------------------------------

NAMED = re.compile(
    r"\b(Figures?|Fig\.|Tables?) \[?(S?\d[A-F]?(?:(?:, | and |, and |[-–])S?\d?[A-F]?\b)*)", re.IGNORECASE
)
LEGEND = re.compile(r"^Figure (S?\d)\. ", re.MULTILINE)
COUNTED = {"six": 6, "three": 3}


@pytest.fixture(scope="module", params=list(paper_titles()))
def paper(request):
    """A paper's name, its text, and its figures' and tables' rows."""
    folder = os.environ.get("PAPERS_DIR", "")
    found = sorted(Path(folder).glob(f"{request.param}*.txt")) if folder else []
    if not found:
        pytest.skip(f"set PAPERS_DIR to a folder that holds {request.param}.txt to check what it names")
    return request.param, found[0].read_text(encoding="utf-8"), PLACES[PLACES["paper"] == request.param]


def parts_of(words: str) -> list[str]:
    """'6A and 6B' is 6A, 6B; '5B and C' is 5B, 5C; '6A-D' is 6A to 6D."""
    found: list[str] = []
    for join, name in re.findall(r"(, and |, | and |[-–]|^)(S?\d?[A-F]?)", words):
        if name and not re.search(r"\d", name):
            number = found[-1].rstrip("ABCDEF")
            letters = "ABCDEF"["ABCDEF".index(found[-1][-1]) + 1 : "ABCDEF".index(name)] if join in "-–" else ""
            found += [number + letter for letter in letters]
            name = number + name
        found += [name] if name else []
    return found


def test_every_figure_and_table_that_a_text_names_has_a_row(paper):
    name, text, rows = paper
    text = " ".join(text.split())
    quoted = [found.span() for quote in rows["quote"] for found in re.finditer(re.escape(quote), text)]
    missing, seen = [], 0
    for found in NAMED.finditer(text):
        kind = "table" if found[1].lower().startswith("t") else "figure"
        for part in parts_of(found[2]):
            row = re.compile(rf"{name}\.{kind}\.{part}([A-F](\.|$)|\.|$)")
            within = any(start <= found.start() < end for start, end in quoted)  # another work's, in the talk
            missing += [] if within or any(row.match(each) for each in rows.index) else [f"{found[0]}: {part}"]
            seen += 1
    assert seen and missing == []


def test_every_panel_that_a_legend_explains_has_a_row(paper):
    name, text, rows = paper
    if name != "kermany2018":
        pytest.skip("its legends have no panels")
    starts = [*LEGEND.finditer(text)]
    assert len({found[1] for found in starts}) == 12  # 1 to 6 and S1 to S6
    for found in starts:
        legend = " ".join(text[found.end() : found.end() + 2600].split())
        legend = re.split(r"See also|(?<=\. )Figure \w+\. ", legend)[0]
        for letters in re.findall(r"\(([A-F](?: and [A-F])?)\)", legend):
            for letter in letters.split(" and "):
                assert f"{name}.figure.{found[1]}{letter}" in rows.index, found[0]


def test_as_many_supplemental_ones_as_the_article_says(paper):
    name, text, rows = paper
    if name != "kermany2018":
        pytest.skip("it has no supplement")
    said = re.search(r"Supplemental Information includes (\w+) figures and (\w+) tables", text)
    for kind, count in zip(("figure", "table"), said.groups(), strict=True):
        numbers = {found[1] for each in rows.index if (found := re.search(rf"{kind}\.(S\d)", each))}
        assert len(numbers) == COUNTED[count], kind


def test_every_slide_of_the_talk_is_in_a_row_or_holds_words_alone(paper):
    name, text, rows = paper
    if name != "zech2018":
        pytest.skip("it is no talk")
    headings = {re.sub(r"[*#]", "", line).strip() for line in re.findall(r"^# .*", text, re.MULTILINE)}
    assert len(headings) > 20
    places = [part for where in rows["where"] for part in re.sub("^Slides?, ", "", where).split("; ")]
    left = {each for each in headings if not any(each in part or each.startswith(part) for part in places)}
    known = tomllib.loads((Path(__file__).parent / "fixtures/papers.toml").read_text(encoding="utf-8"))
    assert left == set(known["words_alone"])


# --- what the report says -----------------------------------------------------------------------------------------


class Page:
    """The page's ids, the addresses it links to, the text of every row that has an id, and that of the first screen."""

    def __init__(self, html: str) -> None:
        soup = BeautifulSoup(html, "html.parser")
        self.headlines = [" ".join(one.get_text(" ").split()) for one in soup.select(".headlines article")]
        self.warnings = [" ".join(one.get_text(" ").split()) for one in soup.select("details.warning")]
        self.ids = [tag["id"] for tag in soup.find_all(id=True)]
        self.links = [tag["href"] for tag in soup.find_all(href=True)]
        self.rows = {row["id"]: " ".join(row.get_text(" ").split()) for row in soup.find_all("tr", id=True)}


WARNINGS = ["the curve leaves out 10 images per class", "SmallNet by openvino does not agree with Keras in float32"]
MADE = {"02_multiclass_roc": ["kermany2018.figure.4A"]}
MADE |= {"07_pneumonia": ["kermany2018.figure.6A", "kermany2018.figure.6B"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run in which two notebooks made a figure each and one failed."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("coverage")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNS", "FIGURES"):
            patch.setattr(paths, name, folder / name.lower())
        run = Run("partial")
        run.save_profile("phantom", {})
        for notebook, ids in MADE.items():
            record(run, notebook, ids)
            picture = run.figures / notebook / "one.png"
            picture.parent.mkdir(parents=True)
            Image.new("L", (30, 20)).save(picture, dpi=(300, 300))
        run.failed("03_binary_roc").parent.mkdir(parents=True)
        nbformat.write(nbformat.v4.new_notebook(), run.failed("03_binary_roc"))
        run.failed(".unfinished-04_limited_data").write_text("half a file")  # another notebook at work
        yield run


def record(run: Run, notebook: str, ids: list[str], key: str = "") -> None:
    figure = {"name": "one", "shows": "Figure", "caption": "a figure", "published": ids, "pixels": False}
    left = {"notebook": notebook, "figures": [figure], "tables": [], "claims": [], "warnings": WARNINGS, "excluded": []}
    left |= {"found": [f"what {notebook} found first", "and then"]}
    left |= {"data": "Phantoms.", "commit": "0", "profile": {"seed": 1}, "hardware": {"cores": 2}, "versions": {}}
    write_json(run.record(notebook), left | {"key": key or notebook_key(notebook, run.load_profile())})


@pytest.fixture(scope="module")
def page(run):
    return Page(build_report(run).read_text(encoding="utf-8"))


def test_every_figure_and_table_is_on_the_page_with_its_notebook_or_its_reason(page):
    for name, row in PLACES.iterrows():
        shown = page.rows[name]
        assert row["where"] in shown and row["quantity"] in shown
        assert (row["notebook"] or row["reason"]) in shown


def test_what_was_made_leads_to_the_file_and_to_its_place_on_the_page(run, page):
    assert len(page.ids) == len(set(page.ids))  # that links lead somewhere, test_pages asks
    for notebook, ids in MADE.items():
        file = f"figures/partial/{notebook}/one.png"
        for name in ids:
            assert file in page.rows[name] and page.rows[name].endswith("made")
        assert f"../../{file}" in page.links and f"#{notebook}-one" in page.links


def test_the_first_screen_has_a_finding_with_its_figure_for_each_notebook_that_ran(page):
    first, second = page.headlines
    assert "What 02_multiclass_roc found first" in first and "What 07_pneumonia found first" in second
    for row in tomllib.loads((paths.ROOT / "helpers/run/report.toml").read_text())["headlines"]:
        assert f'\\"{row["figure"]}\\"' in (paths.NOTEBOOKS / f"{row['notebook']}.ipynb").read_text(encoding="utf-8")


def test_a_warning_that_can_change_a_number_comes_first_with_its_reason(page):
    assert page.warnings[0].startswith("Serious. 02_multiclass_roc SmallNet") and "less precision" in page.warnings[0]
    assert page.warnings[1].endswith("leaves out 10 images per class") and len(page.warnings) == 2


def test_what_was_not_made_says_so(page):
    assert "not in this run" in page.rows["kermany2018.figure.2A"]
    assert "the notebook failed" in page.rows["kermany2018.figure.S2A"]
    assert page.rows["kermany2018.figure.5B"].endswith("left out")


def test_a_notebook_run_from_other_code_or_settings_is_not_shown_as_new(run):
    record(run, "02_multiclass_roc", MADE["02_multiclass_roc"], key="of another day")
    try:
        text = build_report(run).read_text(encoding="utf-8")
        assert 'id="02_multiclass_roc"' not in text and 'id="07_pneumonia"' in text
        assert "02_multiclass_roc is not shown: it was run from other code, data or settings" in text
    finally:
        record(run, "02_multiclass_roc", MADE["02_multiclass_roc"])


def test_a_published_id_that_nothing_knows_stops_the_report(run):
    record(run, "02_multiclass_roc", ["kermany2018.figure.4"])
    try:
        with pytest.raises(ClaimError, match="no figure or table 'kermany2018.figure.4'; did you mean"):
            build_report(run)
    finally:
        record(run, "02_multiclass_roc", MADE["02_multiclass_roc"])
