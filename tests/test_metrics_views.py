"""Which of the nine models' comparisons a run can make, what it says of the others, and of the paper's ordering."""

import numpy as np
import pandas as pd
import pytest

from helpers.rajkomar import view_claims, views
from helpers.rajkomar.views import ALL, COLOUR, FULL, LAST, METHODS, ORIGINAL, PRETRAININGS, SUBSET

AUGMENTED, LAYERS = "augmented vs original, last layer", "all layers vs last layer, augmented"


def validation(accuracy, parents=60, children=4):
    """A validation table, as `view_models` keeps it, in which model m is right on a share `accuracy[m]` of parents."""
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


def answers(accuracy):
    return views.compared(views.results(validation(accuracy)))


BY_METHOD = {ORIGINAL: 0.5, LAST: 0.7, ALL: 0.95}


def test_with_one_pretraining_the_ways_of_fine_tuning_are_compared_and_the_rest_says_what_is_missing():
    found = answers({(COLOUR, method): share for method, share in BY_METHOD.items()})
    assert {name for name, answer in found.items() if answer.tests} == {AUGMENTED, LAYERS}
    paper, honest = found[AUGMENTED].tests
    assert (paper.a.value, paper.b.value) == (0.7, 0.5) and paper.a.n == 240 and honest.parents == 60
    table = views.comparison_table(found).set_index("comparison")
    assert table.loc[AUGMENTED, "order"] == "as in the paper; full greyscale and subset greyscale not run"
    told = "not run: no full greyscale and no subset greyscale pre-training"
    assert table.loc["greyscale vs colour", "order"] == told
    assert np.isfinite(table.loc[LAYERS, ["difference", "low", "high", "p", "p by parent"]].astype(float)).all()
    assert view_claims.pooled(found) == {}  # a part of the pools is not what the paper printed


def test_with_colour_and_one_greyscale_pretraining_all_but_full_against_subset_run():
    found = answers({(name, m): share for name in (COLOUR, SUBSET) for m, share in BY_METHOD.items()})
    assert [name for name, answer in found.items() if answer.tests is None] == ["full vs subset greyscale"]
    assert found["greyscale vs colour"].pretraining == ((SUBSET,), (COLOUR,))
    assert found["greyscale vs colour"].order() == "equal, not significant by parent; full greyscale not run"


def test_the_paper_s_ordering_is_shown_only_where_every_comparison_is_as_published_by_parent():
    better = {COLOUR: -0.2, FULL: 0.04, SUBSET: -0.02}
    nine = {(n, m): BY_METHOD[m] + better[n] for n in PRETRAININGS for m in METHODS}
    found = answers(nine)
    assert all(answer.whole for answer in found.values())
    assert views.ordering(found).startswith("The paper's ordering is shown: all 5")
    assert len(view_claims.pooled(found)) == 14  # of 15, the augmented last layers are in two comparisons
    turned = answers({(n, m): BY_METHOD[m] - better[n] for n in PRETRAININGS for m in METHODS})
    said = views.ordering(turned)
    assert said.startswith("The paper's ordering is not shown: 3 of its 5 comparisons") and LAYERS in said
    alone = answers({(COLOUR, method): share for method, share in BY_METHOD.items()})
    assert "3 could not be run; 2 rest on part" in views.ordering(alone)


@pytest.mark.parametrize("models", [[], [(COLOUR, LAST)], [(FULL, ORIGINAL), (SUBSET, LAST)]])
def test_when_models_are_missing_then_nothing_is_compared_with_nothing(models):
    found = views.compared({model: pd.DataFrame({"correct": [True], "parent": ["a"]}) for model in models})
    assert all(answer.tests is None for answer in found.values())
