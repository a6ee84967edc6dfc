"""What table 3 of Zech's talk prints, by its ids in data/published/, from a table of this study's."""

from __future__ import annotations

import pandas as pd

from helpers.metrics.estimate import Estimate
from helpers.zech.generalization import RATES

CALLED = {"MSH-like": "msh", "NIH-like": "nih", "NIH": "nih", "IU-like": "iu"}  # in the order of the ids
PREFIX = "zech2018.generalization"
TRAINED, COUNTED = ("nih", "msh", "msh_nih"), ("nih", "iu")  # heads; hospitals whose number of test images is a claim


def id_of(sites: str) -> str:
    """'NIH-like + MSH-like' as the ids have it, 'msh_nih'; "" where a hospital stands for none of the talk's."""
    names = sites.split(" + ")
    if not set(names) <= set(CALLED):
        return ""
    return "_".join(word for name, word in CALLED.items() if name in names)


def table_3(table: pd.DataFrame) -> dict[str, Estimate | float]:
    """Id to what was obtained: AUROC, the rates at the threshold that the test images themselves gave, as in the
    talk, and the numbers of test images."""
    found: dict[str, Estimate | float] = {}
    for row in table.to_dict("records"):
        trained, tested = id_of(row["trained_on"]), id_of(row["tested_on"])
        if trained not in TRAINED or tested not in ("nih", "msh", "iu", "msh_nih", "msh_nih_iu"):
            continue
        if tested in COUNTED:
            found[f"{PREFIX}.data.{tested}"] = float(row["n"])
        auroc = (row["auroc"], row["low"], row["high"], row["n"], "DeLong, logit")
        found[f"{PREFIX}.{trained}.{tested}.auroc"] = Estimate(*auroc)
        for name in RATES:
            value = (row[f"{name} (test)"], row[f"{name}_low (test)"], row[f"{name}_high (test)"])
            found[f"{PREFIX}.{trained}.{tested}.{name}"] = Estimate(*value, row[f"{name}_n (test)"], "Clopper-Pearson")
    return found
