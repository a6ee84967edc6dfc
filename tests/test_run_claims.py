"""The rule for verdicts, with numbers worked by hand, and the tables that readers see."""

import math
import tarfile

import pytest
from scipy.stats import binomtest
from tiny_data import oct_archive, picture

from helpers.data import kermany_images
from helpers.data.download import unpack
from helpers.kermany import data as kermany_data
from helpers.metrics.estimate import Estimate, proportion
from helpers.run import paths
from helpers.run.claims import (
    REVERSED,
    ClaimError,
    compare,
    coverage,
    load_published,
    margins,
    printed_number,
    published_interval,
    settings,
    stated,
    verdict,
)
from helpers.run.profile import Run, load_profile
from helpers.study import Study

K = "kermany2018."
exact = Estimate.exact


def row(printed="90%", measure="proportion", unit="proportion", **given):
    """A published row as `load_published` gives it, for a number that nobody published."""
    value = printed_number(printed, unit == "proportion")[0]
    blank = {"id": "paper.x", "kind": "number", "note": "", "notebook": "02_multiclass_roc", "n_positive": None}
    blank |= {"value": value, "low": math.nan, "high": math.nan, "n": None}
    return blank | {"printed": printed, "measure": measure, "unit": unit} | given


def p(value, note=""):
    return Estimate(value, value, value, 100, "t test", note)


@pytest.mark.parametrize(
    ("published", "obtained", "expected"),
    [
        # An error of 10 % has a margin of 5 points, and 0.5 for the rounding of '90%': 84.5 to 95.5.
        (row(n=500), Estimate(0.88, 0.846, 0.91, 500, ""), "reproduced"),
        (row(n=500), Estimate(0.88, 0.844, 0.91, 500, ""), "inconclusive"),  # too wide
        (row(n=500), Estimate(0.82, 0.79, 0.844, 500, ""), "not reproduced"),
        (row(n=500), Estimate(0.97, 0.956, 0.98, 500, ""), "not reproduced"),  # also where it is better
        # Without n the published value is no more exact than ours: half of ours, 2.7 points, is added.
        (row(), Estimate(0.82, 0.79, 0.844, 500, ""), "inconclusive"),
        (row(), Estimate(0.78, 0.75, 0.81, 500, ""), "not reproduced"),
        (row(low=0.87, high=0.92), Estimate(0.82, 0.79, 0.844, 500, ""), "not reproduced"),
        # The two of the issue: three times the errors, and half as many again and more.
        (row("98.0%", n=250), proportion(236, 250), "not reproduced"),
        (row("90.1%", n=234), proportion(196, 234), "inconclusive"),
        (row("100.0%", n=250), proportion(250, 250), "inconclusive"),  # 98.5 to 100 of 250, where 99 is asked
        (row("98.8%", "auroc", n=1000, n_positive=500), Estimate(0.986, 0.983, 0.989, 1000, ""), "reproduced"),
        (row("6.6%", "error", n=1000), Estimate(0.06, 0.051, 0.08, 1000, ""), "reproduced"),  # a quarter of 6.6 points
        (row(n=500), exact(0.9), "inconclusive"),  # a sample's value without an interval
        (row(), Estimate.undefined(10, "DeLong", "no positives"), "inconclusive"),
        (row("108,312", "count", "images"), exact(108_309), "not reproduced"),
        (row("0.001", "setting", "1"), exact(0.001), "reproduced"),
        (row("0.001", "setting", "1"), exact(0.0014), "not reproduced"),
        (row("p < 0.001", "p", "1"), p(0.0002), "reproduced"),
        (row("p < 0.001", "p", "1"), p(0.0002, REVERSED), "not reproduced"),
        (row("p < 0.001", "p", "1"), p(0.03), "inconclusive"),
        (row("p < 0.001", "p", "1"), p(0.4, REVERSED), "inconclusive"),
        (row(), None, "not run"),
    ],
)
def test_the_verdict_is_that_of_the_rule_worked_by_hand(published, obtained, expected):
    found = verdict(published, obtained)
    assert found.word == expected and "exact" not in found.explanation
    if obtained is not None:  # what differs is said, and hides nothing
        other = verdict(published, obtained, "network: another")
        assert (other.word, other.alone) == ("not comparable", expected)
        assert other.explanation.startswith(f"network: another. By the numbers alone: {expected} (")


def test_of_phantoms_nothing_is_said_and_what_was_not_obtained_gives_its_note():
    given = verdict(row(n=500), Estimate(0.9, 0.88, 0.92, 500, ""), "images: Phantoms; no evidence about the paper")
    assert (given.word, given.alone) == ("not comparable", "") and "alone" not in given.explanation
    assert verdict(row(note="nobody knows"), None).explanation == "02_multiclass_roc gave no value; nobody knows"


def test_every_measure_has_a_margin_with_its_reason():
    assert set(load_published()["measure"]) - {"none", "p", ""} <= set(margins())
    assert all(len(rule["reason"].split()) > 5 and rule["least"] <= rule["most"] for rule in margins().values())


def test_only_the_papers_own_images_network_and_size_are_comparable(tmp_path, monkeypatch):
    """109,312 made-up JPEGs, in small: as many images of each class as the paper has, and another network."""
    sizes = dict.fromkeys(kermany_images.OCT_CLASSES, 6)
    monkeypatch.setattr(kermany_images, "OCT_COUNTS", {"images": {"train": sizes, "test": sizes}})
    monkeypatch.setattr(kermany_data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    claim = K + "oct.multiclass.accuracy"

    def judged(folder, **overrides):
        profile = load_profile("paper", {"data_dir": folder, **overrides})
        study = Study("02_multiclass_roc", profile, Run("none"))
        study.claim(claim, Estimate(0.966, 0.955, 0.975, 1000, ""))
        return study.differs, study.claims().set_index("id").loc[claim]

    archive = tmp_path / "OCT2017.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(oct_archive(tmp_path / "made-up" / "OCT2017"), "OCT2017")
    differs, row = judged(tmp_path / "made-up", backbone="MobileNetV2", image_size=128)
    assert set(differs) == {"images", "network", "input size"} and row["verdict"] == "not comparable"
    for words in ("not verified", "MobileNetV2 and not InceptionV3", "128 and not 299", "alone: reproduced"):
        assert words in row["explanation"]
    assert row["obtained"] == "96.6 % (95.5 to 97.5)"
    unpack(archive, tmp_path / "ours" / "OCT2017", note={"archive": archive.name, "sha256": "0", "url": ""})
    differs, row = judged(tmp_path / "ours")
    assert differs == {} and row["verdict"] == "reproduced"
    picture(tmp_path / "ours/OCT2017/train/CNV/CNV-1000-1.jpeg", "RGB")
    assert "1 are not as `make data` unpacked them" in judged(tmp_path / "ours")[0]["images"]


def test_published_intervals_are_the_printed_ones_or_follow_from_n():
    assert published_interval(row(low=0.5, high=0.95, n=1000))[:2] == (0.5, 0.95)
    assert published_interval(row("96.6%", n=1000))[:2] == pytest.approx(binomtest(966, 1000).proportion_ci(0.95))
    assert published_interval(row("100.0%", n=250))[:2] == (pytest.approx(0.025 ** (1 / 250)), 1)
    assert published_interval(row("6.6%", "error", n=1000)) == (0.066, 0.066, "")
    # 0.893 of 51 and 58 (Hanley and McNeil 1982): the variance is .0010571.
    low, high, _ = published_interval(row("0.893", "auroc", n=109, n_positive=51))
    assert (low, high) == pytest.approx((0.893 - 1.96 * 0.03251, 0.893 + 1.96 * 0.03251), abs=2e-5)


@pytest.mark.parametrize(
    ("published", "obtained", "message"), [(row(), 90.0, "per cent"), (row(kind="figure"), 1, "made")]
)
def test_what_allows_no_verdict_is_refused(published, obtained, message):
    with pytest.raises(ClaimError, match=message):
        verdict(published, exact(obtained))


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return load_published("kermany2018")


def test_each_claim_has_one_row_with_both_intervals(published):
    accuracy = Estimate(0.96, 0.946, 0.971, 1000, "Clopper-Pearson")
    table = compare(published, {K + "oct.multiclass.accuracy": accuracy}).set_index("id")
    one = table.loc[K + "oct.multiclass.accuracy"]
    assert one["published"] == "96.6 % (95.3 to 97.6 from n = 1,000)"
    assert (one["obtained"], one["n"], one["verdict"]) == ("96.0 % (94.6 to 97.1)", 1000, "inconclusive")
    assert set(table.drop(K + "oct.multiclass.accuracy")["verdict"]) == {"not run"}
    assert table.loc[K + "oct.multiclass.auroc", "where"].endswith("; also Figure 4 legend (A)")  # printed twice
    assert K + "oct.multiclass.auroc.figure_4" not in table.index


@pytest.mark.parametrize(
    ("name", "obtained", "text"),
    [
        ("oct.data.train_images", exact(20000), "20,000 images"),
        ("setting.learning_rate", exact(0.001), "0.001"),
        ("oct.dme_normal.auroc", Estimate(0.99871, 0.997, 1.0, 500, ""), "99.87 % (99.70 to 100.00)"),
        ("oct.multiclass.auroc", Estimate.undefined(9, "DeLong", "one class"), "undefined (one class)"),
    ],
)
def test_an_obtained_value_is_printed_as_the_published_one(published, name, obtained, text):
    table = compare(published, {K + name: obtained}).set_index("id")
    assert table.loc[K + name, "obtained"] == text


def test_more_digits_are_shown_where_the_printed_ones_would_hide_an_interval():
    table = compare(load_published("rajkomar2017"), {}).set_index("id")
    assert table.loc["rajkomar2017.view.test.accuracy", "published"] == "100.0 % (99.7 to 100.0)"
    assert table.loc["rajkomar2017.view.pooled.grey", "published"] == "99.50 % (99.46 to 99.53 from n = 160,176)"
    assert table.loc["rajkomar2017.transformed.lateral.labeled.frontal", "published"] == "0.02 %"


@pytest.mark.parametrize("wrong", ["oct.multiclas.accuracy", "figure.4A", "oct.multiclass.auroc.figure_4"])
def test_an_obtained_id_that_is_no_claim_is_refused_with_the_nearest(published, wrong):
    with pytest.raises(ClaimError, match=rf"no claim '{K}{wrong}'.*(did you mean|known)"):
        compare(published, {K + wrong: exact(1)})


def test_the_paper_profiles_settings_are_the_papers(published):
    ours = {name: exact(value) for name, value in settings(published, load_profile("paper")).items()}
    table = compare(published, ours)
    assert len(ours) >= 5 and set(table.loc[table["id"].isin(list(ours)), "verdict"]) == {"reproduced"}


def test_a_number_that_no_notebook_can_check_is_listed_with_the_reason(published):
    rest = stated(published)
    claims = published[(published["kind"] == "number") & (published["measure"] != "none")]
    assert (rest["reason"] != "").all() and len(rest) + len(claims) == (published["kind"] == "number").sum()


def test_coverage_says_which_figures_were_made_and_why_not_the_others(published):
    table = coverage(published, {K + "figure.1"}).set_index("id")["status"]
    assert table[[K + f"figure.{name}" for name in ("1", "2A", "5B")]].tolist() == ["made", "not made", "no notebook"]
    with pytest.raises(ClaimError, match="no figure or table"):
        coverage(published, {K + "figure.9"})
    with pytest.raises(ClaimError, match="names no notebook"):
        coverage(published, {K + "figure.5B"})
