"""The audit, on numbers that nobody published: for each question a consistent, an inconsistent and an open case."""

import itertools
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from helpers import audit as paper_audit
from helpers.audit import consistency, counts, grim, intervals, points, pooling, predictive, repeats, spread
from helpers.audit import shown as shown_in_figures
from helpers.audit.derived import derived
from helpers.audit.facts import Facts, invented
from helpers.audit.record import Check, as_frame, checked
from helpers.audit.weighted import Weighted, agrees
from helpers.run.paths import PUBLISHED
from helpers.run.published import ClaimError, load_published


def say(check):
    """The outcome, once the row's promises are kept: a sentence, an assumption, a mend where one is needed."""
    assert check.sentence.endswith(".") and check.assumption and check.found and check.printed
    assert bool(check.mend) == (check.outcome != "consistent")
    return check.outcome


# --- rounding -----------------------------------------------------------------------------------------------------


def test_when_a_number_is_printed_then_its_rounding_is_half_a_unit_of_its_last_digit():
    fact = invented("93.2%")
    assert fact.holds(0.9315) and fact.holds(0.93249) and not fact.holds(0.9314) and not fact.holds(0.9326)
    assert (fact.show(0.93077), fact.steps(0.93077), fact.steps(0.9321)) == ("93.1 %", 1, 0)
    assert invented("0.945").show(0.9412) == "0.941"
    assert invented("5,856", unit="patients").show(5232) == "5,232"


def test_when_two_prints_cannot_be_one_number_rounded_alike_then_they_do_not_agree():
    assert not invented("0.944").agrees(invented("0.945"))  # 0.9445 is printed as one of them, not as both
    assert invented("100%").agrees(invented("100.0%")) and invented("96.6%").agrees(invented("97%"))
    assert not invented("250", unit="images").agrees(invented("251", unit="images"))


# --- counts of n (GRIM) -------------------------------------------------------------------------------------------


def test_when_some_count_prints_so_then_attainable():
    assert list(grim.counts_for(invented("93.1%"), 390)) == [363]  # 363 / 390 = .93077
    assert list(grim.counts_for(invented("50%"), 2)) == [1]
    assert list(grim.counts_for(invented("100.0%"), 250)) == [250]
    assert list(grim.counts_for(invented("90%"), 1000)) == list(range(895, 906))  # halves either way
    assert say(grim.attainable(invented("93.1%", n=390))) == "consistent"


def test_when_no_count_prints_so_then_the_neighbours_and_the_nearest_n_are_told():
    check = grim.attainable(invented("93.2%", n=390))
    assert say(check) == "inconsistent"
    assert "93.1 % (363 of 390) or 93.3 % (364 of 390)" in check.sentence
    assert check.mend.startswith("93.1 %, 1 in the last digit")
    assert grim.nearest_n(invented("93.2%"), 390) == 385  # 359 / 385 = .93247
    assert grim.nearest_n(invented("41%"), 2) is None


def test_when_digits_were_cut_off_then_the_check_says_so():
    assert grim.cut_off(invented("90.1%"), 234) == 211  # 211 / 234 = .90171
    assert grim.cut_off(invented("93.2%"), 390) is None
    assert "cut off rather than rounded, 211 of 234" in grim.attainable(invented("90.1%", n=234)).found


def test_when_the_nearest_n_is_looked_for_then_no_nearer_one_would_do():
    fact = invented("93.2%")
    found = grim.nearest_n(fact, 390)
    assert grim.counts_for(fact, found)
    assert not any(grim.counts_for(fact, n) for n in range(391 - abs(found - 390), 390 + abs(found - 390)))


def test_when_n_is_not_told_then_undecidable_and_the_least_n_is_given():
    check = grim.attainable(invented("0.944"))
    assert say(check) == "undecidable" and "18 images" in check.found  # 17 / 18 = .9444
    assert grim.smallest_n(invented("0.5")) == 2


def test_when_n_is_large_then_the_check_says_that_it_excludes_nothing():
    assert "every printed value is attainable" in grim.attainable(invented("99.5", n=160_176)).found


# --- two by two ---------------------------------------------------------------------------------------------------


def table(accuracy, sensitivity, specificity, positives, negatives):
    names = ("accuracy", "sensitivity", "specificity")
    values = [
        invented(p, f"a.{n}", quantity=n) for p, n in zip((accuracy, sensitivity, specificity), names, strict=True)
    ]
    return consistency.TwoByTwo(*values, positives, negatives)


def test_when_one_table_gives_all_three_then_it_is_listed():
    given = table("98.2%", "96.8%", "99.6%", 250, 250)
    assert given.tables() == [(242, 249)]
    assert say(consistency.one_table("x", given)) == "consistent"


def test_when_no_table_gives_all_three_then_the_least_changes_are_told():
    check = consistency.one_table("x", table("99.0%", "98.0%", "99.2%", 250, 250))
    assert say(check) == "inconsistent"
    assert check.mend.startswith("accuracy 98.6 % (4 in the last digits; 245 of 250 and 248 of 250 right)")
    assert "sensitivity 98.8 %" in check.mend and "specificity 100.0 %" in check.mend
    assert "make 493 right, which is 98.6 %" in check.found


def test_when_a_change_is_called_smallest_then_a_search_of_all_tables_finds_none_smaller():
    given = table("70%", "60%", "60%", 13, 9)
    best = consistency.smallest_changes(given)[0]
    costs = []
    for tp, tn in itertools.product(range(14), range(10)):
        steps = [fact.steps(v) for fact, v in zip(given.facts, given.values(tp, tn), strict=True)]
        costs.append((sum(s > 0 for s in steps), sum(steps)))
    assert (len(best.changed), best.steps) == min(costs)
    assert given.tables() == []


def test_when_three_values_imply_a_share_of_positives_then_it_is_that_of_their_weighted_mean():
    low, high = consistency.implied_share(table("90.0%", "80.0%", "95.0%", 1, 2))
    assert low < 1 / 3 < high and high - low < 0.02  # .8 x 1/3 + .95 x 2/3 = .9
    assert np.isnan(consistency.implied_share(table("99.0%", "80.0%", "95.0%", 1, 2))[0])


def test_when_other_class_sizes_would_fit_then_they_are_found():
    # 9 of 10 and 36 of 40 are 90 % each, as is their sum; of 50 images no other split than tens fits all three.
    assert consistency.class_sizes(table("90.0%", "90.0%", "90.0%", 20, 30)) == [10, 20, 30, 40]


# --- weighted error -----------------------------------------------------------------------------------------------


def model(accuracy, sensitivity, specificity, error, said=False):
    facts = [invented(p, f"a.{i}") for i, p in enumerate((accuracy, sensitivity, specificity, error))]
    return Weighted(*facts, 500, 1000, (4.0, 2.0, 1.0), said)


def test_when_the_weighted_error_is_one_that_the_rest_allows_then_consistent():
    # 34 wrong, 11 urgent missed, 13 needless: 23 points and 2 or 4 for each of the 11, so 45, 47, ... 67.
    given = model("96.6%", "97.8%", "97.4%", "4.5%", said=True)
    assert sorted(given.totals()) == [45] and say(agrees("x", given)) == "consistent"
    assert sorted(model("96.6%", "97.8%", "97.4%", "6.7%").totals()) == list(range(45, 68, 2))
    assert say(agrees("x", model("96.6%", "97.8%", "97.4%", "6.7%"))) == "consistent"


def test_when_it_is_not_then_the_nearest_possible_one_is_told():
    said = agrees("x", model("96.6%", "97.8%", "97.4%", "6.6%", said=True))
    assert say(said) == "inconsistent" and said.mend.startswith("weighted error 4.5 %, 21 in the last digit")
    free = agrees("x", model("96.6%", "97.8%", "97.4%", "6.6%"))  # 66 is even, and every possible sum is odd
    assert say(free) == "inconsistent" and "6.5 %, 6.7 %" in free.sentence and "sensitivity 97.6 %" in free.mend
    assert "11.7 %" in agrees("x", model("93.4%", "96.6%", "94.0%", "12.7%")).mend  # 30 + 19 + 4 x 17 = 117


def test_when_sums_of_penalties_are_listed_then_they_are_those_of_every_confusion_table():
    # 3 urgent and 3 others; 4 right; 2 urgent right as referrals, 2 others right as referrals: 2 wrong, both referrals.
    given = Weighted(invented("67%"), invented("67%"), invented("67%"), invented("50%"), 3, 6, (4.0, 2.0, 1.0), False)
    assert sorted(given.totals()) == [3.0, 5.0]  # one needless (1) and one missed (2 or 4); no error is left over


def test_when_referral_errors_are_more_than_all_errors_then_inconsistent():
    assert say(agrees("x", model("99.9%", "90.0%", "90.0%", "5.0%"))) == "inconsistent"


# --- intervals ----------------------------------------------------------------------------------------------------


def test_when_an_interval_is_that_of_the_named_method_then_consistent_and_others_are_told():
    fact = invented("100 %", n=1377, low=0.9973, high=1.0)  # 0.025 ** (1 / 1377) = .99732
    check = intervals.follows("x", fact, "Clopper-Pearson", {1377: "both", 377: "one", 1000: "other"})
    assert say(check) == "consistent"
    assert "n = 377 (one) would give 99.03 to 100.00 %" in check.sentence  # 0.025 ** (1 / 377) = .99026


def test_when_an_interval_is_that_of_another_method_then_inconsistent_and_the_method_is_named():
    low, high = intervals.interval(90, 100, "Wald")  # .9 -+ 1.96 x .03
    assert (low, high) == (pytest.approx(0.8412, abs=1e-4), pytest.approx(0.9588, abs=1e-4))
    fact = invented("90.0%", n=100, low=0.841, high=0.959)
    check = intervals.follows("x", fact, "Clopper-Pearson", {100: "all"})
    assert say(check) == "inconsistent" and "fits Wald of 100" in check.found
    assert check.mend == "82.4 to 95.1 %"  # Clopper and Pearson of 90 of 100
    assert say(intervals.follows("x", fact, "Wald", {100: "all"})) == "consistent"


def test_when_an_interval_was_made_from_an_unnamed_number_then_inconsistent():
    fact = invented("90%", n=100, low=0.5, high=0.95)
    assert say(intervals.follows("x", fact, "Clopper-Pearson", {100: "all"})) == "inconsistent"
    with pytest.raises(ValueError, match="has no interval"):
        intervals.follows("x", invented("90%"), "Wald", {100: "all"})


def test_when_an_aurocs_interval_is_as_wide_as_hanley_and_mcneils_then_consistent_else_open():
    # At .893 of 51 and 58 their standard error is .03251 (worked in test_claims), so 1.96 x 2 x that: .127 wide.
    assert say(intervals.auroc_width("x", invented("0.893", low=0.829, high=0.956), [51], 109)) == "consistent"
    assert say(intervals.auroc_width("x", invented("0.893", low=0.879, high=0.906), [51], 109)) == "undecidable"
    assert say(intervals.auroc_width("x", invented("0.893", low=0.9, high=0.956), [51], 109)) == "inconsistent"


def test_when_observations_have_parents_then_the_interval_of_the_parents_is_told():
    fact = invented("99.0%", n=10_600, low=0.988, high=0.992)
    check = intervals.independent("x", fact, 100, "parents", "Clopper-Pearson", 3)
    assert say(check) == "undecidable" and "94.6 to 100.0 %" in check.found  # 99 of 100


# --- counts -------------------------------------------------------------------------------------------------------


def number(printed, name="a.x", unit="images"):
    return invented(printed, name, unit=unit)


def test_when_parts_make_the_whole_then_consistent_and_else_the_sum_is_told():
    parts = [number("2,538"), number("1,345")]
    assert say(counts.total("x", number("3,883"), parts)) == "consistent"
    check = counts.total("x", number("3,884"), parts)
    assert say(check) == "inconsistent" and "2,538 + 1,345 is not 3,884, but 3,883" in check.sentence
    assert say(counts.total("x", number("3,884"), parts, undecided="Perhaps one was left out.")) == "undecidable"


def test_when_a_product_is_printed_then_the_image_itself_may_be_counted_with_its_children():
    factors = [number("102"), number("10")]
    assert say(counts.product("x", number("1122"), factors, plus=1)) == "consistent"
    assert say(counts.product("x", number("1122"), factors)) == "inconsistent"


def test_when_a_limit_is_passed_then_inconsistent():
    assert say(counts.at_most("x", number("633"), 1000, "the images")) == "consistent"
    check = counts.at_most("x", number("5,856"), 5232, "the 5,232 images")
    assert say(check) == "inconsistent" and check.gap == pytest.approx(624 / 5856)
    assert say(counts.at_least("x", number("159,530"), 150_000, "'over 150,000'")) == "consistent"
    assert say(counts.at_least("x", number("149,530"), 150_000, "'over 150,000'")) == "inconsistent"


def test_when_a_share_is_printed_then_it_is_held_against_its_parts_within_rounding():
    assert say(counts.part("x", invented("20%"), number("22,062"), number("112,120"))) == "consistent"  # 19.7 %
    assert say(counts.part("x", invented("20%"), number("8,388"), number("48,915"))) == "inconsistent"  # 17.1 %


# --- predictive values --------------------------------------------------------------------------------------------


def row_of(tp, fn, tn, fp, digits=3, **changed):
    n = tp + fn + tn + fp
    values = {"accuracy": (tp + tn) / n, "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}
    values |= {"ppv": tp / (tp + fp), "npv": tn / (tn + fn)} | changed
    return {
        name: invented(f"{value:.{digits}f}", f"a.{name}", quantity=f"{name}, row") for name, value in values.items()
    }


def slowly(row, n):
    """Every number of positives for which some table prints as the row: all tables tried."""
    found = set()
    for p in range(1, n):
        for tp, tn in itertools.product(range(p + 1), range(n - p + 1)):
            fp, fn = n - p - tn, p - tp
            values = {"accuracy": (tp + tn) / n, "sensitivity": tp / p, "specificity": tn / (n - p)}
            values |= {"ppv": tp / (tp + fp) if tp + fp else np.nan, "npv": tn / (tn + fn) if tn + fn else np.nan}
            if all(row[name].holds(values[name]) for name in row):
                found.add(p)
    return sorted(found)


@pytest.mark.parametrize("digits", [1, 2])
def test_when_positives_are_worked_out_then_they_are_those_of_a_search_of_all_tables(digits):
    row = row_of(9, 3, 14, 8, digits=digits)
    found = predictive.positives(row, 34).tolist()
    assert found == slowly(row, 34) and 12 in found


def test_when_a_row_hangs_together_then_its_positives_are_told_and_else_the_value_that_does_not():
    assert say(predictive.one_row("x", row_of(253, 13, 5382, 16414), 22062)) == "consistent"
    check = predictive.one_row("x", row_of(253, 13, 5382, 16414, ppv=0.025), 22062)
    assert say(check) == "inconsistent" and check.mend.startswith("ppv 0.015, 10 in the last digit")


def test_when_rows_of_one_test_set_share_no_number_of_positives_then_inconsistent_and_the_odd_one_is_named():
    good = [row_of(95, 5, 800, 100), row_of(95, 5, 450, 450)]
    check, shared = predictive.one_test_set("x", good, 1000, number("1,000"))
    assert say(check) == "consistent" and 100 in shared
    odd = {name: invented(f.text, f.id, quantity="value, the odd one") for name, f in row_of(190, 10, 400, 400).items()}
    check, shared = predictive.one_test_set("x", [*good, odd], 1000, number("1,000"))
    assert say(check) == "inconsistent" and not len(shared) and "the odd one" in check.mend


def test_when_a_joint_set_is_not_the_sum_of_its_parts_then_inconsistent():
    parts = [np.array([10, 11]), np.array([5])]
    options = number("100"), [number("60"), number("40")]
    check, shared = predictive.sum_of_parts("x", np.array([14, 15, 17]), parts, *options)
    assert say(check) == "consistent" and shared.tolist() == [15]
    check, shared = predictive.sum_of_parts("x", np.array([17, 18]), parts, *options)
    assert say(check) == "inconsistent" and not len(shared)


# --- curves and means ---------------------------------------------------------------------------------------------


def test_when_an_auroc_is_beyond_what_its_point_allows_then_inconsistent():
    point = invented("90%"), invented("80%")
    assert points.auroc_bounds(0.9, 0.8) == (pytest.approx(0.72), pytest.approx(0.98))
    assert say(points.auroc_fits("x", invented("95%"), *point)) == "consistent"
    assert say(points.auroc_fits("x", invented("99.5%"), *point)) == "inconsistent"
    assert say(points.auroc_fits("x", invented("60%"), *point)) == "inconsistent"


def test_when_a_joint_auroc_cannot_arise_from_its_parts_then_inconsistent():
    # Two groups of 10 and 10: 200 of 400 pairs are within groups, so .7 within needs (.8 - .35) / .5 = .9 across.
    parts = [(invented("0.700"), 10, 10), (invented("0.700"), 10, 10)]
    assert points.between_groups(invented("0.800"), parts) == (
        pytest.approx(0.9, abs=2e-3),
        pytest.approx(0.9, abs=2e-3),
    )
    assert say(points.mixture("x", invented("0.800"), parts)) == "consistent"
    assert say(points.mixture("x", invented("0.900"), parts)) == "inconsistent"
    assert say(points.mixture("x", invented("0.300"), parts)) == "inconsistent"


def test_when_ratios_are_only_in_a_picture_then_undecidable_and_told():
    check = points.ratios_printed("x", invented("90.0%"), invented("80.0%"))
    assert say(check) == "undecidable" and "positive 4.5" in check.found and "negative 0.125" in check.found


def test_when_a_mean_is_printed_then_it_is_held_against_its_values():
    values = [invented(x, unit="ratio") for x in ("0.383", "0.356", "0.365", "0.442")]
    assert say(points.mean_of("x", invented("0.387", unit="ratio"), values)) == "consistent"  # .3865
    assert say(points.mean_of("x", invented("0.397", unit="ratio"), values)) == "inconsistent"
    limits = invented("0.4%"), invented("10.5%")
    assert say(points.mean_in_range("x", invented("4.8%"), *limits, 6)) == "consistent"
    assert say(points.mean_in_range("x", invented("9.8%"), *limits, 6)) == "inconsistent"  # at most (5 x 10.5 + .4) / 6


def test_when_accuracy_lies_outside_sensitivity_and_specificity_then_inconsistent():
    point = invented("0.951"), invented("0.973")
    assert say(points.implied_share("x", invented("97.2%"), *point)) == "consistent"
    assert say(points.implied_share("x", invented("98.2%"), *point)) == "inconsistent"


# --- pools --------------------------------------------------------------------------------------------------------

MODELS = {("a", "1"): 100, ("a", "2"): 300, ("b", "1"): 100, ("b", "2"): 300}


def pools(a, b, one):
    named = zip((a, b, one), "ab1", strict=True)
    return [pooling.Pool(invented(p, f"x.{n}", quantity=n), tuple(m for m in MODELS if n in m)) for p, n in named]


def test_when_accuracies_of_models_give_every_pool_then_consistent_and_their_room_is_told():
    # a: 80 and 90 -> 87.5; b: 60 and 80 -> 75; way 1: 70.
    found = pooling.solve(pools("87.5", "75.0", "70.0"), MODELS)
    assert found[("a", "2")][0] <= 0.9 <= found[("a", "2")][1]
    assert say(pooling.pools_fit("x", pools("87.5", "75.0", "70.0"), MODELS, "by images")) == "consistent"


def test_when_no_accuracies_give_every_pool_then_inconsistent():
    # a pools to 99.9, so way 1 of a is at least 99.6; then way 1 of both is at least 49.8.
    check = pooling.pools_fit("x", pools("99.9", "75.0", "30.0"), MODELS, "by images")
    assert say(check) == "inconsistent" and "another value for" in check.mend


def test_when_a_p_value_is_printed_then_it_is_that_of_the_counts():
    from scipy.stats import chi2_contingency

    a, b = invented("95.0", n=2000, quantity="a"), invented("93.0", n=2000, quantity="b")
    low, high = pooling.chi_squared(a, 2000, b, 2000)
    exact = chi2_contingency([[1900, 100], [1860, 140]], correction=False).pvalue
    assert low < exact < high
    assert say(pooling.p_follows("x", a, b, invented("p < 0.05", unit="1"))) == "consistent"
    assert say(pooling.p_follows("x", a, b, invented("p < 0.001", unit="1"))) == "inconsistent"
    assert say(pooling.p_follows("x", a, b, invented("p < 0.008", unit="1"))) == "undecidable"  # hangs on the rounding
    assert say(pooling.p_by_parents("x", a, 100, b, 100, invented("p < 0.05", unit="1"), "parents")) == "undecidable"


# --- spreads and averages -----------------------------------------------------------------------------------------


def test_when_the_greatest_deviation_is_worked_out_then_no_values_have_a_greater_one():
    rng, k, mean = np.random.default_rng(1), 4, 0.8
    draws = rng.random((200_000, k)) ** 0.3
    near = draws[abs(draws.mean(axis=1) - mean) < 0.002]
    assert near.std(axis=1).max() <= spread.largest_deviation(mean, k, sample=False) + 0.003
    assert spread.largest_deviation(0.945, 4, False) == pytest.approx(0.0953, abs=1e-4)  # 1, 1, 1 and .78
    assert spread.largest_deviation(0.5, 2, True) == pytest.approx(0.5**0.5)  # 0 and 1


def test_when_no_reading_of_a_spread_fits_then_inconsistent_and_else_open():
    assert say(spread.spread_fits("x", invented("0.945"), invented("0.095"), 4)) == "undecidable"
    assert not spread.readings(invented("0.945"), invented("0.095"), 4)["an interval, mean and limits within 0 to 1"]
    assert say(spread.spread_fits("x", invented("0.980"), invented("0.200"), 4)) == "inconsistent"
    assert say(spread.finer_than_mean("x", invented("0.93"), invented("0.06"))) == "consistent"
    check = spread.finer_than_mean("x", invented("0.943"), invented("0.0525"))
    assert say(check) == "undecidable" and "half a range" in check.found


def test_when_total_and_class_average_differ_then_the_set_is_not_balanced():
    assert say(spread.balanced("x", invented("0.94"), invented("0.938"), "balanced")) == "consistent"
    assert say(spread.balanced("x", invented("0.944"), invented("0.945"), "balanced")) == "undecidable"


# --- said twice ---------------------------------------------------------------------------------------------------


def test_when_one_thing_has_two_numbers_or_two_names_then_inconsistent():
    one, other = number("108,309", "a.x"), number("108,312", "b.x")
    check = repeats.two_numbers("x", one, other, "Images")
    assert say(check) == "inconsistent" and check.paper == "a and b" and "differ by 3" in check.sentence
    assert say(repeats.two_numbers("x", one, number("108,309", "b.x"), "Images")) == "consistent"
    quotes = [invented("1000", unit="images", quote=q) for q in ("a test set of 1000", "the validation set of 1000")]
    assert say(repeats.two_names("x", quotes, ["test", "validation"], "The set")) == "inconsistent"
    assert say(repeats.two_names("x", quotes[:1], ["test", "validation"], "The set")) == "consistent"


# --- the whole ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audit():
    began = time.process_time()  # not the clock on the wall: other work on the machine is no fault of the audit's
    table = paper_audit.run_audit()
    return table.set_index("check"), time.process_time() - began


def test_when_all_is_audited_then_it_takes_seconds_and_every_row_is_whole(audit):
    table, seconds = audit
    assert seconds < 10 and len(table) > 200
    assert set(table["outcome"]) == set(paper_audit.OUTCOMES)
    assert (table[["rule", "paper", "where", "printed", "assumption", "found", "sentence"]] != "").all().all()
    assert ((table["mend"] != "") == (table["outcome"] != "consistent")).all()
    papers = set(table["paper"].str.split(" and ").explode())
    assert papers == set(load_published()["paper"])


def test_when_numbers_are_inconsistent_then_they_are_ranked_by_how_much_they_matter(audit):
    worst = paper_audit.ranked(audit[0].reset_index())
    assert worst["rank"].tolist() == list(range(1, len(worst) + 1))
    assert worst["matters"].is_monotonic_decreasing
    assert worst["sentence"].str.len().min() > 20
    assert audit[0].loc[audit[0]["outcome"] != "inconsistent", "rank"].isna().all()


@pytest.mark.parametrize(
    ("check", "outcome"),
    [
        ("kermany2018.table.oct.dme_normal", "consistent"),
        ("kermany2018.table.oct.drusen_normal", "inconsistent"),
        ("kermany2018.table.xray.pneumonia", "inconsistent"),
        ("kermany2018.table.xray.bacterial_viral.bacterial_positive", "inconsistent"),
        ("kermany2018.table.xray.bacterial_viral.viral_positive", "inconsistent"),
        ("kermany2018.grim.xray.pneumonia.accuracy", "consistent"),
        ("kermany2018.grim.xray.bacterial_viral.sensitivity", "inconsistent"),
        ("kermany2018.weighted.multiclass.as_said", "inconsistent"),
        ("kermany2018.weighted.limited", "inconsistent"),
        ("kermany2018.counts.oct.train_images", "consistent"),
        ("kermany2018.counts.xray.train_patients", "inconsistent"),
        ("kermany2018.design.epochs", "inconsistent"),
        ("rajkomar2017.counts.augmented.train", "consistent"),
        ("rajkomar2017.interval.test", "consistent"),
        ("rajkomar2017.pools", "consistent"),
        ("rajkomar2017.p.augmentation.parents", "undecidable"),
        ("rajkomar2017.transformed.frontal.by_cutoff", "undecidable"),
        ("zech2018.positives.msh_nih_iu.sum", "consistent"),
        ("zech2018.f1.mean", "consistent"),
        ("carr2020.counts.covid.augmented", "consistent"),
        ("carr2020.counts.bridge", "inconsistent"),
        ("carr2020.balanced.covid", "undecidable"),
    ],
)
def test_when_audited_then_this_is_what_the_printed_numbers_say(audit, check, outcome):
    assert audit[0].loc[check, "outcome"] == outcome


@pytest.mark.parametrize(
    ("paper", "changes", "check", "outcome"),
    [
        ("kermany2018", {"oct.drusen_normal.accuracy": "98.6%"}, "kermany2018.table.oct.drusen_normal", "consistent"),
        ("kermany2018", {"oct.dme_normal.accuracy": "98.3%"}, "kermany2018.table.oct.dme_normal", "inconsistent"),
        ("kermany2018", {"xray.data.train_patients": "1,856"}, "kermany2018.counts.xray.train_patients", "consistent"),
        ("rajkomar2017", {"augmentation.children": "105"}, "rajkomar2017.counts.augmented.train", "inconsistent"),
        ("rajkomar2017", {"view.pooled.color": "90.2"}, "rajkomar2017.pools", "inconsistent"),
        ("zech2018", {"generalization.nih.msh.ppv": "0.441"}, "zech2018.positives.nih.msh", "inconsistent"),
        ("carr2020", {"retina.data.bridge_images": "108,312"}, "carr2020.counts.bridge", "consistent"),
    ],
)
def test_when_a_printed_number_is_changed_then_the_answer_follows(tmp_path, paper, changes, check, outcome):
    folder = shutil.copytree(PUBLISHED, tmp_path / "published")
    rows = pd.read_csv(folder / f"{paper}.csv", dtype=str, keep_default_na=False).set_index("id", drop=False)
    for name, printed in changes.items():
        fact = invented(printed, unit=rows.loc[f"{paper}.{name}", "unit"])
        rows.loc[f"{paper}.{name}", ["value", "printed"]] = [repr(fact.value), printed]
    rows.to_csv(folder / f"{paper}.csv", index=False)
    assert paper_audit.run_audit(folder).set_index("check").loc[check, "outcome"] == outcome


def test_when_a_fact_is_missing_then_the_nearest_is_named():
    with pytest.raises(
        ClaimError, match="needs 'kermany2018.oct.multiclass.acuracy'.*did you mean kermany2018.oct.multi"
    ):
        Facts.load()["kermany2018.oct.multiclass.acuracy"]


def test_when_a_check_is_not_whole_then_it_is_refused():
    options = {"assumption": "none", "found": "nothing", "sentence": "No."}
    with pytest.raises(ValueError, match="no outcome 'perhaps'"):
        checked("x", "rule", [invented("50%")], "perhaps", matters=1, **options)
    with pytest.raises(ValueError, match="no change is named"):
        checked("x", "rule", [invented("50%")], False, matters=1, **options)
    with pytest.raises(ValueError, match="two checks are called"):
        as_frame([Check("a", "r", "p", "w", "1", "n", "consistent", "f", 1, "s.")] * 2)


def test_when_numbers_follow_from_others_then_they_are_the_claims_of_this_notebook():
    published = load_published()
    mine = published[(published["notebook"] == "13_paper_audit") & (published["repeats"] == "")]
    assert sorted(mine["id"]) == sorted(derived(Facts.load()))


def test_when_drawn_then_the_figures_show_what_the_checks_found():
    from matplotlib import pyplot as plt

    from helpers.audit import figures as draw

    facts = Facts.load()
    widths, positives = shown_in_figures.interval_widths(facts), shown_in_figures.positives(facts)
    assert len(widths) == 17 and (widths[["printed", "recomputed"]] > 0).all().all()
    assert set(positives["site"]) == set(shown_in_figures.SITES) and positives["low"].notna().all()
    figures = [
        draw.attainable(shown_in_figures.proportions(facts)),
        draw.two_by_two(shown_in_figures.tables(facts)),
        draw.weighted_errors(shown_in_figures.weighted_errors(facts)),
        draw.widths_and_positives(widths, positives, shown_in_figures.SITES),
    ]
    words = [text.get_text() for text in figures[0].findobj(plt.Text)]
    assert "363 or 364 of 390" in words and "242 of 250" in words
    plt.close("all")
