"""Zech 2018's table 3: heads inside and outside their hospital, the hospital as a predictor, and remedies.

Scores are those of `helpers.zech.sites`: a row per held-out image and head, with site, label, split, cohort and
p_Pneumonia. Only the natural cohort counts, except for the AUROC of one hospital, on which prevalence has no bearing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers.metrics.auroc import auroc, clustered_auroc, compare_aurocs
from helpers.metrics.by_patient import Clustered, Comparison, average, compare, over_trainings
from helpers.metrics.classification import accuracy, rates_at
from helpers.metrics.comparison import holm
from helpers.metrics.estimate import Estimate, as_arrays, estimate_frame, flatten
from helpers.run.claims import load_published
from helpers.zech.sites import POSITIVE, joined, site_sets

CHOSEN_HERE = "the threshold was chosen on these images"
SENSITIVITY = 0.95  # of the talk's operating points: 0.950, 0.951 and 0.974 are what counts of positives allow
RATES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
ENDS = {"": "value", "_low": "low", "_high": "high", "_n": "n"}  # of a column's name, and the field of the estimate
SCORE = f"p_{POSITIVE}"
BRIEF = ["n", "positives", "auroc", "low", "high", *(f"{name} (test)" for name in RATES), "sensitivity (validation)"]

PREFIX = "zech2018.generalization"
IDS = {"MSH-like": "msh", "NIH-like": "nih", "NIH": "nih", "IU-like": "iu"}  # in the order of the claims' ids
TRAINED, COUNTED = ("nih", "msh", "msh_nih"), ("nih", "iu")  # heads; hospitals whose number of test images is a claim
TESTED = (*("nih", "msh", "iu"), "msh_nih", "msh_nih_iu")

REMEDIES = {  # name: markers, pixels, weighting
    "as they are": ("on", "whole", "as they are"),
    "prevalence balanced": ("on", "whole", "prevalence balanced"),
    "cropped to the lungs": ("on", "lungs", "as they are"),
    "cropped and balanced": ("on", "lungs", "prevalence balanced"),
    "markers off": ("off", "whole", "as they are"),
}
RESOLUTIONS = {"low": ("on", "low", "as they are"), "high": ("on", "high", "as they are")}


def truth_of(rows: pd.DataFrame) -> np.ndarray:
    return (rows["label"] == POSITIVE).to_numpy()


def find_head(scores: pd.DataFrame, sites: Sequence[str]) -> str:
    """The name in the scores of the head trained on these hospitals, in any order; `ValueError` if there is none."""
    for name in scores["trained_on"].unique():
        if set(name.split(" + ")) == set(sites):
            return name
    raise ValueError(f"no head was trained on {joined(sites)}")


def test_rows(scores: pd.DataFrame, trained: str, tested: Sequence[str], natural: bool = True) -> pd.DataFrame:
    """The test images of these hospitals as a head scored them, by default of the natural cohort alone."""
    keep = (scores["trained_on"] == trained) & (scores["split"] == "test") & scores["site"].isin(tested)
    return scores[keep & ((scores["cohort"] == "natural") | (not natural))]


def area_of(rows: pd.DataFrame, score: str = SCORE) -> Clustered:
    """The AUROC of pneumonia by a column of the scores, with the patients as units."""
    return clustered_auroc(truth_of(rows), rows[score], rows["patient_id"])


# --- table 3 ----------------------------------------------------------------------------------------------------------


def sensitivity_threshold(truth: Any, score: Any, sensitivity: float = SENSITIVITY) -> float:
    """The highest threshold at which at least this share of the positives score; NaN without a positive."""
    t, s = as_arrays(truth=(truth, bool), score=(score, float))
    positives = np.sort(s[t])[::-1]
    return float(positives[math.ceil(sensitivity * len(positives) - 1e-9) - 1]) if len(positives) else math.nan


def kind_of_test(trained: Sequence[str], tested: Sequence[str]) -> str:
    """What a test set is to a training set: "Superset = a test dataset containing data from the same distribution
    (hospital system) as the training data as well as external data. Subset = a test dataset containing data from fewer
    distributions (hospital systems) then the training data"."""
    a, b = set(trained), set(tested)
    if a == b:
        return "internal"
    return "external" if not a & b else "subset" if b < a else "superset"


def table_3(scores: pd.DataFrame, sites: Sequence[str]) -> pd.DataFrame:
    """Table 3 of the scores of one setting (markers, pixels, weighting): every training set on every test set.

    Columns trained_on, tested_on, comparison, n, positives, auroc, low, high, and for either way of choosing the
    threshold the rates at 95 % sensitivity: `<rate> (test)`, `<rate> (validation)`, with _low, _high (by patient; none
    where the threshold was chosen on these very images) and _n.
    """
    natural, rows = scores[scores["cohort"] == "natural"], []
    for trained, tested in product(site_sets(sites), site_sets(sites)):
        mine = natural[natural["trained_on"] == find_head(scores, trained)]
        tuned = mine[(mine["split"] == "validation") & mine["site"].isin(trained)]
        shown = mine[(mine["split"] == "test") & mine["site"].isin(tested)]
        truth, score = truth_of(shown), shown[SCORE].to_numpy()
        row = {"trained_on": joined(trained), "tested_on": joined(tested), "comparison": kind_of_test(trained, tested)}
        patients = shown["patient_id"]
        row |= {"n": len(shown), "positives": int(truth.sum()), **auroc(truth, score, patients).row("auroc")}
        for chosen_on, chosen in {"test": shown, "validation": tuned}.items():
            found = rates_at(truth, score, sensitivity_threshold(truth_of(chosen), chosen[SCORE]), patients)
            for name, (end, field) in product(RATES, ENDS.items()):
                one = found[name].without_interval(CHOSEN_HERE) if chosen_on == "test" else found[name]
                row[f"{name}{end} ({chosen_on})"] = getattr(one, field)
        rows.append(row)
    return pd.DataFrame(rows)


def rows_of_talk(table: pd.DataFrame, low: str, high: str) -> pd.DataFrame:
    """The talk's fifteen rows: trained on the hospital of low prevalence, of high, and both; tested on each, on both,
    and on all."""
    sites = list(dict.fromkeys(name for tested in table["tested_on"] for name in tested.split(" + ")))
    third = [site for site in sites if site not in (low, high)]
    both = next(name for name in table["trained_on"].unique() if set(name.split(" + ")) == {low, high})
    tests = [low, high, *third, both, max(table["tested_on"], key=len)]
    kept = list(product((low, high, both), tests))
    return table.set_index(["trained_on", "tested_on"]).loc[kept].reset_index()


def table_3_claims(table: pd.DataFrame) -> dict[str, Estimate | float]:
    """What table 3 prints, by its ids in data/published/: AUROC, the rates at the threshold that the test images
    themselves gave, as in the talk, and the numbers of test images."""
    found: dict[str, Estimate | float] = {}
    for row in table.to_dict("records"):
        trained, tested = site_id(row["trained_on"]), site_id(row["tested_on"])
        if trained not in TRAINED or tested not in TESTED:
            continue
        if tested in COUNTED:
            found[f"{PREFIX}.data.{tested}"] = float(row["n"])
        name = f"{PREFIX}.{trained}.{tested}"
        found[f"{name}.auroc"] = Estimate(row["auroc"], row["low"], row["high"], row["n"], "DeLong by patient")
        for rate in RATES:
            values = (row[f"{rate}{end} (test)"] for end in ENDS)
            found[f"{name}.{rate}"] = Estimate(*values, "none", CHOSEN_HERE)
    return found


def site_id(sites: str) -> str:
    """'NIH-like + MSH-like' as in the claims' ids, 'msh_nih'; "" where a hospital stands for none of the talk's."""
    names = sites.split(" + ")
    return "_".join(word for name, word in IDS.items() if name in names) if set(names) <= set(IDS) else ""


def external_tests(scores: pd.DataFrame, sites: Sequence[str]) -> pd.DataFrame:
    """Internal against external AUROC of each single hospital's head, on all images of a hospital, by patient, the
    pairs of hospitals being one family (`p_holm`)."""
    rows = []
    for trained, other in permutations(sites, 2):
        home, away = (test_rows(scores, trained, [site], natural=False) for site in (trained, other))
        found = compare(area_of(home), area_of(away))
        names = {"trained_on": trained, "tested_on": other, "internal": str(found.a), "external": str(found.b)}
        rows.append(names | found.row())
    return _with_holm(pd.DataFrame(rows))


def joint_tests(scores: pd.DataFrame, pair: Sequence[str]) -> pd.DataFrame:
    """Whether the head trained and tested on both hospitals does better than each at home, trained on it alone: by what
    each patient contributes, for the sets overlap. The rows are one family of tests (`p_holm`)."""
    both = find_head(scores, pair)
    together, rows = area_of(test_rows(scores, both, pair)), []
    for site, (name, trained) in product(pair, (("internal", ""), ("joint head", both))):
        alone = area_of(test_rows(scores, trained or site, [site]))
        names = {"joint": str(together.estimate()), "against": f"{site}, {name}", "alone": str(alone.estimate())}
        rows.append(names | (together - alone).row())
    return _with_holm(pd.DataFrame(rows))


# --- the hospital as a predictor --------------------------------------------------------------------------------------


def source_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """How often the origin of the image was identified: a row per setting of the markers and way of showing, and the
    share that always naming the most frequent would get; n test images, intervals by patient."""
    groups = table[table["split"] == "test"].groupby(["markers", "pixels"], sort=False)
    found = {key: accuracy(part["truth"], part["predicted"], part["patient_id"]) for key, part in groups}
    usual = [part["truth"].value_counts(normalize=True).max() for _, part in groups]
    return estimate_frame(found, "markers", "pixels").assign(**{"most frequent": usual})


# --- remedies ---------------------------------------------------------------------------------------------------------
# A remedy is judged by what it does within a hospital and outside it, not by the joint AUROC, which it should lower:
# the excess of the joint AUROC over that within the hospitals is what the hospital alone was worth.


def judge_remedy(scores: pd.DataFrame, pair: Sequence[str]) -> dict[str, Clustered]:
    """A head trained on both hospitals of `pair`: on both together (natural cohort), the mean of the two taken alone,
    the difference of these, and the mean over the other hospitals (reserve patients included)."""
    head = find_head(scores, pair)
    together = area_of(test_rows(scores, head, pair))
    within = average([area_of(test_rows(scores, head, [site])) for site in pair])
    others = [site for site in dict.fromkeys(scores["site"]) if site not in pair]
    external = average([area_of(test_rows(scores, head, [site], natural=False)) for site in others])
    return {"joint": together, "within": within, "excess": together - within, "external": external}


def remedy_table(
    scores: pd.DataFrame, pair: Sequence[str], settings: Mapping[str, tuple[str, str, str]] = REMEDIES
) -> pd.DataFrame:
    """One row per remedy and part: value with its interval, and the change against the first remedy with its p; all
    changes are one family of tests (`p_holm`).

    The test images are the same throughout (with markers off, the same bodies), and so are the patients. Remedies that
    these scores do not have (markers off, of real images) are left out.
    """
    known, rows = dict(list(scores.groupby(["markers", "pixels", "weighting"]))), []
    found = {name: judge_remedy(known[setting], pair) for name, setting in settings.items() if setting in known}
    first = next(iter(found))
    for (name, part), area in flatten(found).items():
        change = _change(area - found[first][part]) | ({"p": np.nan} if name == first else {})
        rows.append({"remedy": name, "part": part, **area.estimate().row(), **change})
    return _with_holm(pd.DataFrame(rows))


def describe_family(table: pd.DataFrame) -> str:
    """How many of a table's tests, one family, are below 0.05 before and after Holm's correction."""
    tests, before, after = (int(n) for n in (table["p"].notna().sum(), *(table[["p", "p_holm"]] < 0.05).sum()))
    return f"Of {tests} tests, one family, {before} have p < 0.05, and {after} with Holm's correction (p_holm)."


def _with_holm(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(p_holm=holm(table["p"]))


def _change(change: Comparison | Clustered) -> dict[str, float]:
    """The difference and its p, in columns beside an estimate's own low, high and n."""
    row = change.row()
    return {"change": row["difference"], "change_low": row["low"], "change_high": row["high"], "p": row["p"]}


def region_table(scores: pd.DataFrame, ways: Sequence[str]) -> pd.DataFrame:
    """The small lesion: AUROC of each way of showing the image, and its change against the first, by patient; these
    are one family of tests (`p_holm`)."""
    test = {way: scores[(scores["way"] == way) & (scores["split"] == "test")].sort_values("image_id") for way in ways}
    truth, first = (test[ways[0]]["label"] == "Nodule").to_numpy(), test[ways[0]]["p_Nodule"].to_numpy()
    patients = test[ways[0]]["patient_id"].to_numpy()
    rows = []
    for way, part in test.items():
        found = compare_aurocs(truth, part["p_Nodule"].to_numpy(), first, patients)
        rows.append({"way": way, **found.a.row(), **(_change(found) if way != ways[0] else {})})
    return _with_holm(pd.DataFrame(rows))


def stack_tables(tables: Mapping[str, pd.DataFrame], column: str = "question") -> pd.DataFrame:
    """Several tables as one, with a first column that names each."""
    return pd.concat(tables, names=[column]).reset_index(level=0).reset_index(drop=True)


# --- what a hospital's prevalence alone is worth ----------------------------------------------------------------------
# Zech 2018: "Why better performance on joint NIH+Mount Sinai dataset? It's learning to detect site: Mount Sinai has
# much higher pneumonia rate". Two hospitals of which one has more of a disease can be sorted by that alone: in the
# talk's table, in this run, and where prevalences are engineered. And where a head ranks well within each, knowing the
# hospital as well lifts the joint AUROC by a calculable amount.

# Numbers of positives, least and most, that all printed rates of a hospital's test images share (see `helpers.audit`).
POSSIBLE_POSITIVES = {"nih": (263, 268), "msh": (2997, 2999), "iu": (38, 39)}
GRID = np.linspace(-9, 9, 3601)  # of a binormal score, in deviations

MEASURES = {  # of an engineered set: the head, the places of the images that it scores, and the score
    "joint": ("joint", ("high", "low"), "p"),
    "joint head, high": ("joint", ("high",), "p"),
    "joint head, low": ("joint", ("low",), "p"),
    "internal, high": ("high", ("high",), "p"),
    "internal, low": ("low", ("low",), "p"),
    "external": ("joint", ("away",), "p"),
    "hospital alone": ("joint", ("high", "low"), "prevalence"),
}
DIFFERENCES = ("internal, high", "internal, low", "joint head, high", "joint head, low")


def sorting_here(plain: Mapping[str, pd.DataFrame], pair: Sequence[str]) -> pd.DataFrame:
    """The test images of both hospitals (natural cohort) sorted by their hospital's prevalence, looking at none of
    them, and by the joint head, by setting of the markers; with the two prevalences, of these images."""
    rows = []
    for markers, scores in plain.items():
        shown = test_rows(scores, find_head(scores, pair), pair)
        prevalence = {site: float(truth_of(shown)[(shown["site"] == site).to_numpy()].mean()) for site in pair}
        alone = area_of(shown.assign(alone=shown["site"].map(prevalence)), "alone")
        for name, one in {"hospital alone": alone, "joint head": area_of(shown)}.items():
            row = {"markers": markers, "sorted by": name, **one.estimate().row()}
            rows.append(row | {f"prevalence {site}": share for site, share in prevalence.items()})
    return pd.DataFrame(rows)


def sorting_in_talk() -> pd.DataFrame:
    """The talk's joint test sets, sorted by hospital alone, as its table implies it; nothing of it is printed.

    PPV, NPV, accuracy, sensitivity and specificity of a site's rows leave a few numbers of positives possible.
    Columns: test set, n, the prevalences, the AUROC of sorting by hospital, the AUROC that a head with the printed
    AUROCs within the hospitals would reach if it also knew the hospital, each as low and high over what is possible,
    and the printed AUROC.
    """
    printed, rows = load_published("zech2018").set_index("id")["value"].astype(float), []
    sizes = {site: int(printed[f"{PREFIX}.data.{site}"]) for site in POSSIBLE_POSITIVES}
    for sites in (("msh", "nih"), ("msh", "nih", "iu")):
        corners = product(*(POSSIBLE_POSITIVES[site] for site in sites))
        counts = [[(sizes[site], k) for site, k in zip(sites, corner, strict=True)] for corner in corners]
        inside = [printed[f"{PREFIX}.msh_nih.{site}.auroc"] for site in sites]
        values = {f"prevalence {site.upper()}": [k / sizes[site] for k in POSSIBLE_POSITIVES[site]] for site in sites}
        values["hospital alone"] = [auroc_of_prevalence(one) for one in counts]
        values["with hospital known"] = [auroc_with_hospital_known(one, inside) for one in counts]
        row = {"test set": " + ".join(sites).upper(), "n": sum(sizes[site] for site in sites)}
        for name, known in values.items():
            row |= {f"{name} low": min(known), f"{name} high": max(known)}
        rows.append(row | {"printed": printed[f"{PREFIX}.msh_nih.{'_'.join(sites)}.auroc"]})
    return pd.DataFrame(rows)


def auroc_of_prevalence(counts: Sequence[tuple[int, int]]) -> float:
    """The AUROC of the hospital's prevalence as the score, from each hospital's images and positives."""
    n, positives = np.asarray(counts, float).T
    rate = positives / n
    return _weighted_area(rate, positives / positives.sum(), rate, (n - positives) / (n - positives).sum())


def auroc_with_hospital_known(counts: Sequence[tuple[int, int]], aurocs: Sequence[float]) -> float:
    """The joint AUROC of a head that reaches `aurocs` within the hospitals and also knows which one an image is from.

    Within each, scores are taken to be normal with equal deviations (binormal), and the hospital's prior odds are
    added, as the best possible use of it.
    """
    n, positives = np.asarray(counts, float).T
    d = (np.sqrt(2) * norm.ppf(aurocs))[:, None]
    odds = np.log(positives / (n - positives))[:, None]
    density = norm.pdf(GRID) / norm.pdf(GRID).sum()
    parts = []
    for ill, mass in ((1, positives), (0, n - positives)):  # a binormal score's log likelihood ratio is linear in it
        parts += [(d * (GRID + d * ill) - d**2 / 2 + odds).ravel(), np.outer(mass / mass.sum(), density).ravel()]
    return _weighted_area(*parts)


def _weighted_area(above: np.ndarray, p: np.ndarray, below: np.ndarray, q: np.ndarray) -> float:
    """The AUROC of positives at scores `above` with weights `p`, and negatives at `below` with weights `q`."""
    truth = np.repeat([True, False], [len(above), len(below)])
    return float(roc_auc_score(truth, np.r_[above, below], sample_weight=np.r_[p, q]))


def imbalance_curve(engineered: pd.DataFrame, high: str, low: str) -> pd.DataFrame:
    """The engineered experiment: a row per setting of the markers, ratio and measure, the mean AUROC over the draws.

    Measures: `MEASURES`, "hospital alone", and "joint - ..." for each of `DIFFERENCES`, with `p` (two-sided), those of
    a setting of the markers being one family (`p_holm`). Intervals hold the error of the patients, each over all draws
    it is in, and the spread between the draws, which overlap. n: different test images.
    """
    place = engineered["site"].map({high: "high", low: "low"}).fillna("away")
    settings = engineered.assign(place=place).groupby(["markers", "ratio"], sort=False)
    tables = {setting: pd.DataFrame(_means_over_draws(part)) for setting, part in settings}
    table = pd.concat(tables, names=["markers", "ratio"]).reset_index(["markers", "ratio"]).reset_index(drop=True)
    return table.assign(p_holm=table.groupby("markers")["p"].transform(holm))


def _means_over_draws(part: pd.DataFrame) -> list[dict[str, Any]]:
    drawn, rows = {}, []
    for name, (trained, places, score) in MEASURES.items():
        shown = part[(part["trained_on"] == trained) & part["place"].isin(places)]
        areas = [area_of(shown[shown["draw"] == draw], score) for draw in sorted(part["draw"].unique())]
        values = pd.Series([one.value for one in areas]).dropna()
        drawn[name], n = areas, part.loc[(part["place"] == "away") == (name == "external"), "image_id"]
        row = {"measure": name, **over_trainings(areas).estimate().row(), "n": n.nunique()}
        rows.append(row | {"draws": len(values), "least": values.min(), "most": values.max()})
    for name in DIFFERENCES:
        each = [joint - other for joint, other in zip(drawn["joint"], drawn[name], strict=True)]
        row = {"measure": f"joint - {name}", **over_trainings(each).row("value")}
        rows.append(row | {"draws": part["draw"].nunique(), "n": rows[0]["n"]})
    return rows


def imbalance_verdicts(curve: pd.DataFrame) -> pd.DataFrame:
    """In words, at the least and the greatest imbalance: whether the joint AUROC exceeds what it is compared with.

    "exceeds" or "below" with p_holm < 0.05; else "no difference shown"."""
    ends = curve["ratio"].isin([curve["ratio"].min(), curve["ratio"].max()])
    found = curve[curve["measure"].str.startswith("joint - ") & ends]
    shown = found["p_holm"] < 0.05
    word = np.select([shown & (found["value"] > 0), shown], ["exceeds", "below"], "no difference shown")
    columns = ["markers", "ratio", "measure", "value", "low", "high", "p", "p_holm"]
    return found[columns].assign(verdict=word).round(4).reset_index(drop=True)
