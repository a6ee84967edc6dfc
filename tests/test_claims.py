"""The rule for verdicts, with numbers worked by hand, and the tables that readers see."""

import math

import numpy as np
import pytest

from helpers.metrics.estimate import Estimate
from helpers.run.claims import ClaimError, Verdict, compare, coverage, exact, load_published, settings, stated, verdict
from helpers.run.profile import load_profile
from helpers.run.published import printed_number, published_interval

K = "kermany2018."


def row(printed="90%", measure="proportion", unit="proportion", **given):
    """A published row as `load_published` gives it, for a number that nobody published."""
    value = printed_number(printed, unit == "proportion")[0]
    blank = {"id": "paper.x", "kind": "number", "reason": "", "notebook": "02_multiclass_roc", "n_positive": None}
    blank |= {"value": value, "low": math.nan, "high": math.nan, "n": None}
    return blank | {"printed": printed, "measure": measure, "unit": unit} | given


def say(published, obtained, comparable=True, why_not=""):
    return verdict(published, obtained, comparable=comparable, why_not=why_not)


# --- proportions --------------------------------------------------------------------------------------------------


def test_when_the_printed_intervals_arms_reach_the_difference_then_reproduced():
    # Published 90 (87 to 92), obtained 86 (83 to 89): 4 points lower; the arms that face are 3 and 3, so the
    # uncertainty is sqrt(3^2 + 3^2) = 4.243, and 0.5 for the rounding of '90%'.
    given = say(row(low=0.87, high=0.92), Estimate(0.86, 0.83, 0.89, 500, "by hand"))
    assert given.word == "reproduced"
    assert "4.0 points lower" in given.explanation and "4.7 points" in given.explanation


def test_when_lower_beyond_the_uncertainty_then_not_reproduced_and_lower():
    given = say(row(low=0.87, high=0.92), Estimate(0.85, 0.82, 0.88, 500, "by hand"))
    assert given.word == "not reproduced" and "5.0 points lower" in given.explanation


def test_when_higher_then_the_other_arms_count():
    # Upwards the published arm is 2 and ours 1: sqrt(5) + 0.5 = 2.736 points.
    published = row(low=0.87, high=0.92)
    assert say(published, Estimate(0.927, 0.917, 0.99, 500, "by hand")).word == "reproduced"
    given = say(published, Estimate(0.928, 0.918, 0.99, 500, "by hand"))
    assert given.word == "not reproduced" and "2.8 points higher" in given.explanation


@pytest.mark.parametrize(("obtained", "word"), [(0.905, "reproduced"), (0.9051, "not reproduced")])
def test_when_nothing_but_rounding_is_uncertain_then_the_boundary_is_half_a_unit(obtained, word):
    assert say(row("90%"), exact(obtained)).word == word


def test_when_n_is_missing_then_the_published_value_counts_as_exact_and_the_reader_is_told():
    ours = Estimate(0.86, 0.83, 0.89, 500, "by hand")  # 3 + 0.5 points of uncertainty against 4
    given = say(row(), ours)
    assert given.word == "not reproduced" and "taken as exact" in given.explanation
    assert say(row(n=500), ours).word == "reproduced"  # Clopper-Pearson of 450 of 500 reaches down 2.97: 4.2 + 0.5


def test_when_all_were_right_then_the_published_interval_still_has_width():
    low, high, how = published_interval(row("100.0%", n=250))
    assert high == 1 and low == pytest.approx(0.025 ** (1 / 250))  # 0.98535: exact, from p^n = 0.025
    assert "Clopper-Pearson" in how
    assert say(row("100.0%", n=250), Estimate(0.988, 0.9653, 0.9975, 250, "247 of 250")).word == "reproduced"
    assert say(row("100.0%", n=250), Estimate(0.96, 0.9276, 0.9807, 250, "240 of 250")).word == "not reproduced"


def test_when_n_is_given_then_the_interval_equals_scipys():
    from scipy.stats import binomtest

    assert published_interval(row("96.6%", n=1000))[:2] == pytest.approx(binomtest(966, 1000).proportion_ci(0.95))


def test_when_an_interval_is_printed_then_it_is_used_rather_than_n():
    assert published_interval(row(low=0.5, high=0.95, n=1000))[:2] == (0.5, 0.95)


def test_when_so_few_images_were_seen_that_all_would_agree_then_the_reader_is_told():
    given = say(row(n=1000), Estimate(0.75, 0.35, 0.97, 8, "6 of 8"))
    assert given.word == "reproduced" and "too wide to say much" in given.explanation


def test_when_both_come_from_one_truth_then_at_least_95_in_100_are_reproduced_and_from_another_hardly_any():
    rng = np.random.default_rng(1)

    def reproduced(truth):
        hits = 0
        for ours, theirs in rng.binomial(200, [truth, 0.9], size=(300, 2)):
            low, high, _ = published_interval(row(f"{ours / 2}%", n=200))
            hits += say(row(f"{theirs / 2}%", n=200), Estimate(ours / 200, low, high, 200, "")).word == "reproduced"
        return hits / 300

    assert reproduced(0.9) >= 0.95
    assert reproduced(0.7) < 0.05


# --- AUROC --------------------------------------------------------------------------------------------------------


def test_when_an_auroc_has_its_class_sizes_then_hanley_and_mcneil_give_the_interval():
    # 0.893 of 51 and 58: Q1 = .893/1.107 = .80668, Q2 = 2(.893^2)/1.893 = .84253, and
    # [.893(.107) + 50(.80668 - .79745) + 57(.84253 - .79745)] / (51 x 58) = .0010571, whose root is .03251.
    low, high, how = published_interval(row("0.893", "auroc", n=109, n_positive=51))
    assert (low, high) == pytest.approx((0.893 - 1.96 * 0.03251, 0.893 + 1.96 * 0.03251), abs=2e-5)
    assert "51 positives and 58 negatives" in how


def test_when_an_auroc_is_printed_as_perfect_then_its_interval_is_not_a_point():
    # At 0.9995, the least that prints as 100.0 %, with 250 and 250: Q1 - A^2 = 2.5e-7, Q2 - A^2 = 2.498e-4, so the
    # standard error is sqrt((4.998e-4 + 249 x 2.5e-7 + 249 x 2.498e-4) / 62500) = .001002.
    published = row("100.0%", "auroc", n=500, n_positive=250)
    assert published_interval(published)[:2] == (pytest.approx(1 - 1.96 * 0.001002, abs=1e-6), 1)
    assert say(published, Estimate(0.9985, 0.9965, 0.9995, 500, "DeLong")).word == "reproduced"
    assert say(published, Estimate(0.99, 0.985, 0.995, 500, "DeLong")).word == "not reproduced"


# --- other measures -----------------------------------------------------------------------------------------------


def test_when_a_mean_has_no_spread_then_only_our_interval_and_rounding_count():
    published = row("6.6%", "mean", n=1000)  # a mean penalty: no binomial interval may be made from n
    assert published_interval(published) == (0.066, 0.066, "")
    assert say(published, Estimate(0.08, 0.0655, 0.1, 1000, "bootstrap")).word == "reproduced"  # 1.4 of 1.45 + 0.05
    assert say(published, Estimate(0.08, 0.067, 0.1, 1000, "bootstrap")).word == "not reproduced"


def test_when_a_count_is_equal_then_reproduced_and_one_off_is_not():
    published = row("108,312", "count", "images")
    assert say(published, exact(108312)).word == "reproduced"
    assert say(published, exact(108309)) == Verdict("not reproduced", "3 fewer than published")
    assert say(published, exact(108313)) == Verdict("not reproduced", "1 more than published")


def test_when_a_count_was_printed_rounded_then_half_a_unit_is_allowed():
    published = row("2 million", "count", "people")
    assert say(published, exact(2_400_000)).word == "reproduced"
    assert say(published, exact(2_600_000)).word == "not reproduced"


def test_when_a_setting_differs_by_less_than_its_rounding_then_it_is_still_another_setting():
    published = row("0.001", "setting", "1")
    assert say(published, exact(0.001)).word == "reproduced"
    assert say(published, exact(0.0014)).word == "not reproduced"


def test_when_a_limit_is_claimed_then_less_is_reproduced():
    published = row("under 2 hr", "below", "hours")
    assert say(published, exact(0.05)).word == "reproduced"
    assert say(published, exact(2.0)).word == "not reproduced"


# --- when no verdict on the numbers can be given --------------------------------------------------------------------


def test_when_the_data_are_phantoms_then_not_comparable_however_near():
    given = say(row(n=1000), exact(0.9), comparable=False, why_not="phantom images")
    assert given == Verdict("not comparable", "phantom images")


def test_when_nothing_was_obtained_then_not_run_even_on_phantoms():
    assert say(row(), None) == Verdict("not run", "02_multiclass_roc gave no value")
    assert say(row(), None, comparable=False, why_not="phantom images").word == "not run"
    assert say(row(notebook="", reason="not public", measure="none"), None) == Verdict("not run", "not public")


def test_when_the_obtained_value_is_undefined_then_not_comparable_and_why():
    given = say(row(), Estimate.undefined(10, "DeLong", "no positives"))
    assert given == Verdict("not comparable", "undefined: no positives")


def test_when_not_comparable_comes_without_a_reason_then_refused():
    with pytest.raises(ClaimError, match="why not"):
        say(row(), exact(0.9), comparable=False)


def test_when_a_proportion_is_given_in_per_cent_then_refused():
    with pytest.raises(ClaimError, match="never per cent"):
        say(row(), exact(90.0))


def test_when_a_verdict_is_asked_of_a_figure_then_refused():
    with pytest.raises(ClaimError, match="made or not"):
        say(row(kind="figure"), exact(1))


def test_when_a_word_is_not_one_of_the_four_then_refused():
    with pytest.raises(ClaimError, match="did you mean reproduced"):
        Verdict("reproducd", "")


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return load_published("kermany2018")


def test_when_compared_then_each_claim_has_one_row_with_both_intervals(published):
    accuracy = Estimate(0.96, 0.946, 0.971, 1000, "Clopper-Pearson")
    table = compare(published, {K + "oct.multiclass.accuracy": accuracy}, comparable=True).set_index("id")
    one = table.loc[K + "oct.multiclass.accuracy"]
    assert one["published"] == "96.6 % (95.3 to 97.6 from n = 1,000)"
    assert one["obtained"] == "96.0 % (94.6 to 97.1)"
    assert (one["n"], one["verdict"], one["notebook"]) == (1000, "reproduced", "02_multiclass_roc")
    rest = table.drop(K + "oct.multiclass.accuracy")
    assert set(rest["verdict"]) == {"not run"} and set(rest["obtained"]) == {""}


def test_when_a_number_is_said_again_then_its_places_are_joined_in_one_row(published):
    table = compare(published, {}, comparable=True).set_index("id")
    assert table.loc[K + "oct.multiclass.auroc", "where"].endswith("; also Figure 4 legend (A)")
    assert K + "oct.multiclass.auroc.figure_4" not in table.index


@pytest.mark.parametrize(
    ("name", "obtained", "text"),
    [
        ("oct.data.train_images", exact(20000), "20,000 images"),
        ("setting.learning_rate", exact(0.001), "0.001"),
        ("oct.dme_normal.auroc", Estimate(0.99871, 0.997, 1.0, 500, ""), "99.87 % (99.70 to 100.00)"),
        ("oct.binary.duration", exact(0.2123), "0.212 minutes"),
        ("oct.experts.confidence_level", exact(0.95), "95 %"),
        ("oct.multiclass.urgent_as_normal", exact(0), "0 images"),
        ("oct.multiclass.auroc", Estimate.undefined(9, "DeLong", "one class"), "undefined (one class)"),
    ],
)
def test_when_shown_then_the_obtained_value_looks_like_the_published_one(published, name, obtained, text):
    table = compare(published, {K + name: obtained}, comparable=True).set_index("id")
    assert table.loc[K + name, "obtained"] == text


def test_when_the_printed_digits_would_hide_an_interval_then_more_are_shown():
    table = compare(load_published("rajkomar2017"), {}, comparable=True).set_index("id")
    assert table.loc["rajkomar2017.view.test.accuracy", "published"] == "100.0 % (99.7 to 100.0)"
    assert table.loc["rajkomar2017.view.pooled.grey", "published"] == "99.50 % (99.46 to 99.53 from n = 160,176)"


def test_when_a_small_number_stands_in_a_table_of_per_cents_then_it_is_shown_as_one():
    table = compare(load_published("rajkomar2017"), {}, comparable=True).set_index("id")
    assert table.loc["rajkomar2017.transformed.lateral.labeled.frontal", "published"] == "0.02 %"
    assert table.loc["rajkomar2017.view.pooled.full_subset.p", "published"] == "p < 0.001"


@pytest.mark.parametrize("wrong", ["oct.multiclas.accuracy", "figure.4A", "oct.multiclass.auroc.figure_4"])
def test_when_an_obtained_id_is_no_claim_then_the_nearest_is_named(published, wrong):
    with pytest.raises(ClaimError, match=rf"no claim '{K}{wrong}'.*(did you mean|known)"):
        compare(published, {K + wrong: exact(1)}, comparable=True)


def test_when_the_paper_profile_is_used_then_its_settings_are_the_papers(published):
    ours = settings(published, load_profile("paper"))
    table = compare(published, ours, comparable=True)
    assert len(ours) >= 6 and set(table.loc[table["id"].isin(list(ours)), "verdict"]) == {"reproduced"}


def test_when_a_number_cannot_be_checked_then_it_is_listed_with_the_reason(published):
    rest = stated(published)
    assert (rest["reason"] != "").all()
    claims = published[(published["kind"] == "number") & (published["measure"] != "none")]
    assert len(rest) + len(claims) == (published["kind"] == "number").sum()


def test_when_figures_are_made_then_coverage_says_so_and_gives_reasons_for_the_rest(published):
    table = coverage(published, {K + "figure.1"}).set_index("id")
    assert table.loc[K + "figure.1", "status"] == "made"
    assert table.loc[K + "figure.2A", "status"] == "not made"
    assert table.loc[K + "figure.5B", "status"] == "no notebook" and table.loc[K + "figure.5B", "reason"]
    assert set(table["kind"]) == {"figure", "table"}


def test_when_a_made_figure_is_unknown_or_said_to_be_impossible_then_refused(published):
    with pytest.raises(ClaimError, match="no figure or table"):
        coverage(published, {K + "figure.9"})
    with pytest.raises(ClaimError, match="names no notebook"):
        coverage(published, {K + "figure.5B"})
