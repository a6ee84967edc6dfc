"""Does a weighted error agree with accuracy, sensitivity, specificity and the penalties?

Kermany 2018, figure S4: "The penalties include an error score of 4 for 'urgent referrals' scored as normal and an error
score of 2 for 'urgent referrals' scored as drusen. All other incorrect answers carry an error score of 1." With the
counts of errors that accuracy (all classes), sensitivity and specificity (urgent referral) leave, only the missed
urgent ones have a choice of penalty; so the weighted error can take few values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from helpers.audit.facts import Fact
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked

RULE = "weighted error agrees with accuracy, sensitivity and specificity"


@dataclass(frozen=True)
class Weighted:
    """A four-class model's printed results. `urgent` images of `n` need urgent referral (CNV and DME).

    `penalties` are those of an urgent image called normal, an urgent one called drusen, and any other error. With
    `none_as_normal` no urgent image was called normal, as the legend of figure 4 says of the best model.
    """

    accuracy: Fact
    sensitivity: Fact
    specificity: Fact
    weighted_error: Fact
    urgent: int
    n: int
    penalties: tuple[float, float, float]
    none_as_normal: bool

    @property
    def facts(self) -> list[Fact]:
        return [self.accuracy, self.sensitivity, self.specificity, self.weighted_error]

    def errors(self) -> Iterator[tuple[int, int, int]]:
        """(wrong in all, urgent missed, called urgent without need) for each choice of counts that prints so."""
        for right in counts_for(self.accuracy, self.n):
            for tp in counts_for(self.sensitivity, self.urgent):
                for tn in counts_for(self.specificity, self.n - self.urgent):
                    wrong, missed, needless = self.n - right, self.urgent - tp, self.n - self.urgent - tn
                    if missed + needless <= wrong:
                        yield wrong, missed, needless

    def totals(self) -> dict[float, str]:
        """Each sum of penalties that is possible, and how it comes about."""
        normal, drusen, other = self.penalties
        found = {}
        for wrong, missed, needless in self.errors():
            for as_normal in range(1 if self.none_as_normal else missed + 1):
                total = normal * as_normal + drusen * (missed - as_normal) + other * (wrong - missed)
                found.setdefault(
                    total,
                    f"{missed - as_normal} urgent called drusen, {as_normal} called normal, "
                    f"{needless} needless referrals, {wrong - missed - needless} other errors",
                )
        return found


def agrees(name: str, model: Weighted, matters: int = 4) -> Check:
    """The check for one model."""
    totals = model.totals()
    said = "no urgent image called normal" if model.none_as_normal else "urgent images may be called normal"
    assumption = (
        f"{model.urgent} of {model.n:,} images urgent; penalties {', '.join(f'{p:g}' for p in model.penalties)}; {said}"
    )
    fact, options = model.weighted_error, {"assumption": assumption, "matters": matters}
    if not totals:
        return _no_errors(name, model, options)
    possible = {total / model.n: how for total, how in totals.items()}
    fitting = {value: how for value, how in possible.items() if fact.holds(value)}
    if fitting:
        how = next(iter(fitting.values()))
        sentence = f"A weighted error of {fact.text} agrees with the other three: {how}."
        return checked(name, RULE, model.facts, True, found=how, sentence=sentence, **options)
    low, high = min(possible), max(possible)
    near = min(possible, key=lambda value: abs(value - fact.value))
    values = ", ".join(fact.show(value) for value in sorted(possible, key=lambda v: abs(v - fact.value))[:2])
    span = fact.show(low) if low == high else f"{fact.show(low)} to {fact.show(high)} in {len(possible)} steps"
    span += "" if low == high else f" (nearest: {values})"
    sentence = (
        f"Accuracy {model.accuracy.text}, sensitivity {model.sensitivity.text} and specificity "
        f"{model.specificity.text} leave a weighted error of {span}, not {fact.text}: {possible[near]}. A misprint, or "
        "penalties other than those printed, is the likeliest cause."
    )
    mend = f"weighted error {fact.show(near)}, {fact.steps(near)} in the last digit"
    if other := _other_values(model):
        mend += f"; or {other}"
    return checked(
        name,
        RULE,
        model.facts,
        False,
        found=f"{span}; {possible[near]}",
        sentence=sentence,
        gap=fact.gap(near),
        mend=mend,
        **options,
    )


def _no_errors(name: str, model: Weighted, options: dict) -> Check:
    return checked(
        name,
        RULE,
        model.facts,
        False,
        found="more referral errors than errors in all",
        sentence="The referral errors that sensitivity and specificity leave are more than accuracy leaves in all.",
        gap=1.0,
        mend="a lower accuracy",
        **options,
    )


def _other_values(model: Weighted) -> str:
    """The nearest accuracy, and the nearest sensitivity, that would make the weighted error possible, each alone."""
    found = []
    for name, n in (("accuracy", model.n), ("sensitivity", model.urgent)):
        fact = getattr(model, name)
        for k in sorted(range(n + 1), key=lambda k: abs(k / n - fact.value)):
            changed = replace(model, **{name: replace(fact, value=k / n, half=0.0)})
            if any(model.weighted_error.holds(total / model.n) for total in changed.totals()):
                found.append((fact.steps(k / n), f"{name} {fact.show(k / n)}, {fact.steps(k / n)} in the last digit"))
                break
    return "; or ".join(text for _, text in sorted(found))
