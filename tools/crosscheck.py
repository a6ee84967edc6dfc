"""Hold the audit's tables of two by two against the package mlscorecheck: `python -m tools.crosscheck`.

mlscorecheck (Fazekas and Kovács 2024) answers one of the audit's questions in another way: whether accuracy,
sensitivity, specificity and predictive values can come from one table for given class sizes. It is no dependency of
this project: it brings a solver of 36 MB, and what it says of printed numbers does not change. To repeat it,
`pip install mlscorecheck==1.0.3`.

Found with 1.0.3: the same answer for all tables of Kermany 2018, either class positive, and for every number of
positives at and around those that `helpers.audit` finds possible in table 3 of Zech 2018.
"""

from __future__ import annotations

import logging
import sys

from helpers.audit.checks import load_checks
from helpers.audit.facts import VALUES, Fact, possible_positives
from helpers.audit.rules_tables import TwoByTwo

NAMES = dict(zip(VALUES, ("acc", "sens", "spec", "ppv", "npv"), strict=True))
AROUND = 5  # numbers of positives tried beyond the possible ones, on either side


def is_consistent(facts: dict[str, Fact], positives: int, negatives: int) -> bool:
    """What mlscorecheck says of the printed values, each within its rounding."""
    from mlscorecheck.check.binary import check_1_testset_no_kfold

    scores = {NAMES[name]: fact.value for name, fact in facts.items()}
    half = {NAMES[name]: fact.half for name, fact in facts.items()}
    sizes = {"p": int(positives), "n": int(negatives)}
    return not check_1_testset_no_kfold(testset=sizes, scores=scores, eps=half)["inconsistency"]


def main() -> int:
    """Print each comparison; 1 where the two disagree, 2 where mlscorecheck is not installed."""
    try:
        import mlscorecheck  # noqa: F401
    except ImportError:
        print("install the package first: pip install mlscorecheck==1.0.3", file=sys.stderr)
        return 2
    logging.disable(logging.INFO)
    checks, apart = load_checks(), 0
    for check in (check for check in checks if check.rule == "one_table"):
        facts = dict(zip(VALUES, check.facts, strict=False))
        p, n = (int(check.names[size].value) for size in ("positives", "negatives"))
        for sizes in dict.fromkeys(((p, n), (n, p))):
            ours, theirs = bool(TwoByTwo(facts, *sizes).tables()), is_consistent(facts, *sizes)
            apart += ours != theirs
            print(f"{check.id}, {sizes[0]} positive: {ours} and {theirs}")
    for check in (check for check in checks if check.rule == "positives_of_set"):
        test_set = check.names["test_set"]
        for name, row in test_set.rows.items():
            found = set(possible_positives(row, test_set.n).tolist())
            tried = range(min(found) - AROUND, max(found) + AROUND + 1)
            differ = [p for p in tried if is_consistent(row, p, test_set.n - p) != (p in found)]
            apart += len(differ)
            print(f"{test_set.title}, {name}: {len(tried)} numbers of positives, {len(differ)} answers differ")
    print(f"{apart} differences")
    return int(apart > 0)


if __name__ == "__main__":
    sys.exit(main())
