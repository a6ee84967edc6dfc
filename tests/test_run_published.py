"""The published facts keep their promises; the quotes are checked where PAPERS_DIR names a folder with the texts."""

import os
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from helpers.audit.checks import JUDGEMENTS, NOT_STATED, load_appraisal
from helpers.run.claims import COLUMNS, ClaimError, load_published, margins, papers_known, printed_number
from helpers.run.paths import PUBLISHED
from helpers.run.profile import KEYS
from helpers.run.steps import notebook_names

K = "kermany2018."
TEXTS = tomllib.loads((Path(__file__).parent / "fixtures/papers.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def published():
    return load_published("kermany2018")


# --- what must be there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS["numbers"])
def test_a_number_looked_up_is_the_papers(name):
    value, *n = TEXTS["numbers"][name]
    row = load_published().set_index("id").loc[name]
    assert row["value"] == pytest.approx(value)
    assert pd.isna(row["n"]) if not n else row["n"] == n[0]


def test_when_an_interval_is_printed_then_it_is_kept():
    rows = load_published().set_index("id").loc
    assert rows["rajkomar2017.view.test.accuracy", ["low", "high"]].tolist() == [0.9973, 1]
    assert rows["zech2018.generalization.msh.iu.auroc", ["low", "high"]].tolist() == [0.674, 0.838]
    assert rows["zech2018.quoted.rajpurkar.f1.chexnet", ["low", "high"]].tolist() == [0.387, 0.481]


def test_when_classes_are_added_then_the_counts_agree(published):
    value = published.set_index("id")["value"]
    train = sum(value[f"{K}oct.data.train_{name}"] for name in ("cnv", "dme", "drusen", "normal"))
    assert train == value[K + "oct.data.train_images"]
    assert value[K + "xray.data.train_bacterial"] + value[K + "xray.data.train_viral"] == 3883
    assert value[K + "xray.data.train_pneumonia"] + value[K + "xray.data.train_normal"] == 5232
    assert value[K + "xray.data.test_bacterial"] + value[K + "xray.data.test_viral"] == 390


def shown(printed):
    """What stands in the quote: without the words before a limit, and without the (%) of a table's heading."""
    return re.sub(r"^(under|about|over) | \(%\)$", "", printed)


@pytest.mark.parametrize("name", papers_known())
def test_when_a_number_is_printed_then_its_quote_holds_it(name):
    published = load_published(name)
    numbers = published[published["kind"] == "number"]
    for row in numbers.itertuples():
        assert shown(row.printed) in row.quote, row.id


def test_when_a_figure_has_its_own_file_of_values_then_it_agrees_with_the_claims(published):
    errors = pd.read_csv(PUBLISHED / "kermany2018_weighted_errors.csv")
    assert len(errors) == 5
    assert errors["weighted_error"].tolist() == published.set_index("id").loc[errors["id"], "value"].tolist()


def test_when_a_column_exists_then_the_readme_explains_it():
    readme = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    assert [column for column in COLUMNS if f"`{column}`" not in readme] == []


# --- what is printed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "value", "half", "decimals"),
    [
        ("96.6%", 0.966, 0.0005, 1),
        ("99.87 %", 0.9987, 0.00005, 2),
        ("108,312", 108312, 0.5, 0),
        ("30 million", 3e7, 5e5, 0),
        ("0.001", 0.001, 0.0005, 3),
        (".97", 0.97, 0.005, 2),
        ("20x20", 20, 0.5, 0),
        ("under 2 hr", 2, 0.5, 0),
    ],
)
def test_when_a_number_is_printed_so_then_this_is_its_value_and_rounding(printed, value, half, decimals):
    assert printed_number(printed) == (pytest.approx(value), pytest.approx(half), decimals)


def test_when_a_table_prints_per_cent_in_its_heading_then_the_unit_tells():
    assert printed_number("97.8", proportion=True) == (pytest.approx(0.978), pytest.approx(0.0005), 1)
    assert printed_number("0.768", proportion=True)[0] == 0.768
    assert printed_number("0.02 (%)", proportion=True) == (pytest.approx(0.0002), pytest.approx(0.00005), 2)
    assert printed_number("every step") is None


# --- what every row promises ----------------------------------------------------------------------------------------

KINDS = {"number", "figure", "table"}
MEASURES = {*margins(), "p", "none"}


@pytest.mark.parametrize("name", papers_known())
def test_every_row_keeps_its_promises(name):
    table = load_published(name)
    number, checked = table["kind"] == "number", table["measure"] != "none"
    share = table["measure"].isin(["proportion", "auroc"])
    broken = {
        "unknown kind": ~table["kind"].isin(KINDS),
        "unknown measure": ~table["measure"].isin(MEASURES),
        "unknown notebook": ~table["notebook"].isin(["", *notebook_names()]),
        "unknown profile key": ~table["key"].isin(["", *KEYS]),
        "another paper": (table["paper"] != name) | ~table["id"].str.fullmatch(rf"{name}(\.[A-Za-z0-9_]+)+"),
        "id taken": table["id"].duplicated(),
        "blank": (table[["where", "quote", "quantity"]] == "").any(axis=1),
        "notebook or reason, not both": (table["notebook"] != "") == (table["reason"] != ""),
        "a number has value, unit and printed": number
        & (table["value"].isna() | (table["unit"] == "") | (table["printed"] == "")),
        "a figure has none": ~number & (table["value"].notna() | checked),
        "a measure goes with a notebook": number & ((table["notebook"] != "") != checked),
        "interval": table["low"].isna() != table["high"].isna(),
        "the interval holds the value": (table["low"] > table["value"]) | (table["value"] > table["high"]),
        "a share is 0 to 1": share & (~table["value"].between(0, 1) | (table["unit"] != "proportion")),
        "n_positive needs an n": table["n_positive"].notna() & ~(table["n"] >= table["n_positive"]).fillna(False),
        "an AUROC's n needs n_positive": (table["measure"] == "auroc")
        & table["n"].notna()
        & table["n_positive"].isna(),
        "only a setting has a key": (table["key"] != "") & (table["measure"] != "setting"),
    }
    assert {why: table.loc[rows, "id"].tolist() for why, rows in broken.items() if rows.any()} == {}


@pytest.mark.parametrize("name", papers_known())
def test_the_value_is_the_printed_one_and_a_repeat_repeats(name):
    table = load_published(name)
    by_id = table.set_index("id")
    for row in table[table["measure"] != "none"].itertuples():
        if shown := printed_number(row.printed, row.unit == "proportion"):
            assert row.value == pytest.approx(shown[0]), row.id
    for row in table[table["repeats"] != ""].itertuples():
        first = by_id.loc[row.repeats]
        assert first["repeats"] == "", row.id
        for column in ("kind", "notebook", "measure", "value"):
            assert getattr(row, column) == first[column], f"{row.id}: {column}"


def test_an_unknown_paper_and_a_file_without_the_columns_are_refused(tmp_path):
    with pytest.raises(ClaimError, match="did you mean kermany2018"):
        load_published("kermany2019")
    (tmp_path / "paper.csv").write_text("id,paper\na,b\n")
    with pytest.raises(ClaimError, match="paper.csv.*quote"):
        load_published("paper", tmp_path)


# --- against the text ---------------------------------------------------------------------------------------------

SLIDES = ("zech2018",)  # a talk says a thing again on its next slides: there a quote may stand several times
AMOUNT = re.compile(
    r"\b(\d[\d,.]*|(two|three|four|five|six|seven|eight|nine|ten|hundred|thousand|million)\b)", re.IGNORECASE
)


@pytest.fixture(scope="module", params=papers_known())
def paper(request):
    folder = os.environ.get("PAPERS_DIR", "")
    found = sorted(Path(folder).glob(f"{request.param}*.txt")) if folder else []
    if not found:
        pytest.skip(f"set PAPERS_DIR to a folder that holds {request.param}.txt to check the quotes")
    return request.param, load_published(request.param), " ".join(found[0].read_text(encoding="utf-8").split())


def test_when_the_text_is_at_hand_then_every_quote_is_in_it_once(paper):
    name, published, text = paper
    counts = [(row.id, row.quote, text.count(row.quote)) for row in published.itertuples()]
    assert [found for found in counts if found[2] < 1 or (found[2] > 1 and name not in SLIDES)] == []


@pytest.mark.parametrize("checklist", JUDGEMENTS)
def test_when_the_text_is_at_hand_then_every_quote_of_a_checklist_is_in_it(paper, checklist):
    name, _, text = paper
    answers = load_appraisal(checklist)
    quotes = answers[(answers["paper"] == name) & (answers["quote"] != NOT_STATED)]["quote"]
    assert len(quotes) > 8 and [quote for quote in quotes if quote not in text] == []


def test_when_the_text_is_at_hand_then_every_number_in_it_has_a_row(paper):
    (name, published, text), not_counted, covered = paper, TEXTS["not_counted"], set()
    for row in published[published["kind"] == "number"].itertuples():
        for found in re.finditer(re.escape(row.quote), text):
            start = found.start() + row.quote.index(shown(row.printed))
            covered |= set(range(start, start + len(shown(row.printed))))
            for other in AMOUNT.finditer(row.quote):  # the limits of its interval
                value = (printed_number(other[0], row.unit == "proportion") or [None])[0]
                if value in (pytest.approx(row.low), pytest.approx(row.high)):
                    covered |= set(range(found.start() + other.start(), found.start() + other.end()))
    for found in re.finditer("|".join([not_counted["everywhere"], *not_counted[name]]), text, re.IGNORECASE):
        covered |= set(range(*found.span()))
    left = [
        text[max(0, found.start() - 40) : found.end() + 20]
        for start, end in TEXTS["parts"][name]
        for found in AMOUNT.finditer(text, text.index(start), text.index(end) if end else len(text))
        if found.start() not in covered
    ]
    assert left == []
