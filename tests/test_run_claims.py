"""The rule for verdicts, with numbers worked by hand, and the tables that readers see."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from helpers.metrics.estimate import Estimate
from helpers.run.claims import (
    ClaimError,
    Verdict,
    compare,
    coverage,
    load_published,
    printed_number,
    published_interval,
    settings,
    stated,
    verdict,
)
from helpers.run.profile import load_profile

K = "kermany2018."
exact = Estimate.exact


def row(printed="90%", measure="proportion", unit="proportion", **given):
    """A published row as `load_published` gives it, for a number that nobody published."""
    value = printed_number(printed, unit == "proportion")[0]
    blank = {"id": "paper.x", "kind": "number", "reason": "", "notebook": "02_multiclass_roc", "n_positive": None}
    blank |= {"value": value, "low": math.nan, "high": math.nan, "n": None}
    return blank | {"printed": printed, "measure": measure, "unit": unit} | given


def word(published, obtained):
    return verdict(published, obtained, comparable=True).word


INTERVAL = row(low=0.87, high=0.92)


@pytest.mark.parametrize(
    ("published", "obtained", "expected"),
    [
        # The arms that face each other, added in quadrature, and 0.5 for the rounding of '90%': sqrt(9 + 9) + 0.5.
        (INTERVAL, Estimate(0.86, 0.83, 0.89, 500, ""), "reproduced"),
        (INTERVAL, Estimate(0.85, 0.82, 0.88, 500, ""), "not reproduced"),
        # Upwards the published arm is 2 and ours 1: sqrt(5) + 0.5 = 2.736 points.
        (INTERVAL, Estimate(0.927, 0.917, 0.99, 500, ""), "reproduced"),
        (INTERVAL, Estimate(0.928, 0.918, 0.99, 500, ""), "not reproduced"),
        # Without n the published value counts as exact, so that half a unit of its last digit is left.
        (row(), exact(0.905), "reproduced"),
        (row(), exact(0.9051), "not reproduced"),
        (row(), Estimate(0.86, 0.83, 0.89, 500, ""), "not reproduced"),
        (row(n=500), Estimate(0.86, 0.83, 0.89, 500, ""), "reproduced"),  # Clopper-Pearson reaches down 2.97
        (row("100.0%", n=250), Estimate(0.988, 0.9653, 0.9975, 250, ""), "reproduced"),
        (row("100.0%", n=250), Estimate(0.96, 0.9276, 0.9807, 250, ""), "not reproduced"),
        # An AUROC printed as perfect, of 250 and 250: Hanley and McNeil's standard error at 0.9995 is 0.001002.
        (row("100.0%", "auroc", n=500, n_positive=250), Estimate(0.9985, 0.9965, 0.9995, 500, ""), "reproduced"),
        (row("100.0%", "auroc", n=500, n_positive=250), Estimate(0.99, 0.985, 0.995, 500, ""), "not reproduced"),
        # A mean penalty: no binomial interval may be made from n, so 1.45 + 0.05 points.
        (row("6.6%", "mean", n=1000), Estimate(0.08, 0.0655, 0.1, 1000, ""), "reproduced"),
        (row("6.6%", "mean", n=1000), Estimate(0.08, 0.067, 0.1, 1000, ""), "not reproduced"),
        (row("108,312", "count", "images"), exact(108_312), "reproduced"),
        (row("108,312", "count", "images"), exact(108_309), "not reproduced"),
        (row("2 million", "count", "people"), exact(2_400_000), "reproduced"),
        (row("2 million", "count", "people"), exact(2_600_000), "not reproduced"),
        (row("0.001", "setting", "1"), exact(0.001), "reproduced"),
        (row("0.001", "setting", "1"), exact(0.0014), "not reproduced"),
        (row("under 2 hr", "below", "hours"), exact(0.05), "reproduced"),
        (row("under 2 hr", "below", "hours"), exact(2.0), "not reproduced"),
        (row(), None, "not run"),
        (row(), Estimate.undefined(10, "DeLong", "no positives"), "not comparable"),
    ],
)
def test_the_verdict_is_that_of_the_rule_worked_by_hand(published, obtained, expected):
    assert word(published, obtained) == expected


def test_published_intervals_are_the_printed_ones_or_follow_from_n():
    assert published_interval(row(low=0.5, high=0.95, n=1000))[:2] == (0.5, 0.95)
    assert published_interval(row("96.6%", n=1000))[:2] == pytest.approx(binomtest(966, 1000).proportion_ci(0.95))
    assert published_interval(row("100.0%", n=250))[:2] == (pytest.approx(0.025 ** (1 / 250)), 1)
    assert published_interval(row("6.6%", "mean", n=1000)) == (0.066, 0.066, "")
    # 0.893 of 51 and 58 (Hanley and McNeil 1982): the variance is .0010571.
    low, high, _ = published_interval(row("0.893", "auroc", n=109, n_positive=51))
    assert (low, high) == pytest.approx((0.893 - 1.96 * 0.03251, 0.893 + 1.96 * 0.03251), abs=2e-5)


def test_of_two_samples_of_one_truth_at_least_95_in_100_are_reproduced_and_of_another_hardly_any():
    rng = np.random.default_rng(1)

    def reproduced(truth):
        hits = 0
        for ours, theirs in rng.binomial(200, [truth, 0.9], size=(300, 2)):
            low, high, _ = published_interval(row(f"{ours / 2}%", n=200))
            hits += word(row(f"{theirs / 2}%", n=200), Estimate(ours / 200, low, high, 200, "")) == "reproduced"
        return hits / 300

    assert reproduced(0.9) >= 0.95
    assert reproduced(0.7) < 0.05


def test_phantoms_are_never_held_against_the_paper():
    given = verdict(row(n=1000), exact(0.9), comparable=False, why_not="phantom images")
    assert given == Verdict("not comparable", "phantom images")
    assert verdict(row(), None, comparable=False, why_not="phantom images").word == "not run"


@pytest.mark.parametrize(
    ("published", "obtained", "comparable", "message"),
    [
        (row(), exact(0.9), False, "why not"),
        (row(), exact(90.0), True, "never per cent"),
        (row(kind="figure"), exact(1), True, "made or not"),
    ],
)
def test_what_allows_no_verdict_is_refused(published, obtained, comparable, message):
    with pytest.raises(ClaimError, match=message):
        verdict(published, obtained, comparable=comparable)


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return load_published("kermany2018")


def test_each_claim_has_one_row_with_both_intervals(published):
    accuracy = Estimate(0.96, 0.946, 0.971, 1000, "Clopper-Pearson")
    table = compare(published, {K + "oct.multiclass.accuracy": accuracy}, comparable=True).set_index("id")
    one = table.loc[K + "oct.multiclass.accuracy"]
    assert one["published"] == "96.6 % (95.3 to 97.6 from n = 1,000)"
    assert (one["obtained"], one["n"], one["verdict"]) == ("96.0 % (94.6 to 97.1)", 1000, "reproduced")
    assert set(table.drop(K + "oct.multiclass.accuracy")["verdict"]) == {"not run"}
    assert table.loc[K + "oct.multiclass.auroc", "where"].endswith("; also Figure 4 legend (A)")  # printed twice
    assert K + "oct.multiclass.auroc.figure_4" not in table.index


@pytest.mark.parametrize(
    ("name", "obtained", "text"),
    [
        ("oct.data.train_images", exact(20000), "20,000 images"),
        ("setting.learning_rate", exact(0.001), "0.001"),
        ("oct.dme_normal.auroc", Estimate(0.99871, 0.997, 1.0, 500, ""), "99.87 % (99.70 to 100.00)"),
        ("oct.binary.duration", exact(0.2123), "0.212 minutes"),
        ("oct.multiclass.auroc", Estimate.undefined(9, "DeLong", "one class"), "undefined (one class)"),
    ],
)
def test_an_obtained_value_is_printed_as_the_published_one(published, name, obtained, text):
    table = compare(published, {K + name: obtained}, comparable=True).set_index("id")
    assert table.loc[K + name, "obtained"] == text


def test_more_digits_are_shown_where_the_printed_ones_would_hide_an_interval():
    table = compare(load_published("rajkomar2017"), {}, comparable=True).set_index("id")
    assert table.loc["rajkomar2017.view.test.accuracy", "published"] == "100.0 % (99.7 to 100.0)"
    assert table.loc["rajkomar2017.view.pooled.grey", "published"] == "99.50 % (99.46 to 99.53 from n = 160,176)"
    assert table.loc["rajkomar2017.transformed.lateral.labeled.frontal", "published"] == "0.02 %"


@pytest.mark.parametrize("wrong", ["oct.multiclas.accuracy", "figure.4A", "oct.multiclass.auroc.figure_4"])
def test_an_obtained_id_that_is_no_claim_is_refused_with_the_nearest(published, wrong):
    with pytest.raises(ClaimError, match=rf"no claim '{K}{wrong}'.*(did you mean|known)"):
        compare(published, {K + wrong: exact(1)}, comparable=True)


def test_the_paper_profiles_settings_are_the_papers(published):
    ours = {name: exact(value) for name, value in settings(published, load_profile("paper")).items()}
    table = compare(published, ours, comparable=True)
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
