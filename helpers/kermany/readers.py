"""Human readers: a documented CSV of their reads, simulated readers for phantoms, and readers beside the model.

The CSV has a header and one row per read, UTF-8, comma-separated, in any order; other columns are ignored:

    reader,image,label
    Dr A,CNV-1016042-1,CNV
    Dr A,NORMAL-1038998-1,DRUSEN

`reader` is any name, `image` the image_id of a test image or its file's name without folder and ending, `label` a class
as the data set spells it. A reader need not have read every image, but may not have read one twice. Kermany 2018 asked
six experts about 1,000 test images ("using only the patient's OCT images"); their reads are not public, so none come
with this project.

Reads are a frame: reader, image_id, label, simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from helpers.data.catalogue import Catalogue, read_user_table, refuse_rows
from helpers.kermany.data import URGENT, is_urgent
from helpers.kermany.numbers import PENALTIES, weighted_error
from helpers.metrics.classification import accuracy, confusion, predicted_labels, rates
from helpers.metrics.comparison import compare_clustered, holm, mcnemar
from helpers.metrics.estimate import FIELDS, Estimate, estimate_frame, likelihood_ratios
from helpers.run.steps import nearest

MODEL, LIMITED = "model", "limited model"

# Simulated readers. How much an image of one class looks like another, from 0 (not at all) to 1 (the same): subretinal
# material passes for drusen or for cysts, a few cysts or small drusen are overlooked.
ALIKE = {
    "CNV": {"DRUSEN": 0.45, "DME": 0.40, "NORMAL": 0.15},
    "DME": {"NORMAL": 0.40, "CNV": 0.40, "DRUSEN": 0.15},
    "DRUSEN": {"NORMAL": 0.50, "CNV": 0.40, "DME": 0.10},
    "NORMAL": {"DRUSEN": 0.50, "DME": 0.40, "CNV": 0.20},
}
NOISE = (0.08, 0.14)  # spread of the best and the worst reader's impression, where a plain image's evidence is 1
BIAS = 0.04  # evidence that the readiest reader adds to urgent classes, and the most reluctant takes away
SHARED = 0.3  # share of the impression's variance that all readers share, so that they err on the same images
SUBTLE = 0.45  # evidence left on the subtlest lesion, and
NOISY = 0.6  # on the noisiest image


def open_reads(settings, catalogue: Catalogue) -> pd.DataFrame:
    """Reads of the test images: from `readers_file`; without one simulated on phantoms, and none on real images."""
    test = catalogue.frame[catalogue.frame["published_split"] == "test"]
    if settings.readers_file:
        return load_readers(settings.readers_file, catalogue.subset(test))
    if not catalogue.phantom:
        return pd.DataFrame(columns=["reader", "image_id", "label", "simulated"])
    return simulate_readers(test, catalogue.classes, seed=settings.seed)


def describe_reads(reads: pd.DataFrame) -> str:
    """Who the readers are, in words for a figure: nobody may take simulated ones for people."""
    if reads.empty:
        return "no readers: the paper's reads are not public"
    people = reads["reader"].nunique()
    return f"{people} SIMULATED readers" if reads["simulated"].all() else f"{people} readers"


def load_readers(path: str | Path, catalogue: Catalogue) -> pd.DataFrame:
    """The reads in the CSV at `path`: a frame of reader, image_id, label and simulated (False), in the file's order.

    Raises `UserTableError` for a file that `read_user_table` refuses, a label that is no class, an image read twice by
    one reader, and a reader called as a model is.
    """
    table, refuse = read_user_table(path, ["reader", "image", "label"], catalogue), partial(refuse_rows, path)
    hinted = table.assign(hint=table["label"].map(lambda label: nearest(label, catalogue.classes)))
    refuse(hinted, ~table["label"].isin(catalogue.classes), "label '{label}' is not a class{hint}")
    refuse(table, table[["reader", "image"]].duplicated(), "reader '{reader}' has already read image '{image}'")
    refuse(table, table["reader"].isin((MODEL, LIMITED)), "a reader may not be called '{reader}'")
    return table.rename(columns={"image": "image_id"}).assign(simulated=False).reset_index(drop=True)


# --- simulated readers ------------------------------------------------------------------------------------------------


def simulate_readers(images: pd.DataFrame, classes: Sequence[str], readers: int = 6, seed: int = 1) -> pd.DataFrame:
    """Simulated reads of every image by `readers` readers, for phantoms only; each row carries simulated = True.

    `images` has image_id and label, and may have severity (0 subtle to 1 plain) and quality (0 noisy to 1 clean); a
    missing column or value counts as an image drawn at random from that range. A reader takes the class with the most
    evidence: the image's own, less on subtle and noisy images, plus that of look-alikes, plus noise, part of which all
    readers share. Readers differ in noise (skill) and in how readily they refer, so their sensitivities and
    specificities trade off along a curve. The reads depend on the images and the seed, not on the order of rows, and
    a reader's noise not on how many readers there are.

    The weighted errors come out at about those of Kermany's experts, 0.4 to 10.5 % (Results, Comparison of the Model
    with Human Experts), so that the figures look alike; they are evidence of nothing.
    """
    frame = images.sort_values("image_id").reset_index(drop=True)
    streams = np.random.SeedSequence(seed).spawn(readers + 1)  # one for the images and traits, then one per reader
    rng = np.random.default_rng(streams[0])
    evidence = _evidence(frame, classes, rng)
    shared = rng.normal(size=evidence.shape)
    # Evenly spread, so that every seed has good and poor readers, then shuffled.
    noise, bias = (rng.permutation(np.linspace(*ends, readers)) for ends in (NOISE, (-BIAS, BIAS)))
    reads = []
    for number in range(readers):
        own = np.random.default_rng(streams[number + 1]).normal(size=evidence.shape)
        impression = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
        chosen = (evidence + noise[number] * impression + bias[number] * np.isin(classes, URGENT)).argmax(axis=1)
        label = np.array(list(classes), dtype=object)[chosen]
        reads.append(pd.DataFrame({"reader": f"Reader {number + 1}", "image_id": frame["image_id"], "label": label}))
    return pd.concat(reads, ignore_index=True).assign(simulated=True)


def _evidence(frame: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Evidence for each class in each image, before any reader's noise: (images, classes), about 0 to 1."""
    severity = np.where(frame["label"] == "NORMAL", 1.0, _column(frame, "severity", rng))  # nothing to overlook
    strength = (SUBTLE + (1 - SUBTLE) * severity) * (NOISY + (1 - NOISY) * _column(frame, "quality", rng))
    alike = {true: [1.0 if true == c else ALIKE[true][c] for c in classes] for true in classes}
    return strength[:, None] * np.array([alike[label] for label in frame["label"]])


def _column(frame: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.random(len(frame))  # always drawn, so that a column more or less changes nothing else
    known = pd.to_numeric(frame[name]).to_numpy(dtype=float) if name in frame.columns else np.full(len(frame), np.nan)
    return np.where(np.isnan(known), drawn, known)


# --- readers beside the model -----------------------------------------------------------------------------------------


def reader_statistics(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row for each of "model" and the readers, and each statistic: reader, statistic, and the estimate's fields.

    Each reader is judged on the images that `reads` and the scores frame `scores` share, the model on all in `scores`,
    by its most probable class. Statistics (figures 4A, 4C, S3 and table S2): accuracy (all classes); sensitivity,
    specificity, positive and negative likelihood ratio (urgent referral); weighted error. Intervals are by patient,
    but for those of the ratios.
    """
    found = {}
    for who, one in _predictions(reads, scores, classes).items():
        true, predicted = one["label"], one["predicted"]
        urgent, called = is_urgent(true), is_urgent(predicted)
        referral, ratios = rates(urgent, called, one["patient_id"]), likelihood_ratios(urgent, called)
        found[who, "accuracy"] = accuracy(true, predicted, one["patient_id"])
        found |= {(who, name): referral[name] for name in ("sensitivity", "specificity")}
        found |= {(who, f"{name} likelihood ratio"): ratio for name, ratio in ratios.items()}
        found[who, "weighted error"] = weighted_error(true, predicted, PENALTIES, one["patient_id"]).estimate()
    return estimate_frame(found, "reader", "statistic")


def model_against_readers(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The model against each reader on the images that reader read, by patient, and by McNemar's exact test beside it.

    The paper calls model and experts "statistically similar" because intervals overlap; this compares image by image.
    One row per reader and question ("label": the right one of the classes; "referral": urgent or not): the four counts,
    n, the difference of the accuracies (model less reader) with its interval, p and p_holm by patient (Holm's
    correction, all rows being one family), and p by image.
    """
    people = _predictions(reads, scores, classes)
    model = people.pop(MODEL).set_index("image_id")["predicted"]
    rows = []
    for who, one in people.items():
        guesses, patients = (model.loc[one["image_id"]].to_numpy(), one["predicted"].to_numpy()), one["patient_id"]
        for question, answer in {"label": np.asarray, "referral": is_urgent}.items():
            a, b = (answer(one["label"]) == answer(guess) for guess in guesses)
            found, by_image = compare_clustered(a, patients, b, patients), mcnemar(a, b)
            row = {"reader": who, "question": question, "both": by_image.both, "only_model": by_image.only_a}
            row |= {"only_reader": by_image.only_b, "neither": by_image.neither, "n": len(one), **found.row()}
            rows.append(row | {"p by image": by_image.p})
    return pd.DataFrame(rows).assign(p_holm=lambda table: holm(table["p"]))


def reader_confusions(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The confusion table of "model" and of each reader (figures 4B and S4B): rows true, columns predicted."""
    people = _predictions(reads, scores, classes)
    return {who: confusion(one["label"], one["predicted"], classes) for who, one in people.items()}


def estimates_by_reader(statistics: pd.DataFrame, statistic: str) -> dict[str, Estimate]:
    """One statistic of `reader_statistics`, reader by reader, as estimates again."""
    rows = statistics[statistics["statistic"] == statistic].set_index("reader")[FIELDS]
    return {who: Estimate(**row) for who, row in rows.to_dict("index").items()}


def weighted_error_range(statistics: pd.DataFrame) -> dict[str, Estimate]:
    """Lowest, highest and mean weighted error of the readers, and their number; empty without readers.

    "The weighted error of the experts ranged from 0.4% to 10.5%, with a mean weighted error of 4.8%" (Results). The
    mean's interval is Student's over readers, who are few; the extremes have none.
    """
    readers = statistics[~statistics["reader"].isin([MODEL, LIMITED])]
    values = readers.loc[readers["statistic"] == "weighted error", "value"].to_numpy()
    n = len(values)
    if n == 0:
        return {}
    without = (np.nan, np.nan, n, "none")
    mean = Estimate(values.mean(), *without, "one reader" if n == 1 else "all readers are equal")
    if np.ptp(values) > 1e-12:
        low, high = ttest_1samp(values, 0).confidence_interval()
        mean = Estimate(values.mean(), max(0.0, low), high, n, "t over readers")
    return {
        "weighted_error_lowest": Estimate(values.min(), *without, "the lowest of these readers"),
        "weighted_error_highest": Estimate(values.max(), *without, "the highest of these readers"),
        "weighted_error_mean": mean,
        "count": Estimate.exact(n, "counted", n),
    }


def _predictions(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The model and each reader, by name: a frame of image_id, patient_id, label (the true one) and predicted."""
    truth = scores[["image_id", "patient_id", "label"]]
    people = {MODEL: truth.assign(predicted=predicted_labels(scores, classes))}
    for who, mine in reads.rename(columns={"label": "predicted"}).groupby("reader", sort=False):
        people[who] = truth.merge(mine[["image_id", "predicted"]], on="image_id", validate="1:1")
    return people
