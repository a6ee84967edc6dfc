"""Statistics of several hospitals: AUROCs whose images overlap, table 3, the hospital alone, remedies."""

import numpy as np
import pandas as pd
import pytest

from helpers.audit.facts import Facts
from helpers.metrics.auroc import auroc, compare_aurocs, compare_independent_aurocs
from helpers.metrics.clustered_auroc import area, less, mean
from helpers.run.published import load_published
from helpers.zech import generalization, imbalance, site_claims, site_prevalence, site_remedies


def simulated(n=300, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    return truth, rng.normal(size=n) + shift * truth, np.array([f"p{k}" for k in range(n)])


def test_with_one_image_a_patient_it_is_delong():
    truth, score, patients = simulated()
    one, theirs = area(truth, score, patients).estimate(), auroc(truth, score)
    assert (one.value, one.low, one.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=1e-9)


def test_two_scores_of_the_same_images_compare_as_delong_has_it():
    truth, score, patients = simulated()
    other = score + np.random.default_rng(1).normal(size=len(score))
    found, theirs = (
        less(area(truth, score, patients), area(truth, other, patients)),
        compare_aurocs(truth, score, other),
    )
    assert found.p == pytest.approx(theirs.p, abs=1e-9)
    assert found.difference().low == pytest.approx(theirs.difference.low, abs=1e-9)


def test_sets_without_a_patient_in_common_compare_as_independent():
    (ta, sa, pa), (tb, sb, pb) = simulated(seed=1), simulated(seed=2, shift=0.5)
    found = less(area(ta, sa, pa), area(tb, sb, np.char.add("q", pb)))
    assert found.p == pytest.approx(compare_independent_aurocs(ta, sa, tb, sb).p, abs=1e-9)


def test_every_image_twice_does_not_make_the_interval_narrower():
    truth, score, patients = simulated()
    twice = area(np.tile(truth, 2), np.tile(score, 2), np.tile(patients, 2))
    assert twice.error == pytest.approx(area(truth, score, patients).error, rel=0.01)


def test_a_set_against_itself_differs_by_nothing_and_its_mean_with_itself_is_itself():
    one = area(*simulated())
    assert less(one, one).value == 0 and less(one, one).p == 1.0
    assert mean([one, one]).error == pytest.approx(one.error)


def test_the_interval_of_a_joint_set_less_its_part_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        truth, score, patients = simulated(240, seed)
        part = np.arange(240) < 120
        found = less(area(truth, score, patients), area(truth[part], score[part], patients[part])).difference()
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199


def test_without_both_classes_there_is_no_value_and_it_says_why():
    lone = area([True, True], [1.0, 2.0], ["a", "b"])
    assert not lone.estimate().defined and "no negatives" in lone.estimate().note and np.isnan(lone.p)
    assert not less(lone, area(*simulated())).difference().defined
    assert mean([lone, area(*simulated())]).value == area(*simulated()).value


def test_perfect_separation_has_an_exact_bound():
    found = area([True] * 5 + [False] * 5, range(10, 0, -1), list("abcdefghij")).estimate()
    assert found.value == 1 and 0 < found.low < 1


# --- table 3 --------------------------------------------------------------------------------------------------------


def test_the_threshold_is_the_highest_that_keeps_the_sensitivity():
    truth, score = np.array([True] * 20 + [False]), np.append(np.arange(20.0), 5)
    assert generalization.threshold_at(truth, score) == 1.0
    assert (score[truth] >= generalization.threshold_at(truth, score)).mean() == 0.95
    assert np.isnan(generalization.threshold_at([False], [1.0]))


@pytest.mark.parametrize(
    ("trained", "tested", "word"),
    [
        ("A", "A", "internal"),
        ("A", "B", "external"),
        ("AB", "A", "subset"),
        ("A", "AB", "superset"),
        ("AB", "BC", "superset"),
    ],
)
def test_a_test_set_is_called_what_the_talk_calls_it(trained, tested, word):
    assert generalization.kind(trained, tested) == word


SITES = ("NIH-like", "MSH-like", "IU-like")


def scores_of(site_effect=2.0, seed=0):
    """Scores of heads for every training set: the disease, and, where markers are on, the hospital's prevalence."""
    rng, rows = np.random.default_rng(seed), []
    bodies = pd.DataFrame({"site": np.repeat(SITES, 1200), "split": np.tile(["validation", "test"], 1800)})
    rate = bodies["site"].map({"NIH-like": 0.08, "MSH-like": 0.5, "IU-like": 0.1})
    ill = rng.random(len(bodies)) < rate
    bodies = bodies.assign(label=np.where(ill, "Pneumonia", "No pneumonia"), cohort="natural")
    bodies["image_id"] = bodies["patient_id"] = [f"p{k:04d}" for k in range(len(bodies))]
    disease = rng.normal(size=len(bodies)) + ill
    for markers in ("on", "off"):
        for sites in generalization.site_sets(SITES):
            knows = site_effect * (bodies["site"] == "MSH-like") * (markers == "on") * (len(sites) > 1)
            told = {"markers": markers, "pixels": "whole", "weighting": "as they are"}
            score = 1 / (1 + np.exp(-(disease + knows)))
            rows.append(bodies.assign(p_Pneumonia=score, trained_on=generalization.joined(sites), **told))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def scores():
    return scores_of()


def test_table_3_has_every_pair_of_sets_and_the_talks_fifteen_rows(scores):
    table = generalization.table_3(scores[scores["markers"] == "on"], SITES)
    assert len(table) == 49
    talk = generalization.talks_rows(table, "NIH-like", "MSH-like")
    assert len(talk) == 15 and list(talk["comparison"][:3]) == ["internal", "external", "external"]
    assert ((table["sensitivity (test)"] >= 0.95) & (table["sensitivity (test)"] < 1)).all()
    assert (table["sensitivity (validation)"] != table["sensitivity (test)"]).any()


def test_every_number_of_the_talks_table_is_claimed_once(scores):
    table = generalization.table_3(scores[scores["markers"] == "on"], SITES)
    found = site_claims.table_3(generalization.talks_rows(table, "NIH-like", "MSH-like"))
    rows = load_published()
    mine = rows[(rows["notebook"] == "12_generalization") & (rows["kind"] == "number") & (rows["repeats"] == "")]
    expected = {name for name in mine["id"] if name.startswith(site_claims.PREFIX)}
    assert set(found) == expected and len(expected) == 92


def test_hospitals_that_stand_for_none_of_the_talks_claim_nothing(scores):
    assert site_claims.id_of("NIH + Kermany") == "" and site_claims.id_of("NIH-like + MSH-like") == "msh_nih"


def test_a_head_that_knows_the_hospital_beats_itself_on_the_parts_and_one_that_does_not_does_not(scores):
    found = {m: generalization.joint_tests(part, SITES[:2]) for m, part in scores.groupby("markers")}
    of = {m: table[table["against"].str.contains("joint head")] for m, table in found.items()}
    assert (of["on"]["p"] < 0.01).all() and (of["on"]["difference"] > 0.05).all()
    assert (of["off"]["p"] > 0.01).all()


def test_remedies_are_measured_against_the_first_and_what_is_missing_is_left_out(scores):
    table = site_remedies.remedies(scores, ("NIH-like", "MSH-like"))
    assert set(table["remedy"]) == {"as they are", "markers off"}
    excess = table[table["part"] == "excess"].set_index("remedy")
    assert excess.loc["as they are", "low"] > 0 and excess.loc["markers off", "p"] < 0.01


def test_the_model_is_chosen_on_the_hospital_that_was_asked(scores):
    one = scores[(scores["trained_on"].isin(SITES)) & (scores["markers"] == "on")]
    bad = one.assign(candidate="bad", p_Pneumonia=np.where(one["site"] == one["trained_on"], one["p_Pneumonia"], 0.5))
    perfect = (one["label"] == "Pneumonia").astype(float)
    bad["p_Pneumonia"] = np.where(one["site"] == one["trained_on"], perfect, 0.5)
    table = site_remedies.choices(pd.concat([bad, one.assign(candidate="good")]))
    assert (table["own"][:-1] == "bad").all() and (table["elsewhere"][:-1] == "good").all()
    assert table["difference"].iloc[-1] > 0.1 and table["p"].iloc[-1] < 0.01


# --- the hospital alone ---------------------------------------------------------------------------------------------


def test_sorting_by_hospital_agrees_with_the_area_of_the_prevalence_as_a_score():
    counts = [(200, 20), (100, 40), (50, 5)]
    truth = np.concatenate([np.arange(n) < k for n, k in counts])
    rate = np.concatenate([np.full(n, k / n) for n, k in counts])
    assert site_prevalence.sorted_by_hospital(counts) == pytest.approx(auroc(truth, rate).value)
    with pytest.raises(ValueError, match="positives are a part"):
        site_prevalence.sorted_by_hospital([(10, 11)])


def test_knowing_a_hospital_that_tells_nothing_adds_nothing_and_one_that_tells_all_gives_all():
    assert site_prevalence.with_hospital_known([(100, 20), (100, 20)], [0.8, 0.8]) == pytest.approx(0.8, abs=1e-3)
    alone = site_prevalence.sorted_by_hospital([(100, 1), (100, 60)])
    assert site_prevalence.with_hospital_known([(100, 1), (100, 60)], [0.5, 0.5]) == pytest.approx(alone, abs=1e-6)
    with pytest.raises(ValueError, match="from 0.5"):
        site_prevalence.with_hospital_known([(100, 20)], [1.0])


def test_knowing_the_hospital_agrees_with_a_simulation():
    rng, counts, d = np.random.default_rng(0), [(60_000, 3_000), (40_000, 16_000)], np.array([0.9, 1.2])
    truth = np.concatenate([np.arange(n) < k for n, k in counts])
    site = np.repeat([0, 1], [n for n, _ in counts])
    x = rng.normal(size=len(truth)) + d[site] * truth
    odds = np.log([k / (n - k) for n, k in counts])
    from scipy.stats import norm

    expected = auroc(truth, d[site] * x - d[site] ** 2 / 2 + odds[site]).value
    assert site_prevalence.with_hospital_known(counts, norm.cdf(d / np.sqrt(2))) == pytest.approx(expected, abs=0.004)


def test_the_talks_joint_aurocs_are_those_of_its_parts_with_the_hospital_known():
    table = site_prevalence.in_the_talk(Facts.load())
    assert table["hospital alone low"].between(0.85, 0.87).all()
    assert (table["with hospital known low"] - 0.0005 <= table["printed"]).all()
    assert (table["printed"] <= table["with hospital known high"] + 0.0005).all()


# --- the engineered experiment --------------------------------------------------------------------------------------


def test_the_curve_rises_with_markers_and_stays_without():
    rng, rows = np.random.default_rng(0), []
    for ratio, rates in {1.0: (0.2, 0.2), 9.0: (0.36, 0.04)}.items():
        for draw in range(3):
            for markers in ("on", "off"):
                for name in ("joint", "high", "low"):
                    site = (
                        np.repeat(["M", "N"], 150)
                        if name == "joint"
                        else np.repeat({"high": "M", "low": "N"}[name], 300)
                    )
                    rate = np.where(site == "M", *rates) if name == "joint" else np.full(300, 0.2)
                    ill = np.arange(300) % 150 < 150 * rate
                    score = rng.normal(size=300) + ill + 4 * (markers == "on") * (rate - 0.2) * 2
                    part = pd.DataFrame({"site": site, "label": np.where(ill, "Pneumonia", "No pneumonia"), "p": score})
                    names = [f"{name}{k}" for k in range(300)]
                    told = {"ratio": ratio, "draw": draw, "markers": markers, "trained_on": name, "prevalence": rate}
                    rows.append(part.assign(image_id=names, patient_id=names, **told))
    curve = imbalance.imbalance_curve(pd.concat(rows), "M", "N")
    said = imbalance.verdicts(curve).set_index(["markers", "ratio", "measure"])["verdict"]
    assert (
        said["on", 9.0, "joint - internal, high"] == "exceeds"
        and said["on", 9.0, "joint - joint head, high"] == "exceeds"
    )
    assert said["off", 9.0, "joint - internal, high"] == "no difference shown"
    alone = curve[curve["measure"] == "hospital alone"].groupby("ratio")["value"].first()
    assert alone[1.0] == pytest.approx(0.5) and alone[9.0] == pytest.approx(0.75, abs=0.01)
    assert not curve.loc[curve["measure"] == "external", "value"].notna().any()
