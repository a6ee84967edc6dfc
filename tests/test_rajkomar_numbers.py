"""Which of the nine models' comparisons a run can make, what it reports of the others, and of the paper's ordering."""

import numpy as np
import pandas as pd
import pytest

from helpers.rajkomar import numbers
from helpers.rajkomar.numbers import ALL, COLOUR, FULL, LAST, METHODS, ORIGINAL, PRETRAININGS, SUBSET
from helpers.run.claims import REVERSED

AUGMENTED, LAYERS = "augmented vs original, last layer", "all layers vs last layer, augmented"


def validation(accuracy, parents=60, children=4):
    """A validation table, as the experiment keeps it, in which model m is right on a share `accuracy[m]` of parents."""
    rows = []
    for (name, method), share in accuracy.items():
        for on, each in (("originals", 1), ("children", children)):
            parent = np.repeat(np.arange(parents), each)
            right = parent < round(share * parents)
            label = np.where(parent % 2, "frontal", "lateral")
            p = np.where(right == (label == "frontal"), 0.9, 0.1)
            table = {"parent": parent.astype(str), "label": label, "p_frontal": p, "on": on}
            rows.append(pd.DataFrame(table).assign(pretraining=name, method=method))
    return pd.concat(rows, ignore_index=True)


def answers(accuracy, each=1):
    """Compared, with `each` parent images per patient."""
    frame = pd.DataFrame({"image_id": np.arange(60).astype(str), "patient_id": np.arange(60) // each})
    return numbers.compare_models(numbers.validation_results(validation(accuracy), frame))


BY_METHOD = {ORIGINAL: 0.5, LAST: 0.7, ALL: 0.95}


def test_with_one_pretraining_the_ways_of_fine_tuning_are_compared_and_the_rest_names_what_is_missing():
    found = answers({(COLOUR, method): share for method, share in BY_METHOD.items()})
    assert {name for name, answer in found.items() if answer.tests} == {AUGMENTED, LAYERS}
    paper, by_patient = found[AUGMENTED].tests
    assert (paper.a.value, paper.b.value) == (0.7, 0.5) and paper.a.n == 240
    table = numbers.comparison_table(found).set_index("comparison")
    assert table.loc[AUGMENTED, "order"] == "as in the paper; full greyscale and subset greyscale not run"
    missing = "not run: no full greyscale and no subset greyscale pre-training"
    assert table.loc["greyscale vs colour", "order"] == missing
    assert np.isfinite(table.loc[LAYERS, ["difference", "low", "high", "p", "p, chi-squared"]].astype(float)).all()
    corrected, single = zip(*((found[one].p_holm, found[one].tests[1].p) for one in (AUGMENTED, LAYERS)), strict=True)
    assert by_patient.a.method.endswith("by patient") and min(corrected) == pytest.approx(2 * min(single))
    fewer = answers({(COLOUR, method): share for method, share in BY_METHOD.items()}, each=4)[AUGMENTED]
    assert fewer.tests[1].p > by_patient.p  # four images of one patient are less evidence than those of four patients
    assert numbers.pooled_claims(found) == {}  # a part of the pools is not what the paper printed


def test_the_paper_s_ordering_is_shown_only_where_every_comparison_is_as_published_by_patient():
    better = {COLOUR: -0.2, FULL: 0.04, SUBSET: -0.02}
    nine = {(n, m): BY_METHOD[m] + better[n] for n in PRETRAININGS for m in METHODS}
    found = answers(nine)
    assert all(answer.whole for answer in found.values())
    assert numbers.describe_ordering(found).startswith("The paper's ordering is shown: 5 of its 5")
    assert len(numbers.pooled_claims(found)) == 14  # of 15, the augmented last layers are in two comparisons
    turned = answers({(n, m): BY_METHOD[m] - better[n] for n in PRETRAININGS for m in METHODS})
    sentence = numbers.describe_ordering(turned)
    assert sentence.startswith("The paper's ordering is not shown: 3 of its 5 comparisons") and LAYERS in sentence
    notes = [numbers.pooled_claims(way)["rajkomar2017.view.pooled.grey_color.p"].note for way in (found, turned)]
    assert notes == ["", REVERSED]  # a published p value has a direction
    alone = answers({(COLOUR, method): share for method, share in BY_METHOD.items()})
    assert "5 lack pre-trainings" in numbers.describe_ordering(alone)


@pytest.mark.parametrize("models", [[], [(COLOUR, LAST)], [(FULL, ORIGINAL), (SUBSET, LAST)]])
def test_when_models_are_missing_then_nothing_is_compared_with_nothing(models):
    found = numbers.compare_models({model: pd.DataFrame({"correct": [True], "patient_id": ["a"]}) for model in models})
    assert all(answer.tests is None for answer in found.values())


def scores_of(n=40):
    label = np.where(np.arange(n) % 4 == 0, "lateral", "frontal")
    p = np.where(label == "frontal", 0.9, 0.1) + np.linspace(0, 0.05, n)
    names = [f"i{k:02d}" for k in range(n)]
    return pd.DataFrame({"image_id": names, "patient_id": names, "label": label, "p_frontal": p})


def test_rates_at_a_cutoff_are_shares_of_all_frontal_and_lateral_images():
    found = numbers.accuracies_at(scores_of(), 0.12)
    assert (found["frontal"].value, found["lateral"].value) == (1.0, 0.4)
    assert (found["all images"].value, found["all images"].n) == (34 / 40, 40)
    assert not numbers.accuracies_at(scores_of(), np.nan)["all images"].defined
    assert not numbers.accuracies_at(scores_of(), 0.12, chosen_here=True)["frontal"].bounded


def test_extreme_images_are_the_highest_and_lowest_of_each_view():
    shown = numbers.extreme_images(scores_of())
    assert shown["label"].tolist() == ["frontal"] * 4 + ["lateral"] * 4
    assert shown["image_id"].tolist()[:4] == ["i39", "i38", "i02", "i01"]


def test_sites_are_split_where_the_frame_knows_them():
    scores = scores_of()
    assert numbers.split_by_site(scores, scores) == []
    parts = numbers.split_by_site(scores, scores.assign(site=np.where(np.arange(40) < 10, "public", "own")))
    assert {name: len(part) for name, part in parts} == {"own": 30, "public": 10}
