"""The talk's numbers of CheXNet, as printed, and ours beside them: AUROCs of fourteen labels, F1 of pneumonia.

Where a number of ours comes from is one of three levels, which no table or claim leaves out: *re-scored* (Zech's
published predictions and NIH's labels: real, nothing is trained), *retrained here* (a network trained on the NIH images
that lie there), *phantom* (a network trained on made-up images, evidence about no paper).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.metrics.estimate import Estimate
from helpers.run.published import load_published

if TYPE_CHECKING:
    from helpers.metrics.auroc import Comparison
    from helpers.model.backbones import Backbone
    from helpers.zech.predictions import Predictions

RESCORED, RETRAINED, PHANTOM = "re-scored", "retrained here", "phantom"
QUOTED = ("radiologist_1", "radiologist_2", "radiologist_3", "radiologist_4", "radiologists", "chexnet")
GROUNDS = (
    "re-scored here from the predictions that Zech published, which are of a network he retrained in 2022, not the "
    "talk's of 2018; nothing was trained here"
)


def published_aurocs() -> pd.DataFrame:
    """The talk's table: `retrained` and `chexnet` by label, in its order; both without intervals, as printed."""
    rows = load_published("zech2018").set_index("id")
    labels = [row["quantity"].split(", ")[1] for name, row in rows.iterrows() if _is_area(name, row)]
    values = {
        column: [float(rows.loc[f"zech2018.auroc.{column}.{label.lower()}", "value"]) for label in labels]
        for column in ("retrained", "chexnet")
    }
    return pd.DataFrame(values, index=pd.Index(labels, name="label"))


def _is_area(name: str, row: pd.Series) -> bool:
    return name.startswith("zech2018.auroc.retrained.") and not row["repeats"]


def published_f1() -> dict[str, Estimate]:
    """F1 of four radiologists, of their mean and of CheXNet for pneumonia, with the intervals that the talk prints."""
    rows = load_published("zech2018").set_index("id").loc[[f"zech2018.quoted.rajpurkar.f1.{name}" for name in QUOTED]]
    return {
        row["quantity"].split(", ")[-1]: Estimate(row["value"], row["low"], row["high"], int(row["n"]), "as printed")
        for _, row in rows.iterrows()
    }


def claims(
    areas: Mapping[str, Mapping[str, Estimate]],
    own: str,
    own_comparable: bool,
    published: Predictions | None,
    images: int,
) -> dict[str, tuple[Estimate | float, tuple[bool, str] | None]]:
    """What is held against the talk, by claim id: a value, and its grounds where they are not the notebook's own.

    Areas: this run's network where it was trained on all of NIH's images (`own_comparable`); else the re-scored ones
    where there are `published` predictions; else this run's network, which is then comparable to nothing. `images`: of
    the study.
    """
    rescored = published is not None and not own_comparable
    grounds = (True, GROUNDS) if rescored else None
    found = areas[RESCORED if rescored else own]
    made = {f"zech2018.auroc.retrained.{label.lower()}": (value, grounds) for label, value in found.items()}
    rows = (True, "the rows of NIH's own table, not images") if rescored else None
    made["zech2018.data.nih_images"] = (published.entries if rescored else images, rows)
    made["zech2018.data.diagnoses"] = (len(found), grounds)
    return made


def layers(backbone: Backbone) -> int:
    """Layers with a kernel, as a network's name counts them: DenseNet-121's 120 convolutions and the last layer."""
    kernels = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return 1 + sum(any(hasattr(layer, name) for name in kernels) for layer in backbone.model.layers)


def beside_published(found: Mapping[str, Estimate], aucs: pd.Series) -> pd.DataFrame:
    """Re-scored areas with their intervals, beside the folder's own `aucs` (by label) and the talk's retrained ones.

    `equal`: to four decimals, the folder's.
    """
    talk = published_aurocs()["retrained"]
    table = estimates_table(found).assign(folder=[aucs[label] for label in found])
    table["equal"] = (table["value"].round(4) == table["folder"].round(4)).to_numpy()
    table["talk: retrained"] = [talk[label] for label in found]
    return table.assign(difference=table["value"] - table["talk: retrained"])


def estimates_table(found: Mapping[str, Estimate]) -> pd.DataFrame:
    """A row a label: value, low, high, n, method, note."""
    return pd.DataFrame([{"label": label, **estimate.as_dict()} for label, estimate in found.items()])


def comparison_table(found: Mapping[str, Comparison]) -> pd.DataFrame:
    """A row a label: both areas, their difference with its interval, and p."""
    return pd.DataFrame(
        [
            {"label": label, "fine-tuned": c.auroc_a.value, "frozen": c.auroc_b.value, "difference": c.difference.value}
            | {"low": c.difference.low, "high": c.difference.high, "n": c.difference.n, "p": c.p}
            for label, c in found.items()
        ]
    )


def auroc_table(
    levels: Mapping[str, Mapping[str, Estimate]], positives: Mapping[str, Mapping[str, int]]
) -> pd.DataFrame:
    """The talk's table with ours beside it: a row a label; for each level its AUROC, interval, images and positives."""
    published = published_aurocs()
    table = published.rename(columns={"retrained": "talk: retrained", "chexnet": "talk: CheXNet"})
    for level, found in levels.items():
        for name, attribute in ((level, "value"), (f"{level}: low", "low"), (f"{level}: high", "high")):
            table[name] = [getattr(found[label], attribute) if label in found else np.nan for label in table.index]
        table[f"{level}: images"] = [found[label].n if label in found else 0 for label in table.index]
        table[f"{level}: positives"] = [positives[level].get(label, 0) for label in table.index]
    return table.reset_index()


def f1_table(
    readers: Mapping[str, Estimate], ours: Mapping[str, tuple[Estimate | None, pd.DataFrame]], label: str
) -> pd.DataFrame:
    """Readers as printed, then ours with the prevalence of the images and what calling everyone positive scores.

    `ours[name]` = (F1 of `label`, or None where the network does not know it; the scores it is of).
    """
    rows = [
        {"reader or network": name, "where from": "printed in the talk", **e.as_dict()} for name, e in readers.items()
    ]
    for name, (estimate, scores) in ours.items():
        estimate = estimate or Estimate.undefined(len(scores), "", f"{label} was not learnt: too few images")
        share = float(scores[f"y_{label}"].mean()) if f"y_{label}" in scores else np.nan
        rows.append(
            {"reader or network": name, "where from": "this run", **estimate.as_dict(), "prevalence": share}
            | {"F1 of calling everyone positive": 2 * share / (1 + share)}
        )
    return pd.DataFrame(rows)
