"""The audit: each rule on numbers that nobody published, which hold and which do not; then the checks of the papers."""

import itertools
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from helpers.audit import checks as audit
from helpers.audit import rules, rules_tables
from helpers.audit.facts import VALUES, ScoredSet, as_fact, braces, possible_positives
from helpers.audit.rules import RULES
from helpers.metrics.estimate import Estimate
from helpers.run.claims import ClaimError, load_published, printed_number, verdict
from helpers.run.paths import PUBLISHED
from helpers.zech.generalization import POSSIBLE_POSITIVES

CHECKS = "audit_checks.toml"
CHANGES = pd.read_csv(Path(__file__).parent / "fixtures/audit_changes.csv", dtype=str)  # of one printed number each


def fact(printed, n=None, unit="proportion", name="a.x", limits=(math.nan, math.nan), quote="", quantity=""):
    """A printed number that nobody published: `fact('96.6%', n=1000)`."""
    row = {"id": name, "paper": name.split(".")[0], "where": "nowhere", "quantity": quantity or name}
    row |= {"value": printed_number(printed, unit == "proportion")[0], "low": limits[0], "high": limits[1], "n": n}
    return as_fact(pd.Series(row | {"unit": unit, "printed": printed, "quote": quote}, dtype=object))


def number(printed, name="a.x"):
    return fact(printed, unit="images", name=name)


def facts(*printed, **options):
    return [fact(one, **options) for one in printed]


def good(rule, *given, **parameters):
    """What the rule says: True, False or None (nobody can tell); it says in words what it found."""
    answer = RULES[rule][0](*given, **parameters)
    assert answer.found or rule == "claim"
    return answer.good


# --- rounding and patterns ----------------------------------------------------------------------------------------


def test_a_printed_number_holds_what_rounds_to_it_and_agrees_with_what_may():
    one = fact("93.2%")
    assert one.holds(0.9315) and one.holds(0.93249) and not one.holds(0.9314) and not one.holds(0.9326)
    assert (one.show(0.93077), one.steps(0.93077), one.steps(0.9321)) == ("93.1 %", 1, 0)
    assert fact("0.945").show(0.9412) == "0.941" and number("5,856").show(5232) == "5,232"
    assert not fact("0.944").agrees(fact("0.945"))  # 0.9445 is printed as one of them, not as both
    assert fact("100%").agrees(fact("100.0%")) and fact("96.6%").agrees(fact("97%"))


def test_a_pattern_names_several_facts():
    assert braces("a.{x,y}.{1,2}") == ["a.x.1", "a.x.2", "a.y.1", "a.y.2"]


# --- counts, sums, averages, words --------------------------------------------------------------------------------


def test_a_proportion_needs_a_count():
    assert list(fact("93.1%").counts(390)) == [363]  # 363 / 390 = .93077
    assert good("attainable", fact("93.1%", n=390)) and not good("attainable", fact("93.2%", n=390))
    answer = rules.attainable(fact("93.2%", n=390))
    assert "93.1 % (363 of 390) or 93.3 % (364 of 390)" in answer.found
    assert answer.mend == "93.1 % (363 of 390), 1 in the last digit; or n = 385, 5 away"  # 359 / 385 = .93247
    assert answer.rounding == rules.NO_ROUNDING


def test_a_proportion_that_hangs_on_the_rounding_or_on_the_class_is_undecidable():
    cut, rounded = fact("90.1%", n=234), fact("92.8%", n=624)  # 211 / 234 = .90171; 579 / 624 = .92788, cut off 92.7
    assert list(cut.cut_off(234)) == [211] and not fact("93.2%").cut_off(390) and list(fact("90.0%").cut_off(10)) == [9]
    assert good("attainable", cut) is None
    answer = rules.attainable(cut, rounded=rounded)
    assert answer.good is False and "92.8% beside it is rounded (579 of 624)" in answer.rounding
    either = {"sizes": [number("148"), number("242")]}  # 220 / 242 = .90909; 134 / 148 = .90541
    answer = rules.attainable(fact("90.9%"), **either)
    assert answer.good is None and answer.found == "220 of 242; no count of 148"
    answer = rules.attainable(fact("88.6%"), **either)
    assert answer.good is False and answer.mend.startswith("88.5 % (131 of 148), 1 in the last digit")


def test_sums_products_and_limits():
    parts = number("2,538"), number("1,345")
    assert good("total", number("3,883"), *parts) and not good("total", number("3,884"), *parts)
    assert good("product", number("1122"), number("102"), number("10"), plus=1)
    assert not good("product", number("1122"), number("102"), number("10"))
    assert good("equal", fact("20%"), made=0.197, how="") and not good("equal", fact("20%"), made=0.171, how="")
    assert good("at_most", number("633"), limit=1000, how="") and good(
        "at_most", number("633"), limit=500, how="", minimum=True
    )
    assert not good("at_most", number("149,530"), limit=150_000, how="", minimum=True)
    over = rules.at_most(number("5,856"), limit=5232, how="the images")
    assert not over.good and over.gap == pytest.approx(624 / 5856) and over.mend == "5,232 or less in place of 5,856"


def test_an_accuracy_and_a_class_average_may_print_as_two_numbers():
    # 49, 47, 48 and 43 of 50: in floating point the same number prints as two.
    recalls = [0.98, 0.94, 0.96, 0.86]
    assert (f"{187 / 200:.2f}", f"{sum(recalls) / 4:.2f}") == ("0.94", "0.93")
    assert good("balanced", *facts("0.94", "0.93"), classes=4, most=60)
    assert good("balanced", *facts("0.94", "0.93"), classes=4, most=40) is None
    assert good("balanced", *facts("0.94", "0.92"), classes=4, most=60) is None


def test_one_thing_has_one_number():
    assert good("two_numbers", *facts("96.6%", "97%")) and not good("two_numbers", *facts("96.6%", "95%"))


def test_a_claim_holds_fails_or_cannot_be_told():
    assert [good("claim", fact("1"), good=what) for what in (1 > 0, 1 < 0, None)] == [True, False, None]


# --- results ------------------------------------------------------------------------------------------------------


def test_one_table_of_two_by_two_gives_all_three():
    sizes = {"positives": number("250"), "negatives": number("250")}
    assert good("one_table", *facts("98.2%", "96.8%", "99.6%"), **sizes)  # 242 and 249
    answer = rules_tables.one_table(*facts("99.0%", "98.0%", "99.2%"), **sizes)
    assert not answer.good and "make 493 right, which is 98.6 %" in answer.found
    assert answer.mend.startswith(
        "accuracy 98.6 % (4 in the last digits; 245 of 250 positives and 248 of 250 negatives"
    )
    assert "sensitivity 98.8 %" in answer.mend and "specificity 100.0 %" in answer.mend
    other = {"positives": number("10"), "negatives": number("40")}  # 9 of 10 and 20 of 40 are 58 %
    assert good("one_table", *facts("58%", "90%", "50%"), **other)
    assert good("one_table", *facts("58%", "50%", "90%"), **other)  # the same, the other class positive


def test_the_smallest_change_is_that_of_a_search_of_all_tables():
    table = rules_tables.TwoByTwo(dict(zip(VALUES, facts("70%", "60%", "60%"), strict=False)), 13, 9)
    steps, _, _, changed = rules_tables.smallest_changes(table)[0]
    costs = []
    for tp, tn in itertools.product(range(14), range(10)):
        away = [int(one.steps(v)) for one, v in zip(table.facts.values(), table.values(tp, tn), strict=True)]
        costs.append((sum(s > 0 for s in away), sum(away)))
    assert (len(changed), steps) == min(costs) and table.tables() == []


def test_accuracy_lies_between_sensitivity_and_specificity():
    low, high = rules_tables.implied_share(*facts("90.0%", "80.0%", "95.0%"))
    assert low < 1 / 3 < high and high - low < 0.02  # .8 x 1/3 + .95 x 2/3 = .9
    assert good("accuracy_between", *facts("90.0%", "80.0%", "95.0%"))
    assert not good("accuracy_between", *facts("99.0%", "80.0%", "95.0%"))


def test_a_weighted_error_is_one_that_the_rest_allows():
    def model(*printed):
        return [fact(text, n=n) for text, n in zip(printed, (1000, 500, 500, 1000), strict=False)]

    penalties = [number(x) for x in "421"]
    # 34 wrong, 11 urgent missed, 13 needless: 23 points and 2 or 4 for each of the 11, so 45, 47, ... 67.
    best = model("96.6%", "97.8%", "97.4%")
    assert list(rules_tables.penalty_totals(best, penalties, none_as_normal=True)) == [45]
    assert sorted(rules_tables.penalty_totals(best, penalties)) == list(range(45, 68, 2))
    assert good("weighted_error", *best, fact("4.5%"), penalties=penalties)
    free = rules_tables.weighted_error(*best, fact("6.6%"), penalties=penalties)  # 66 is even, every possible sum odd
    assert not free.good and "6.5 %, 6.7 %" in free.found and "sensitivity 97.6 %" in free.mend
    assert free.more["least"] == "4.5 %" and "another threshold" in free.mend
    assert not good("weighted_error", *model("99.9%", "90.0%", "90.0%", "5.0%"), penalties=penalties)


def row_of(tp, fn, tn, fp, digits=3, **changed):
    n = tp + fn + tn + fp
    values = {"accuracy": (tp + tn) / n, "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}
    values |= {"ppv": tp / (tp + fp), "npv": tn / (tn + fn)} | changed
    return {name: fact(f"{values[name]:.{digits}f}", quantity=name) for name in VALUES}


def test_possible_positives_are_those_of_a_search_of_all_tables():
    row, n, slowly = row_of(9, 3, 14, 8, digits=1), 34, set()
    for p in range(1, n):
        for tp, tn in itertools.product(range(p + 1), range(n - p + 1)):
            fp, fn = n - p - tn, p - tp
            values = [(tp + tn) / n, tp / p, tn / (n - p), tp / (tp + fp) if tp + fp else math.nan]
            values.append(tn / (tn + fn) if tn + fn else math.nan)
            if all(row[name].holds(value) for name, value in zip(VALUES, values, strict=True)):
                slowly.add(p)
    found = possible_positives(row, n)
    assert found.tolist() == sorted(slowly) and 12 in found


def test_rows_and_parts_share_a_number_of_positives():
    rows = {"one": row_of(95, 5, 800, 100), "two": row_of(95, 5, 450, 450)}
    both = ScoredSet("s", number("1,000"), rows)
    assert good("positives_of_set", both.size, test_set=both) and 100 in both.positives
    odd = ScoredSet("s", number("1,000"), rows | {"odd": row_of(190, 10, 400, 400)})
    answer = rules_tables.positives_of_set(odd.size, test_set=odd)
    assert not answer.good and answer.mend == "other values odd"
    part = ScoredSet("p", number("500"), {"one": row_of(45, 5, 400, 50)})
    joint = ScoredSet("j", number("1,000"), {"one": row_of(90, 10, 800, 100)}, (part, part))
    assert good("positives_of_parts", joint.size, test_set=joint) and 100 in joint.positives
    unlike = ScoredSet("j", number("1,000"), {"one": row_of(180, 20, 700, 100)}, (part, part))
    assert not good("positives_of_parts", unlike.size, test_set=unlike) and not len(unlike.positives)


def test_an_auroc_fits_its_point_and_its_parts():
    point = facts("90%", "80%")  # at least .72, at most .98
    assert good("auroc_at_point", fact("95%"), *point)
    assert not good("auroc_at_point", fact("99.5%"), *point) and not good("auroc_at_point", fact("60%"), *point)
    # Two groups of 10 and 10: 200 of 400 pairs are within groups, so .7 within needs (.8 - .35) / .5 = .9 across.
    across = rules_tables.between_groups(fact("0.800"), facts("0.700", "0.700"), [(10, 10), (10, 10)])
    assert across == pytest.approx((0.9, 0.9), abs=2e-3)
    part = ScoredSet("p", number("100"), {"one": row_of(45, 5, 45, 5)})
    joint = ScoredSet("j", number("200"), {"one": row_of(90, 10, 90, 10)}, (part, part))
    for printed, expected in (("0.800", True), ("0.900", False), ("0.300", False)):
        assert good("auroc_of_parts", fact(printed), *facts("0.700", "0.700"), test_set=joint) is expected


def test_an_interval_follows_from_its_method_and_n():
    options = {"method": "Clopper-Pearson", "whose": ["both", "one"]}
    both = fact("100 %", n=1377, limits=(0.9973, 1.0))  # 0.025 ** (1 / 1377) = .99732
    answer = rules_tables.interval_follows(both, sizes=[number("1377"), number("377")], **options)
    assert answer.good and answer.more["others"] == "n = 377 (one) would give 99.03 to 100.00 %"
    wald = fact("90.0%", n=100, limits=(0.841, 0.959))  # .9 -+ 1.96 x .03
    options |= {"sizes": [number("100")], "whose": ["all"]}
    answer = rules_tables.interval_follows(wald, **options)
    assert (
        not answer.good and answer.found == "fits Wald of 100 (all) with 10 wrong" and answer.mend == "82.4 to 95.1 %"
    )
    assert good("interval_follows", wald, **options | {"method": "Wald"})
    # Of the counts of 39,856 that print as 99.73 %, two have an interval of 99.67 to 99.78 %.
    many = fact("99.73 %", n=39_856, limits=(0.9967, 0.9978))
    assert rules_tables.fits_interval(many, 39_856, "Clopper-Pearson") == [39_747, 39_748]


def test_what_dependent_images_leave_of_an_interval_and_a_p_value():
    a, b = fact("99.0%", n=10_600, limits=(0.988, 0.992)), fact("97.0%", n=10_600)
    options = {"units": number("100"), "models": [[1, 1]], "method": "Clopper-Pearson"}
    answer = rules_tables.if_dependent(a, a, b, fact("p < 0.001", unit="1"), **options)
    assert answer.good is False and "99.0% has 94.6 to 100.0 %" in answer.found  # 99 of 100
    options["models"] = [[100, 100]]
    assert good("if_dependent", a, a, b, fact("p < 0.001", unit="1"), **options)


def test_an_aurocs_interval_is_about_as_wide_as_hanley_and_mcneils():
    # At .893 of 50 and 50 their standard error is .034, so 1.96 x 2 x that: .133 wide.
    some = {"one": ScoredSet("s", number("100"), {"one": row_of(45, 5, 45, 5)})}
    for limits, expected in (((0.827, 0.959), True), ((0.879, 0.906), None), ((0.9, 0.956), False)):
        area = fact("0.893", limits=limits, name="a.generalization.x.one.auroc")
        assert good("auroc_widths", area, test_sets=some) is expected


def test_pooled_accuracies_fit_each_other():
    options = {"rows": ["a", "b"], "columns": ["1", "2"], "sizes": [number("100"), number("300")]}
    options["pools"] = [["a"], ["b"], ["1"]]
    # a: 80 and 90 -> 87.5; b: 60 and 80 -> 75; column 1: 70.
    assert good("pools_fit", *facts("87.5", "75.0", "70.0"), **options)
    # a pools to 99.9, so column 1 of a is at least 99.6; then column 1 of both is at least 49.8.
    assert not good("pools_fit", *facts("99.9", "75.0", "30.0"), **options)


def test_a_p_value_is_that_of_the_counts():
    from scipy.stats import chi2_contingency

    a, b = fact("95.0", n=2000), fact("93.0", n=2000)
    low, high = rules.chi_squared(a, 2000, b, 2000)
    assert low < chi2_contingency([[1900, 100], [1860, 140]], correction=False).pvalue < high
    for printed, expected in (("p < 0.05", True), ("p < 0.001", False), ("p < 0.008", None)):  # None: by rounding
        assert good("p_follows", a, b, fact(printed, unit="1")) is expected


# --- the checks of the papers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    return audit.load_checks()


@pytest.fixture(scope="module")
def table(checks):
    return audit.run_audit(checks)


@pytest.fixture(scope="module")
def outcome(table):
    return table.set_index("check")["outcome"]


def test_every_row_is_whole(checks, table):
    assert len(checks) == len(table) and set(table["outcome"]) == set(audit.OUTCOMES)
    assert (table[["rule", "paper", "where", "printed", "assumption", "found", "sentence"]] != "").all().all()
    assert ((table["mend"] != "") == (table["outcome"] != "consistent")).all()
    assert set(table["paper"].str.split(" and ").explode()) == set(load_published()["paper"])
    texts = table[["found", "sentence", "assumption", "mend"]].stack()
    assert not texts.str.contains(r"\bnan\b|[{}$]").any()
    assert audit.findings(table)["matters"].is_monotonic_decreasing
    assert audit.tally(table).loc["all"].tolist() == [115, 12, 22, 149]  # by outcome, and in all


def test_every_rule_is_used_and_every_entry_has_known_keys(checks):
    assert {check.rule for check in checks} == set(RULES)
    known = {"id", "paper", "rule", "facts", "given", "with", "formulas", "assumption", "matters", "otherwise", "title"}
    known |= {"found", "mend", "why", "sentence", "question", "derived", "rounding"}
    assert set().union(*(check.texts for check in checks)) <= known
    assert {check.texts.get("otherwise", "inconsistent") for check in checks} <= set(audit.OUTCOMES)


@pytest.mark.parametrize(("name", "printed", "check", "before", "after"), CHANGES.itertuples(index=False))
def test_the_outcome_follows_a_changed_number(tmp_path, outcome, name, printed, check, before, after):
    folder, paper = shutil.copytree(PUBLISHED, tmp_path / "published"), name.split(".")[0]
    rows = pd.read_csv(folder / f"{paper}.csv", dtype=str, keep_default_na=False).set_index("id", drop=False)
    value = printed_number(printed, rows.loc[name, "unit"] == "proportion")[0]
    rows.loc[(rows["id"] == name) | (rows["repeats"] == name), ["value", "printed"]] = [repr(value), printed]
    rows.to_csv(folder / f"{paper}.csv", index=False)
    now = next(one for one in audit.load_checks(folder) if one.id == f"{paper}.{check}").row()["outcome"]
    assert [outcome[f"{paper}.{check}"], now] == [before, after]


def test_every_consistent_check_fails_for_some_other_numbers(checks, monkeypatch):
    alike = {check.id for check in checks if check.answer().good}
    change = random.Random(1)

    def other(row):
        one, factor = as_fact(row), change.choice((0.03, change.uniform(0.1, 1.5)))
        limits = one.limits and (0.7 * one.limits[0], one.limits[1])
        most = 1 if row["unit"] == "proportion" else math.inf
        return replace(one, value=min(most, one.value * factor), limits=limits)

    monkeypatch.setattr("helpers.audit.facts.as_fact", other)
    for _ in range(20):
        alike -= {check.id for check in audit.load_checks() if check.id in alike and not check.answer().good}
    assert alike == set()


FOUND = """design.sensitivity_as_ranking design.sensitivity_definition counts.xray.train_patients weighted.limited
    weighted.multiclass table.oct.drusen_normal table.xray.pneumonia table.xray.bacterial_viral
    grim.xray.pneumonia.sensitivity grim.xray.pneumonia.specificity grim.xray.bacterial_viral.accuracy
    grim.xray.bacterial_viral.sensitivity"""


def test_what_survives_a_hostile_reading_is_listed_with_assumption_rounding_and_mend(table):
    worst = audit.findings(table)
    assert set(worst["check"].str.split("; ").explode()) == {f"kermany2018.{name}" for name in FOUND.split()}
    assert len(worst) == 8 and "88.6%: no count" in worst["found"][3]  # one finding, one row
    assert (worst[["assumption", "rounding", "mend"]] != "").all().all()


def test_a_check_that_hangs_on_the_rounding_must_say_why_it_does_not(checks):
    check = next(one for one in checks if one.id == "kermany2018.grim.oct.dme_normal.sensitivity")
    cut = replace(check, facts=(fact("82.1%", n=250),), texts={**check.texts, "rule": "total"})
    cut = replace(cut, facts=(fact("82.1%"), fact("82.17%")))  # .8217 is 82.2 %, cut off 82.1
    with pytest.raises(ClaimError, match="hangs on how its numbers were rounded"):
        cut.row()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "pools"', 'id = "counts.test"', "two checks are called rajkomar2017.counts.test"),
        ('facts = "data.{studies,', 'facts = "data.{study,', "needs 'rajkomar2017.data.study'.*did you mean"),
    ],
)
def test_a_slip_in_the_file_of_checks_is_named(tmp_path, old, new, message):
    folder = shutil.copytree(PUBLISHED, tmp_path / "published")
    text = (folder / CHECKS).read_text(encoding="utf-8")
    assert old in text
    (folder / CHECKS).write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ClaimError, match=message):
        audit.run_audit(audit.load_checks(folder))


def test_numbers_that_follow_from_others_are_the_claims_of_this_notebook(checks):
    published = load_published()
    mine = published[(published["notebook"] == "13_paper_audit") & (published["repeats"] == "")]
    found = audit.derived(checks)
    assert sorted(mine["id"]) == sorted(found)
    rows = mine.set_index("id", drop=False)  # the mean of four F1 is .3865, half-way to the printed .387
    assert {verdict(rows.loc[name], Estimate.exact(value)).word for name, value in found.items()} == {"reproduced"}


@pytest.mark.parametrize(("name", "items"), [("claim_2024", 44), ("probast_ai", 34)])
def test_each_paper_is_held_against_every_item_of_a_checklist(tmp_path, name, items):
    table = audit.load_appraisal(name)
    assert set(table["paper"]) == set(load_published()["paper"]) and (table.groupby("paper").size() == items).all()
    assert (table.groupby("item")["question"].nunique() == 1).all()
    for column, value, why in (("judgement", "maybe", "unknown"), ("quote", "", "quote"), ("place", "", "place")):
        table.assign(**{column: [value, *table[column][1:]]}).to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(ClaimError, match=f"{why}.*kermany2018, item {table['item'][0]}"):
            audit.load_appraisal(name, tmp_path)


def test_one_no_makes_a_domain_a_high_risk_and_a_missing_answer_an_unclear_one():
    answers = {"D1.1": "yes", "D1.2": "probably no", "D2.1": "probably yes", "E4.1": "no information"}
    rows = {"item": list(answers), "judgement": list(answers.values()), "paper": "p"}
    risks = audit.rate_domains(pd.DataFrame(rows))
    assert risks["p"].tolist() == ["high", "low", "unclear"]


def test_figures_show_what_the_checks_found(checks):
    from matplotlib import pyplot as plt

    from helpers.audit import figures

    widths, positives = figures.interval_widths(checks), figures.positives(checks)
    assert len(widths) == 17 and (widths[["printed", "recomputed"]] > 0).all().all()
    shared = positives[positives["what"] == "shared"].set_index("site")[["low", "high"]]
    assert len(positives) == 22 and {k: tuple(shared.loc[k.upper()]) for k in POSSIBLE_POSITIVES} == POSSIBLE_POSITIVES
    drawn = figures.attainable(checks)
    words = [text.get_text() for text in drawn.findobj(plt.Text)]
    assert "363 or 364 of 390" in words and "242 of 250" in words
    assert len(figures.two_by_two(checks).axes) == 4 and len(figures.intervals_and_positives(checks).axes) == 2
    assert len(figures.weighted_errors(checks).axes[0].get_yticklabels()) == 2
    plt.close("all")
