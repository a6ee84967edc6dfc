"""Statistics of several hospitals: table 3, the hospital as a predictor, engineered prevalences, remedies."""

import numpy as np
import pandas as pd
import pytest

from helpers.metrics.auroc import auroc
from helpers.run.claims import load_published
from helpers.zech import generalization

# --- table 3 --------------------------------------------------------------------------------------------------------


def test_the_threshold_is_the_highest_that_keeps_the_sensitivity():
    truth, score = np.array([True] * 20 + [False]), np.append(np.arange(20.0), 5)
    assert generalization.sensitivity_threshold(truth, score) == 1.0
    assert (score[truth] >= generalization.sensitivity_threshold(truth, score)).mean() == 0.95
    assert np.isnan(generalization.sensitivity_threshold([False], [1.0]))


def test_a_test_set_is_called_what_the_talk_calls_it():
    words = {"A A": "internal", "A B": "external", "AB A": "subset", "A AB": "superset", "AB BC": "superset"}
    assert {sets: generalization.kind_of_test(*sets.split()) for sets in words} == words


SITES = ("NIH-like", "MSH-like", "IU-like")


@pytest.fixture(scope="module")
def scores():
    """Scores of heads for every training set: the disease, and, where markers are on, the hospital's prevalence."""
    rng, rows = np.random.default_rng(0), []
    bodies = pd.DataFrame({"site": np.repeat(SITES, 1200), "split": np.tile(["validation", "test"], 1800)})
    rate = bodies["site"].map({"NIH-like": 0.08, "MSH-like": 0.5, "IU-like": 0.1})
    ill = rng.random(len(bodies)) < rate
    bodies = bodies.assign(label=np.where(ill, "Pneumonia", "No pneumonia"), cohort="natural")
    bodies["image_id"] = bodies["patient_id"] = [f"p{k:04d}" for k in range(len(bodies))]
    disease = rng.normal(size=len(bodies)) + ill
    for markers in ("on", "off"):
        for sites in generalization.site_sets(SITES):
            knows = 2.0 * (bodies["site"] == "MSH-like") * (markers == "on") * (len(sites) > 1)
            setting = {"markers": markers, "pixels": "whole", "weighting": "as they are"}
            score = 1 / (1 + np.exp(-(disease + knows)))
            rows.append(bodies.assign(p_Pneumonia=score, trained_on=generalization.joined(sites), **setting))
    return pd.concat(rows, ignore_index=True)


def test_table_3_has_every_pair_of_sets_and_the_talks_fifteen_rows(scores):
    table = generalization.table_3(scores[scores["markers"] == "on"], SITES)
    assert len(table) == 49
    talk = generalization.rows_of_talk(table, "NIH-like", "MSH-like")
    assert len(talk) == 15 and list(talk["comparison"][:3]) == ["internal", "external", "external"]
    assert ((table["sensitivity (test)"] >= 0.95) & (table["sensitivity (test)"] < 1)).all()
    assert (table["sensitivity (validation)"] != table["sensitivity (test)"]).any()


def test_every_number_of_the_talks_table_is_claimed_once(scores):
    table = generalization.table_3(scores[scores["markers"] == "on"], SITES)
    found = generalization.table_3_claims(generalization.rows_of_talk(table, "NIH-like", "MSH-like"))
    rows = load_published()
    mine = rows[(rows["notebook"] == "12_generalization") & (rows["kind"] == "number") & (rows["repeats"] == "")]
    expected = {name for name in mine["id"] if name.startswith(generalization.PREFIX)}
    assert set(found) == expected and len(expected) == 92


def test_a_head_that_knows_the_hospital_beats_itself_on_the_parts_and_one_that_does_not_does_not(scores):
    found = {m: generalization.joint_tests(part, SITES[:2]) for m, part in scores.groupby("markers")}
    of = {m: table[table["against"].str.contains("joint head")] for m, table in found.items()}
    assert (of["on"]["p"] < 0.01).all() and (of["on"]["difference"] > 0.05).all()
    assert (of["off"]["p"] > 0.01).all()


def test_remedies_are_measured_against_the_first_and_what_is_missing_is_left_out(scores):
    table = generalization.remedy_table(scores, ("NIH-like", "MSH-like"))
    assert set(table["remedy"]) == {"as they are", "markers off"}
    excess = table[table["part"] == "excess"].set_index("remedy")
    assert excess.loc["as they are", "low"] > 0 and excess.loc["markers off", "p"] < 0.01
    assert table["p_holm"].min() == pytest.approx(4 * table["p"].min())  # the four parts are one family
    assert generalization.describe_family(table).startswith("Of 4 tests, one family, ")
    for found in (generalization.external_tests(scores, SITES), generalization.joint_tests(scores, SITES[:2])):
        assert found["p_holm"].min() == pytest.approx(min(1, len(found) * found["p"].min()))


# --- the hospital alone ---------------------------------------------------------------------------------------------


def test_sorting_by_hospital_agrees_with_the_area_of_the_prevalence_as_a_score():
    counts = [(200, 20), (100, 40), (50, 5)]
    truth = np.concatenate([np.arange(n) < k for n, k in counts])
    rate = np.concatenate([np.full(n, k / n) for n, k in counts])
    assert generalization.auroc_of_prevalence(counts) == pytest.approx(auroc(truth, rate).value)


def test_a_hospital_of_equal_prevalence_adds_nothing_and_heads_at_chance_leave_the_hospital_alone():
    assert generalization.auroc_with_hospital_known([(100, 20), (100, 20)], [0.8, 0.8]) == pytest.approx(0.8, abs=1e-3)
    alone = generalization.auroc_of_prevalence([(100, 1), (100, 60)])
    assert generalization.auroc_with_hospital_known([(100, 1), (100, 60)], [0.5, 0.5]) == pytest.approx(alone, abs=1e-6)


def test_the_talks_joint_aurocs_are_those_of_its_parts_with_the_hospital_known():
    table = generalization.sorting_in_talk()
    assert table["hospital alone low"].between(0.85, 0.87).all()
    assert (table["with hospital known low"] - 0.0005 <= table["printed"]).all()
    assert (table["printed"] <= table["with hospital known high"] + 0.0005).all()


# --- the engineered experiment --------------------------------------------------------------------------------------


def test_the_curve_rises_with_markers_and_stays_without():
    rng, rows = np.random.default_rng(0), []
    for ratio, rates in {1.0: (0.2, 0.2), 9.0: (0.36, 0.04)}.items():
        for draw in range(6):
            for markers in ("on", "off"):
                for name in ("joint", "high", "low"):
                    site = np.repeat({"joint": ["M", "N"], "high": ["M"] * 2, "low": ["N"] * 2}[name], 150)
                    rate = np.where(site == "M", *rates) if name == "joint" else np.full(300, 0.2)
                    ill = np.arange(300) % 150 < 150 * rate
                    score = rng.normal(size=300) + ill + 4 * (markers == "on") * (rate - 0.2) * 2
                    part = pd.DataFrame({"site": site, "label": np.where(ill, "Pneumonia", "No pneumonia"), "p": score})
                    names = [f"{name}{k}" for k in range(300)]
                    setting = {"ratio": ratio, "draw": draw, "markers": markers, "trained_on": name, "prevalence": rate}
                    rows.append(part.assign(image_id=names, patient_id=names, **setting))
    curve = generalization.imbalance_curve(pd.concat(rows), "M", "N")
    verdicts = generalization.imbalance_verdicts(curve).set_index(["markers", "ratio", "measure"])["verdict"]
    assert verdicts["on", 9.0, "joint - internal, high"] == verdicts["on", 9.0, "joint - joint head, high"] == "exceeds"
    assert verdicts["off", 9.0, "joint - internal, high"] == "no difference shown"
    alone = curve[curve["measure"] == "hospital alone"].groupby("ratio")["value"].first()
    assert alone[1.0] == pytest.approx(0.5) and alone[9.0] == pytest.approx(0.75, abs=0.01)
    assert not curve.loc[curve["measure"] == "external", "value"].notna().any()
    one = curve[curve["markers"] == "on"]
    assert one["p_holm"].min() == pytest.approx(8 * one["p"].min())  # four differences at two ratios
    spread = (curve["most"] - curve["least"]) / 2.534 / 6**0.5  # the range of six is 2.534 deviations, on average
    wide = curve["high"] - curve["low"] > 2 * spread
    assert wide[curve["measure"] == "joint"].all()  # the spread between the draws is in the interval
