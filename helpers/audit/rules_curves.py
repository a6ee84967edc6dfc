"""The audit's rules for AUROCs and operating points, intervals, pooled accuracies and p values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from helpers.audit.facts import Fact, ScoredSet
from helpers.audit.rules import Answer, rule
from helpers.metrics import estimate
from helpers.run.claims import hanley_mcneil

METHODS = estimate.METHODS | {"Wald": "normal"}  # our name: statsmodels' name
LOOSE = 0.15  # an AUROC's interval may be so much wider or narrower than Hanley and McNeil's, another method


# --- AUROCs and operating points ----------------------------------------------------------------------------------


@rule("AUROC fits its operating point")
def auroc_at_point(auroc: Fact, sensitivity: Fact, specificity: Fact) -> Answer:
    """Is the AUROC within what a rising curve through the printed point can have?

    At the least the curve is 0 before the point and `sensitivity` after it; at the most `sensitivity` before, 1 after.
    """
    low = sensitivity.low * specificity.low
    high = 1 - (1 - min(1.0, sensitivity.high)) * (1 - min(1.0, specificity.high))
    near = high if auroc.value > high else low
    good = auroc.low <= high and auroc.high >= low
    return Answer(good, f"{auroc.show(low)} to {auroc.show(high)} possible", auroc.gap(near), auroc.show(near))


@rule("AUROC of a joint set fits those of its parts")
def auroc_of_parts(joint: Fact, *aurocs: Fact, test_set: ScoredSet) -> Answer:
    """Can the joint set's AUROC arise from its parts' AUROCs, whatever pairs across them do?"""
    if not all(len(part.positives) for part in test_set.parts):
        return Answer(None, "no number of positives is possible", more={"sizes": "unknown"})
    sizes = [(int(np.median(part.positives)), part.n) for part in test_set.parts]
    least, most = between_groups(joint, aurocs, [(p, n - p) for p, n in sizes])
    found = f"pairs across hospitals: {100 * max(0, least):.1f} to {100 * min(1, most):.1f} % in the right order"
    mend = f"a joint AUROC {'below' if least > 1 else 'above'} {joint.text}"
    more = {"sizes": ", ".join(f"{p:,} of {n:,}" for p, n in sizes)}
    return Answer(least <= 1 and most >= 0, found, max(0.0, least - 1, -most), mend, more=more)


def between_groups(joint: Fact, aurocs: Sequence[Fact], sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The mean AUROC, lowest and highest, that pairs from two different groups must have, so that `joint` comes out.

    `sizes` holds each group's positives and negatives. Pairs within a group count by their number.
    """
    pairs = sum(p for p, _ in sizes) * sum(q for _, q in sizes)
    inside = [p * q for p, q in sizes]
    low, high = (float(np.dot(inside, [getattr(fact, end) for fact in aurocs])) for end in ("low", "high"))
    across = pairs - sum(inside)
    return (joint.low * pairs - high) / across, (joint.high * pairs - low) / across


# --- intervals ----------------------------------------------------------------------------------------------------


def interval(k: int, n: int, method: str) -> tuple[float, float]:
    """The 95 % interval of `k` of `n`, cut to 0 and 1 as it would be printed."""
    from statsmodels.stats.proportion import proportion_confint

    return tuple(np.clip(proportion_confint(k, n, alpha=estimate.ALPHA, method=METHODS[method]), 0, 1).tolist())


def fits_interval(fact: Fact, n: int, method: str) -> bool:
    """Whether some count prints as the value, and its interval by `method` as the printed limits."""
    room = 0.5 * 10.0 ** -_limit_digits(fact) / (100 if fact.percent else 1) + 1e-9
    return any(np.allclose(interval(k, n, method), fact.limits, rtol=0, atol=room) for k in fact.counts(n))


def _limit_digits(fact: Fact) -> int:
    """The decimals that the limits show; they may be more than the value's ('100 % (99.73-100 %)')."""
    scale = 100 if fact.percent else 1
    return max(fact.decimals, *(len(f"{scale * x:.6f}".rstrip("0").partition(".")[2]) for x in fact.limits))


def show_limits(fact: Fact, k: int, n: int, method: str) -> str:
    """The interval of `k` of `n` with as many digits as the printed limits: '99.67 to 99.78 %'."""
    scale, unit = (100, " %") if fact.percent else (1, "")
    return " to ".join(f"{scale * x:.{_limit_digits(fact)}f}" for x in interval(k, n, method)) + unit


@rule("printed interval follows from n")
def interval_follows(fact: Fact, *, method: str, sizes: Sequence[Fact], whose: Sequence[str]) -> Answer:
    """Is the interval of a proportion that of `method`, for the first of `sizes`?

    The other sizes (`whose`) and methods are tried as well: `more` holds what they would give.
    """
    tried = {int(size.value): words for size, words in zip(sizes, whose, strict=True)}
    fits = [(n, m) for n, m in product(tried, METHODS) if fits_interval(fact, n, m)]
    hits = "; ".join(f"{m} of {n:,} ({tried[n]})" for n, m in fits)
    n, *others = tried
    k = max(fact.counts(n), default=round(fact.value * n))
    would = [f"n = {m:,} ({tried[m]}) would give {show_limits(fact, round(fact.value * m), m, method)}" for m in others]
    found, gap = f"fits {hits or 'none of those tried'}", max(map(fact.gap, interval(k, n, method)))
    return Answer((n, method) in fits, found, gap, show_limits(fact, k, n, method), more={"others": "; ".join(would)})


@rule("printed interval follows from n")
def interval_of_either(fact: Fact, *, method: str, sizes: Sequence[Fact], whose: Sequence[str]) -> Answer:
    """Is the interval, where all are correct, that of any one of `sizes`?"""
    tried = [(int(size.value), words) for size, words in zip(sizes, whose, strict=True)]
    shown = "; ".join(f"{words} {show_limits(fact, n, n, method)}" for n, words in tried)
    return Answer(any(fits_interval(fact, n, method) for n, _ in tried), shown)


@rule("printed interval follows from n")
def interval_if_dependent(fact: Fact, *, method: str, units: Fact) -> Answer:
    """What an interval would be if only `units` of the n observations were independent; no rule can tell."""
    n = int(units.value)
    k, right = round(fact.value * n), fact.counts(fact.n)
    wide = show_limits(fact, k, n, method)
    found = f"{wide} for {k:,} of {n:,}; {fact.n - right[-1]:,} to {fact.n - right[0]:,} images are wrong"
    return Answer(None, found, more={"wide": wide})


@rule("printed interval follows from n")
def auroc_width(fact: Fact, *, test_set: ScoredSet) -> Answer:
    """Is an AUROC's printed interval about as wide as Hanley and McNeil's for so many positives?

    The text names no method, and DeLong's differs somewhat, so a difference within `LOOSE` is consistent and a larger
    one is undecidable: it never proves a misprint. Limits that do not hold the value would.
    """
    if not fact.limits[0] - fact.half <= fact.value <= fact.limits[1] + fact.half:
        return Answer(False, f"{fact.value} is not inside the limits", 1.0, "an interval that holds the value")
    if not len(test_set.positives):
        return Answer(None, "no number of positives is possible")
    low, high = sorted(auroc_spread(fact.value, p, test_set.n) for p in test_set.positives[[0, -1]])
    near = (1 - LOOSE) * low - 2 * fact.half <= fact.width <= (1 + LOOSE) * high + 2 * fact.half
    ratio = fact.width / ((low + high) / 2)
    found = f"{fact.width:.3f} wide; Hanley and McNeil's is {low:.3f} to {high:.3f} (ratio {ratio:.2f})"
    return Answer(True if near else None, found)


def auroc_spread(auroc: float, positives: int, n: int) -> float:
    """The width of Hanley and McNeil's 95 % interval of an AUROC."""
    return 2 * 1.959964 * hanley_mcneil(auroc, int(positives), n - int(positives))


# --- pooled accuracies and their p values -------------------------------------------------------------------------


@rule("pooled accuracies fit each other")
def pools_fit(
    *facts: Fact, pools: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], sizes: Sequence[Fact]
) -> Answer:
    """Do accuracies of single models exist that give every printed pool?

    Models are `rows` x `columns`, and each was validated on as many images as `sizes` says of its column. A pool names
    rows and columns; where it names none of either, it holds all of them.
    """
    models = list(product(rows, columns))
    inside = np.array([[_in_pool(model, pool, rows, columns) for model in models] for pool in pools])
    weights = inside * np.tile([size.value for size in sizes], len(rows))
    found = accuracies_of_models(facts, weights)
    also = f"a plain mean of models would {'not fit' if accuracies_of_models(facts, inside) is None else 'fit too'}"
    if found is not None:
        ends = zip(models, 100 * found, strict=True)
        each = [f"{' / '.join(model)} {low:.2f} to {high:.2f} %" for model, (low, high) in ends]
        return Answer(True, f"{'; '.join(each)}; {also}")
    rest = [([*facts[:i], *facts[i + 1 :]], np.delete(weights, i, axis=0)) for i in range(len(facts))]
    odd = [fact for fact, others in zip(facts, rest, strict=True) if accuracies_of_models(*others) is not None]
    which = " or ".join(f"{fact.quantity} ({fact.text})" for fact in odd) or "more than one of them"
    return Answer(False, f"no accuracies of the models give all of them; {also}", 1e-3, f"another value for {which}")


def _in_pool(model: tuple[str, str], pool: Sequence[str], *kinds: Sequence[str]) -> bool:
    return all(name in pool or not set(pool) & set(kind) for name, kind in zip(model, kinds, strict=True))


def accuracies_of_models(facts: Sequence[Fact], weights: np.ndarray) -> np.ndarray | None:
    """The lowest and highest accuracy of each model (k, 2) that all pooled `facts` allow; None where none fit.

    `weights` (facts, k) are the images of each model in each pool. Pools are linear in the accuracies, so that a linear
    programme finds the ends.
    """
    from scipy.optimize import linprog

    shares = weights / weights.sum(axis=1, keepdims=True)
    bounds = {"A_ub": np.vstack([shares, -shares]), "b_ub": [f.high for f in facts] + [-f.low for f in facts]}
    goals = [sign * goal for goal in np.eye(shares.shape[1]) for sign in (1, -1)]
    results = [linprog(goal, **bounds, bounds=(0, 1), method="highs") for goal in goals]
    if not all(result.success for result in results):
        return None
    return np.array([abs(result.fun) for result in results]).reshape(-1, 2)


def chi_squared(a: Fact, n_a: int, b: Fact, n_b: int) -> tuple[float, float]:
    """Lowest and highest p of Pearson's test (no correction) of two shares, over all counts that print as they do."""
    from scipy.stats import chi2_contingency

    counts = [fact.counts(n) or [round(fact.value * n)] for fact, n in ((a, n_a), (b, n_b))]
    values = []
    for k_a, k_b in product(*((some[0], some[-1]) for some in counts)):
        table = [[k_a, n_a - k_a], [k_b, n_b - k_b]]
        same = k_a + k_b in (0, n_a + n_b)  # without an error, or without a success, nothing can differ
        values.append(1.0 if same else float(chi2_contingency(table, correction=False).pvalue))
    return min(values), max(values)


@rule("p value follows from the counts")
def p_follows(a: Fact, b: Fact, limit: Fact, *, units: Fact | None = None, models: Sequence[int] = (1, 1)) -> Answer:
    """Is the printed p limit that of the printed accuracies and their numbers of images?

    Or of only `units` independent images for each of the pooled models: does the conclusion stand?
    """
    n_a, n_b = (int(units.value) * k for k in models) if units else (a.n, b.n)
    low, high = chi_squared(a, n_a, b, n_b)
    found = f"p = {low:.2g}" + (f" to {high:.2g}{'' if units else ' by rounding'}" if high > low else "")
    good = True if high < limit.value else None if low < limit.value else False
    return Answer(good, found, max(0.0, (low - limit.value) / limit.value), found, more={"n_a": n_a, "n_b": n_b})
