"""An estimate with its 95 % interval, tables of estimates, and the check that every statistic makes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from statsmodels.stats.contingency_tables import Table2x2
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

FIELDS = ["value", "low", "high", "n", "method", "note"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, the number of observations behind it, and the method of the interval.

    `value`, `low` and `high` share one unit (a proportion is 0 to 1, never per cent). An estimate that the data
    cannot give (no positives, for example) has NaN for all three; one without an interval has NaN for `low` and `high`.
    `note` gives the reason.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        ends = math.isnan(self.low) + math.isnan(self.high)
        if ends == 1 or ends == 0 and not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low} to {self.high} does not hold the value {self.value}")

    @classmethod
    def undefined(cls, n: int, method: str, why: str) -> Estimate:
        """An estimate that the data cannot give, with the reason."""
        return cls(math.nan, math.nan, math.nan, n, method, why)

    @classmethod
    def exact(cls, value: float, method: str = "counted", n: int = 0) -> Estimate:
        """A number without uncertainty: a count, a setting, a duration."""
        return cls(float(value), float(value), float(value), n, method)

    @property
    def defined(self) -> bool:
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """True where there is an interval."""
        return not math.isnan(self.low)

    def without_interval(self, why: str) -> Estimate:
        """The value alone, where the interval would not hold the truth as often as it says."""
        return replace(self, low=math.nan, high=math.nan, method="none", note=why) if self.defined else self

    def as_dict(self) -> dict:
        return asdict(self)

    def row(self, name: str = "value") -> dict[str, float]:
        """The numbers alone, as part of a table's row: `name`, low, high and n."""
        return {name: self.value, "low": self.low, "high": self.high, "n": self.n}

    def percent(self, digits: int = 1) -> str:
        """'96.6 % (95.3 to 97.6)', as the papers print proportions."""
        if not self.defined:
            return str(self)
        value, low, high = (f"{100 * x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value} % ({low} to {high})" if self.bounded else f"{value} % (no interval)"

    def plain(self, digits: int = 3) -> str:
        """'0.966 (0.953 to 0.976)', as an AUROC is printed; cut, not rounded, below 1, so that only 1 reads as 1."""
        if not self.defined:
            return str(self)
        value, low, high = (
            f"{x if x == 1 else min(x, 1 - 10.0**-digits):.{digits}f}" for x in (self.value, self.low, self.high)
        )
        return f"{value} ({low} to {high})" if self.bounded else f"{value} (no interval)"

    def __str__(self) -> str:
        if not self.defined:
            return f"undefined ({self.note})" if self.note else "undefined"
        interval = f"{self.low:.4g} to {self.high:.4g}" if self.bounded else f"no interval: {self.note}"
        return f"{self.value:.4g} ({interval}), n = {self.n}"


def flatten(groups: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """The entries of a mapping of mappings by both keys, for `estimate_frame`."""
    return {(group, key): value for group, found in groups.items() for key, value in found.items()}


def estimate_frame(found: Mapping[Any, Estimate], *names: str) -> pd.DataFrame:
    """Estimates as a table: their keys (or the parts of a tuple) in columns `names`, then the fields of each."""
    keys = [key if isinstance(key, tuple) else (key,) for key in found]
    return pd.DataFrame(list(found.values()), pd.MultiIndex.from_tuples(keys, names=names), FIELDS).reset_index()


def estimate_table(
    groups: Mapping[str, Mapping[str, Estimate]], names: tuple[str, str] = ("model", "quantity")
) -> pd.DataFrame:
    """One row per group and quantity, whose headings are `names`: the keys of the outer and of the inner mappings."""
    table = estimate_frame(flatten(groups), *names)
    return table.assign(**{names[1]: table[names[1]].str.replace("_", " ")})


def side_by_side(groups: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """The same for reading: one row per quantity, one column per group, per cent with the interval."""
    return pd.DataFrame(
        {group: {key.replace("_", " "): e.percent() for key, e in found.items()} for group, found in groups.items()}
    )


def as_arrays(**inputs: tuple[Any, type]) -> list[np.ndarray]:
    """Inputs as 1-d arrays of one length: `name=(values, kind)`, the kind being bool, float or object (labels).

    Raises `ValueError`, with the name, for a missing value, for text or other numbers than 0 and 1 as bool ('False' is
    not False), for text as float, and where lengths differ. Infinite numbers may stand, since they can be ranked.
    """
    arrays = {name: np.asarray(values) for name, (values, _) in inputs.items()}
    for name, array in arrays.items():
        if array.ndim != 1 or pd.isna(array).any():
            raise ValueError(f"{name}: expected one value per image, none of them missing")
        kind = inputs[name][1]
        if kind is bool and not set(array.tolist()) <= {0, 1} or kind is float and array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: expected {'numbers' if kind is float else 'True/False or 1/0'}")
        arrays[name] = array.astype(kind)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lengths differ: {', '.join(f'{name} has {n}' for name, n in lengths.items())}")
    return list(arrays.values())


def places_of(labels: Any, classes: Iterable[str]) -> np.ndarray:
    """Where each label is among `classes`: int (n,). Raises `ValueError` for one that is not."""
    known, labels = pd.Index(classes), pd.Index(labels)
    if len(unknown := labels.difference(known)):
        raise ValueError(f"labels: {', '.join(map(str, unknown[:3]))} not one of {', '.join(known)}")
    return known.get_indexer(labels)


def lacks_class(truth: np.ndarray) -> str:
    """Why `truth` (boolean) has no positives or no negatives, or an empty string."""
    if not len(truth):
        return "no observations"
    return "" if 0 < truth.sum() < len(truth) else ("no negatives" if truth.any() else "no positives")


ALPHA = 0.05  # intervals are 95 %
Z = 1.959963984540054  # the normal quantile at 1 - ALPHA / 2

METHODS = {"Clopper-Pearson": "beta", "Wilson": "wilson"}  # our name: statsmodels' name
LOG_METHOD = "log method (Simel)"


def proportion(successes: int, n: int, method: str = "Clopper-Pearson") -> Estimate:
    """`successes` of `n` as a proportion (0 to 1) with its 95 % interval, by default exact (Clopper-Pearson).

    With n = 0 the estimate is undefined. Raises `ValueError` for counts that are not whole, negative, or more than n.
    """
    if not 0 <= successes <= n or successes % 1 or n % 1:
        raise ValueError(f"{successes} successes of {n}: expected whole numbers, and a proportion of at most 1")
    k, n = int(successes), int(n)
    if n == 0:
        return Estimate.undefined(0, method, "no observations")
    low, high = proportion_confint(k, n, alpha=ALPHA, method=METHODS[method])
    # The limits reach 0 and 1 exactly at the ends, but not quite in floating point (nor where a beta quantile is NaN).
    low = 0.0 if k == 0 else min(float(low), k / n)
    high = 1.0 if k == n else max(float(high), k / n)
    return Estimate(k / n, low, high, n, method)


def proportion_difference(a: int, n_a: int, b: int, n_b: int) -> Estimate:
    """The difference of two independent proportions, a / n_a - b / n_b, with Newcombe's 95 % interval (method 10)."""
    if not (n_a and n_b):
        return Estimate.undefined(n_a + n_b, "Newcombe", "no observations")
    value = a / n_a - b / n_b
    low, high = confint_proportions_2indep(a, n_a, b, n_b, "newcomb", "diff", ALPHA)
    return Estimate(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)), n_a + n_b, "Newcombe")


def unanimous_bounds(value: float, k: int, lowest: float, highest: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Bounds on a mean, from `k` independent draws in `lowest` to `highest` that all gave the same `value`.

    Such data have no spread, so that DeLong and Wald call the value certain. What holds exactly:
    were P(draw = value) below q = 0.025 ** (1 / k), then k such draws in a row had a chance below 2.5 %; so the mean
    lies between q value + (1 - q) lowest and q value + (1 - q) highest. For k successes of k this is the
    Clopper-Pearson limit. k = 0 gives the whole range.
    """
    q = (alpha / 2) ** (1 / k) if k else 0.0
    return q * value + (1 - q) * lowest, q * value + (1 - q) * highest


def logit_limits(value: float, error: float, quantile: float = Z) -> tuple[float, float]:
    """Limits of a proportion or an AUROC with standard error `error`, symmetric on the logit scale."""
    centre, half = float(logit(value)), quantile * error / (value * (1 - value))
    return float(expit(centre - half)), float(expit(centre + half))


def likelihood_ratios(truth: Any, predicted: Any) -> dict[str, Estimate]:
    """The `positive` and the `negative` likelihood ratio with 95 % intervals; True or False per image in each input.

    The interval is symmetric on the log scale: Simel, Samsa and Matchar 1991 (J Clin Epidemiol 44:763). It does not
    exist where a count is 0 (the log is infinite) nor where both rates are 1 (it has no width). Then the ratio itself
    stands, 0 or infinity, no count is invented, and the open end is the quotient of Clopper-Pearson limits of the two
    rates, which holds with at least 95 %; the note gives the reason. 0 / 0 is undefined, as is any ratio without
    positives or negatives.
    """
    t, p = as_arrays(truth=(truth, bool), predicted=(predicted, bool))
    if why := lacks_class(t):
        return {name: Estimate.undefined(len(t), LOG_METHOD, why) for name in ("positive", "negative")}
    found = {}
    for name, called in {"positive": p, "negative": ~p}.items():
        counts = int((t & called).sum()), int(t.sum()), int((~t & called).sum()), int((~t).sum())
        found[name] = _ratio(*counts, f"nothing was called {name}")
    return found


def _ratio(a: int, positives: int, b: int, negatives: int, neither: str) -> Estimate:
    """a / positives over b / negatives; `neither` is the reason where both counts are 0."""
    n = positives + negatives
    if a == b == 0:
        return Estimate.undefined(n, LOG_METHOD, neither)
    if 0 not in (a, b) and (a < positives or b < negatives):
        value = (a / positives) / (b / negatives)
        low, high = Table2x2(np.array([[a, positives - a], [b, negatives - b]])).riskratio_confint(ALPHA)
        return Estimate(value, float(low), float(high), n, LOG_METHOD)
    top, bottom = proportion(a, positives), proportion(b, negatives)
    value = top.value / bottom.value if b else math.inf
    high = top.high / bottom.low if bottom.low else math.inf
    why = "a count is 0, so the log method has no interval" if 0 in (a, b) else "every image was called alike"
    return Estimate(value, top.low / bottom.high, high, n, "Clopper-Pearson limits", why)
