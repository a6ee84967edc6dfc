"""Twenty data sets (ties, imbalance, clusters, perfect, tiny) against pROC, survey and epiR: see tests/fixtures/."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.metrics.auroc import clustered_auroc, compare_aurocs
from helpers.metrics.by_patient import clustered_mean, clustered_ratio
from helpers.metrics.classification import accuracy
from helpers.metrics.comparison import mcnemar

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED = json.loads((FIXTURES / "statistics.json").read_text())
SETS = dict(list(pd.read_csv(FIXTURES / "statistics.csv").groupby("set", sort=False)))
close = pytest.approx


def test_the_values_kept_are_of_the_data_kept():
    assert list(SETS) == list(EXPECTED) and len(SETS) == 20
    assert any(frame["patient"].duplicated().any() for frame in SETS.values())


@pytest.mark.parametrize("name", SETS)
def test_aurocs_and_their_comparisons_are_procs(name):
    data, expected = SETS[name].reset_index(drop=True), EXPECTED[name]
    truth, areas = data["truth"] == 1, {}
    for score in "ab":
        areas[score] = clustered_auroc(truth, data[score])
        assert areas[score].value == close(expected[f"auroc_{score}"], abs=1e-6)
        assert areas[score].error == close(expected[f"error_{score}"], abs=1e-6)
    if min(one.error for one in areas.values()) > 0:
        change = areas["a"] - areas["b"]
        assert change.value / change.error == close(expected["paired_z"], abs=1e-6)
        assert compare_aurocs(truth, data["a"], data["b"]).p == close(expected["paired_p"], abs=1e-6)
    halves = [clustered_auroc(truth[rows], data["a"][rows], data.index[rows]) for rows in _halves(len(data))]
    apart = halves[0] - halves[1]
    if min(one.error for one in halves) > 0:
        assert apart.value / apart.error == close(expected["apart_t"], abs=1e-6)
        assert apart.freedom == close(expected["apart_freedom"], rel=1e-6)
        if apart.method != "square and add":
            assert apart.p == close(expected["apart_p"], abs=1e-6)


def _halves(n):
    return np.arange(n) % 2 == 0, np.arange(n) % 2 == 1


@pytest.mark.parametrize("name", SETS)
def test_means_by_patient_are_those_of_a_survey(name):
    data, expected = SETS[name], EXPECTED[name]
    right = {score: data[f"right_{score}"] == 1 for score in "ab"}
    mean = clustered_mean(right["a"], data["patient"], (0, 1))
    assert (mean.value, mean.error) == close((expected["accuracy"], expected["accuracy_error"]), abs=1e-6)
    if not mean.sparse:
        assert mean.limits(0.05) == close(tuple(expected["accuracy_logit"]), abs=1e-6)
    exact = accuracy(right["a"], np.ones(len(data), bool))
    assert (exact.low, exact.high) == close(tuple(expected["accuracy_exact"]), abs=1e-6)
    change = mean - clustered_mean(right["b"], data["patient"], (0, 1))
    assert (change.value, change.error) == close((expected["change"], expected["change_error"]), abs=1e-6)
    assert mcnemar(right["a"], right["b"]).p == close(expected["mcnemar_p"], abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_ratios_by_patient_are_those_of_a_survey(name):
    data, expected = SETS[name], EXPECTED[name]
    called = np.where(data["right_a"] == 1, data["truth"], 1 - data["truth"])
    either = (data["truth"] == 1) | (called == 1)
    found = clustered_ratio((data["truth"] == 1) & (called == 1), either, data["patient"], (0, 1))
    assert found.value == close(expected["jaccard"], abs=1e-6)
    everyone, ours = data["patient"].nunique(), found.units  # a survey counts patients without such an image as well
    if ours > 1:
        factor = math.sqrt(everyone / (everyone - 1) / (ours / (ours - 1)))
        assert found.error * factor == close(expected["jaccard_error"], abs=1e-6)
