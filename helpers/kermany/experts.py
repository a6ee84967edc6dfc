"""Readers beside the model: what each got right, and whether they differ (figures 4A, 4C, S3, S4B and table S2).

Kermany 2018, Comparison of the Model with Human Experts: sensitivity and specificity of urgent referral, likelihood
ratios and weighted error, for the model and for each of six experts on the same images. The paper calls them
"statistically similar" because intervals overlap; McNemar's test, which it does not have, compares image by image.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from helpers.kermany.likelihood import likelihood_ratios
from helpers.kermany.weighted import KERMANY_PENALTIES, weighted_error
from helpers.metrics.checks import check_classes
from helpers.metrics.classification import accuracy, confusion, is_urgent, predicted_labels, rates
from helpers.metrics.comparison import mcnemar
from helpers.metrics.estimate import Estimate

MODEL, LIMITED = "model", "limited model"


def reader_statistics(
    reads: pd.DataFrame,
    scores: pd.DataFrame,
    classes: Sequence[str],
    penalties: pd.DataFrame = KERMANY_PENALTIES,
    resamples: int = 2000,
    seed: int = 1,
) -> pd.DataFrame:
    """One row for each of "model" and the readers, and each statistic: reader, statistic, and the estimate's fields.

    `reads` is a frame of `helpers.kermany.readers`, `scores` a scores frame; each reader is judged on the images that both
    have, the model on all in `scores`, by its most probable class. Statistics: accuracy (all classes); sensitivity,
    specificity, positive and negative likelihood ratio (urgent referral); weighted error, its interval by patient.
    """
    rows = []
    for who, one in _everyone(reads, scores, classes).items():
        true, said, patients = one["label"], one["said"], one["patient_id"]
        urgent, called = is_urgent(true), is_urgent(said)
        referral, ratios = rates(urgent, called), likelihood_ratios(urgent, called)
        found = {
            "accuracy": accuracy(true, said),
            "sensitivity": referral["sensitivity"],
            "specificity": referral["specificity"],
            "positive likelihood ratio": ratios["positive"],
            "negative likelihood ratio": ratios["negative"],
            "weighted error": weighted_error(true, said, classes, penalties, patients, resamples, seed),
        }
        rows += [{"reader": who, "statistic": name, **estimate.as_dict()} for name, estimate in found.items()]
    return pd.DataFrame(rows)


def model_against_readers(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """McNemar's exact test of the model against each reader on the images that reader read.

    One row a reader and question ("label": the right one of the classes; "referral": urgent or not): the four counts,
    n, the difference of the shares correct (model less reader) with its interval, p, and p_holm, which allows for
    asking one question of several readers (Holm).
    """
    people = _everyone(reads, scores, classes)
    model = people.pop(MODEL).set_index("image_id")["said"]
    rows = []
    for who, one in people.items():
        guess = model.loc[one["image_id"]].to_numpy()
        rows.append(_row(who, "label", one["label"].to_numpy() == guess, (one["label"] == one["said"]).to_numpy()))
        urgent = is_urgent(one["label"])
        rows.append(_row(who, "referral", urgent == is_urgent(guess), urgent == is_urgent(one["said"])))
    if not rows:  # no readers: the same columns, and no rows
        return pd.DataFrame([_row("", "", [], [])]).assign(p_holm=0.0).iloc[:0]
    table = pd.DataFrame(rows)
    from statsmodels.stats.multitest import multipletests

    table["p_holm"] = table.groupby("question")["p"].transform(lambda p: multipletests(p, method="holm")[1])
    return table


def reader_confusions(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The confusion table of "model" and of each reader (figures 4B and S4B): rows true, columns predicted."""
    return {
        who: confusion(one["label"], one["said"], classes) for who, one in _everyone(reads, scores, classes).items()
    }


def estimates(statistics: pd.DataFrame, statistic: str) -> dict[str, Estimate]:
    """One statistic of `reader_statistics`, reader by reader, as estimates again."""
    rows = statistics[statistics["statistic"] == statistic]
    fields = ["value", "low", "high", "n", "method", "note"]
    return {row["reader"]: Estimate(**{name: row[name] for name in fields}) for row in rows.to_dict("records")}


def weighted_error_range(statistics: pd.DataFrame) -> dict[str, Estimate]:
    """Lowest, highest and mean weighted error of the readers, and how many they are; empty without readers.

    "The weighted error of the experts ranged from 0.4% to 10.5%, with a mean weighted error of 4.8%" (Results). The
    mean's interval is Student's over readers, who are few; the extremes have none.
    """
    from scipy import stats

    readers = statistics[~statistics["reader"].isin([MODEL, LIMITED])]
    values = readers.loc[readers["statistic"] == "weighted error", "value"].to_numpy()
    n = len(values)
    if n == 0:
        return {}
    alone = {"lowest": values.min(), "highest": values.max()}
    found = {f"weighted_error_{name}": Estimate(x, x, x, n, "over readers") for name, x in alone.items()}
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5) if n > 1 else 0.0
    found["weighted_error_mean"] = Estimate(mean, max(0.0, mean - half), mean + half, n, "t over readers")
    return found | {"count": Estimate(n, n, n, n, "counted")}


def _everyone(reads: pd.DataFrame, scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The model and each reader, by name: a frame of image_id, patient_id, label (the true one) and said."""
    for name, frame, needed in (
        ("reads", reads, ("reader", "image_id", "label")),
        ("scores", scores, ("image_id", "patient_id", "label")),
    ):
        missing = [column for column in needed if column not in frame.columns]
        if missing:
            raise ValueError(f"the {name} have no column {', '.join(missing)}")
    if scores["image_id"].duplicated().any() or reads.duplicated(["reader", "image_id"]).any():
        raise ValueError("an image stands twice in the scores, or twice among one reader's reads")
    if taken := {MODEL, LIMITED} & set(reads["reader"]):
        raise ValueError(f"a reader may not be called '{min(taken)}'")
    truth = scores[["image_id", "patient_id", "label"]]
    everyone = {MODEL: truth.assign(said=predicted_labels(scores, check_classes(classes)))}
    said = reads.rename(columns={"label": "said"})[["reader", "image_id", "said"]]
    for who in dict.fromkeys(reads["reader"]):
        everyone[who] = truth.merge(said[said["reader"] == who].drop(columns="reader"), on="image_id", validate="1:1")
        if everyone[who].empty:
            raise ValueError(f"reader '{who}' has read none of the images in the scores")
    return everyone


def _row(who: str, question: str, model_right, reader_right) -> dict:
    test = mcnemar(model_right, reader_right)
    difference: Estimate = test.difference
    return {
        "reader": who,
        "question": question,
        "both": test.both,
        "only_model": test.only_a,
        "only_reader": test.only_b,
        "neither": test.neither,
        "n": difference.n,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": test.p,
    }
