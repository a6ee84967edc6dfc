"""The one type that statistics leave behind."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, how many observations it rests on, and how the interval was made.

    `value`, `low` and `high` share one unit (a proportion is 0 to 1, never per cent). An estimate that the data
    cannot give (no positives, say) has NaN for all three, and `note` says why; `n` is then what was looked at.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"an estimate from n = {self.n} observations")
        if not math.isnan(self.low) and not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low} to {self.high} does not hold the value {self.value}")

    @classmethod
    def undefined(cls, n: int, method: str, why: str) -> Estimate:
        """An estimate that the data cannot give, with the reason."""
        return cls(math.nan, math.nan, math.nan, n, method, why)

    @property
    def defined(self) -> bool:
        return not math.isnan(self.value)

    def as_dict(self) -> dict:
        return asdict(self)

    def percent(self, digits: int = 1) -> str:
        """'96.6 % (95.3 to 97.6)', as the papers print proportions."""
        if not self.defined:
            return f"undefined ({self.note})" if self.note else "undefined"
        value, low, high = (f"{100 * x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value} % ({low} to {high})"

    def __str__(self) -> str:
        if not self.defined:
            return f"undefined ({self.note})" if self.note else "undefined"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}), n = {self.n}"
