"""Do shared numbers mean shared patients? The Kermany chest X-rays put to the test, folder by folder, class by class.

Numbers restart in each folder of version 2 (see `kermany_xray`), so a number in both is not yet a patient in both. Two
kinds of evidence stand beside the name: near copies between the folders, and whether pairs of one number look more
alike than chance pairs, which `audit.shared_id_evidence` measures with an interval and a permutation test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from helpers.data.audit import SharedIdEvidence
from helpers.data.audit import shared_id_evidence as compare_shared_ids
from helpers.data.catalogue import Catalogue
from helpers.data.copies import duplicates
from helpers.data.kermany_xray import with_shared_numbers

SIMILAR_BITS, SIMILAR_CORRELATION = 6, 0.97  # looser than `copies`: the most alike of 2,521 different films reach 0.979


@dataclass(frozen=True)
class IdComparison:
    """One class of the test folder against one of the train folder (or two classes of one folder).

    `first` and `second` say which; `shared` is how many numbers occur in both, and `evidence` what their pixels say.
    `copies_same_number` and `copies_other_number` are the pairs of near or exact copies across the two whose numbers
    agree and do not: were shared numbers shared patients, the first would stand out.
    """

    first: str
    second: str
    shared: int
    evidence: SharedIdEvidence
    copies_same_number: int
    copies_other_number: int

    def as_row(self) -> dict[str, str | int | float]:
        """For a table."""
        e = self.evidence
        return {
            "first": self.first,
            "second": self.second,
            "shared": self.shared,
            "pairs": e.pairs,
            "alike": e.alike.value,
            "low": e.alike.low,
            "high": e.alike.high,
            "reference": e.reference.value,
            "p_value": e.p_value,
            "copies_same_number": self.copies_same_number,
            "copies_other_number": self.copies_other_number,
        }


def shared_id_evidence(catalogue: Catalogue, seed: int, workers: int = 0) -> list[IdComparison]:
    """For ids in both folders: are they shared patients? One comparison a pair of classes that share a number.

    A number may come back under the other kind of pneumonia (`person12_bacteria` in train, `person12_virus` in test),
    so every class of test is set against every class of train, each with chance pairs of the same two classes; `alike`
    is 0.5 where a shared number means nothing. Raises `UnreadableImage`.
    """
    bare = with_shared_numbers(catalogue)
    sides = {split: bare.frame[bare.frame["published_split"] == split] for split in ("test", "train")}
    cases = [(("test", a), ("train", b)) for a, b in product(catalogue.classes, repeat=2)]
    return _compare(bare, sides, cases, seed, workers)


def same_folder_evidence(
    catalogue: Catalogue, seed: int, folder: str = "train", workers: int = 0
) -> list[IdComparison]:
    """The same for two classes of one folder: is `person12_bacteria` the patient of `person12_virus`?"""
    bare = with_shared_numbers(catalogue)
    sides = {folder: bare.frame[bare.frame["published_split"] == folder]}
    cases = [((folder, a), (folder, b)) for a, b in product(catalogue.classes, repeat=2) if a != b]
    return _compare(bare, sides, cases, seed, workers)


def table(comparisons: list[IdComparison]) -> pd.DataFrame:
    """One row a comparison: first, second, shared, pairs, alike with low and high, reference, p_value, copies."""
    return pd.DataFrame([comparison.as_row() for comparison in comparisons])


def _compare(
    bare: Catalogue, sides: dict[str, pd.DataFrame], cases: list, seed: int, workers: int
) -> list[IdComparison]:
    found = []
    for (first_folder, a), (second_folder, b) in cases:
        first, second = (sides[f].query("label == @c") for f, c in ((first_folder, a), (second_folder, b)))
        shared = set(first["patient_id"]) & set(second["patient_id"])
        if shared:
            pair = _as_two_folders(bare, first, second)
            alike = duplicates(pair, SIMILAR_BITS, SIMILAR_CORRELATION, workers).query("where == 'train and test'")
            same = int((alike["patient_a"] == alike["patient_b"]).sum())
            evidence = compare_shared_ids(pair, seed, workers)
            names = f"{a} in {first_folder}", f"{b} in {second_folder}"
            found.append(IdComparison(*names, len(shared), evidence, same, len(alike) - same))
    return found


def _as_two_folders(bare: Catalogue, first: pd.DataFrame, second: pd.DataFrame) -> Catalogue:
    """A catalogue of one class whose test folder is `first` and whose train folder is `second`, as the audit wants."""
    frame = pd.concat([first.assign(published_split="test"), second.assign(published_split="train")])
    return replace(bare, frame=frame.assign(label="film").reset_index(drop=True), classes=("film",))
