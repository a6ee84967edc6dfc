"""The plain type every data set's loader leaves: one row per image, checked on the way in."""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.run.steps import nearest

REQUIRED = ("image_id", "path", "label", "patient_id", "published_split", "digest")
OPTIONAL = (
    "site view validation department body markers cohort mask lung_mask age labels findings signature severity quality "
    "width height average_hash"
).split()

# The 14 findings of ChestX-ray14, in the order of Zech's table. An image has any number of them; its column `labels`
# joins them by |; its one label is whether it has any.
FINDINGS = tuple(
    "Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema Emphysema "
    "Fibrosis Pleural_Thickening Hernia".split()
)
NO_FINDING = "No Finding"
FINDING_CLASSES = (NO_FINDING, "Finding")


ABSENT = "the file is absent"  # the reason of a row of a data set's table that has no file here
NAMED = 20  # files of one reason that `excluded_by_reason` names


class CatalogueError(ValueError):
    """A catalogue that breaks its promises; the message names the column and the first rows."""


@dataclass(frozen=True)
class Catalogue:
    """A data set on disk.

    `frame` has one row per image, `classes` the labels in the order that figures and scores use, `excluded` the files
    set aside: a frame of `path` and `reason`. Where no `patients_known`, each image stands for a patient of its own,
    and no number of patients may be shown. The columns of `frame`, those of `REQUIRED` and any of `OPTIONAL`:

    image_id: unique name of the image within its data set
    path: where the file lies, relative to the catalogue's root
    label: one of the catalogue's classes, spelt as the data set spells it
    patient_id: images of one patient share it; empty strings are not allowed
    published_split: train or test, as published
    digest: SHA-256 of the file's bytes

    site: hospital or scanner
    view: projection or scan direction
    validation: True for an image of the training folder that its publisher keeps for validation
    department: of the hospital, or what stands for it
    body: what the image shows; images of one body differ in their signature alone
    markers: on: the image bears its site's signature; off: a neutral one
    cohort: natural, or reserve: patients for sets of another prevalence
    mask: lesion mask, a PNG relative to the root (phantoms only)
    lung_mask: mask of the lungs, a PNG relative to the root (phantoms only)
    age: years
    labels: every label of an image that has several, joined by |
    findings: what the image shows beside its label, joined by | (phantoms only)
    signature: whose markers, borders and contrast it bears (phantoms only)
    severity: 0 (subtle) to 1 (plain) (phantoms only)
    quality: 0 (noisy) to 1 (clean) (phantoms only)
    width: pixels
    height: pixels
    average_hash: 64-bit perceptual hash as 16 hex digits, for near duplicates
    """

    name: str
    root: Path
    frame: pd.DataFrame
    classes: tuple[str, ...]
    excluded: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"path": [], "reason": []}, dtype=str))
    phantom: bool = False
    patients_known: bool = True

    def __post_init__(self) -> None:
        frame = self.frame
        missing = [column for column in REQUIRED if column not in frame.columns]
        if missing:
            raise CatalogueError(f"{self.name}: no column {', '.join(missing)}")
        if frame.empty:
            raise CatalogueError(f"{self.name}: no usable image under {self.root}")
        for column in REQUIRED:
            bad = frame[column].isna() | (frame[column].astype(str) == "")
            self._refuse(bad, f"empty {column}")
        self._refuse(frame["image_id"].duplicated(keep=False), "image_id not unique")
        self._refuse(~frame["label"].isin(self.classes), f"label not one of {', '.join(self.classes)}")
        self._refuse(~frame["published_split"].isin(("train", "test")), "published_split neither train nor test")

    def _refuse(self, bad: pd.Series, what: str) -> None:
        if bad.any():
            rows = ", ".join(self.frame.loc[bad, "path"].astype(str).head(3))
            raise CatalogueError(f"{self.name}: {what} in {int(bad.sum())} rows, first {rows}")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def set_aside(self) -> pd.DataFrame:
        """Those of `excluded` whose file is there."""
        return self.excluded[self.excluded["reason"] != ABSENT]

    def excluded_by_reason(self, named: int = NAMED) -> list[dict[str, Any]]:
        """How many files each reason excludes, and the first `named`: of a subset, 100,000 others may be absent.

        Reasons beyond `NAMED` count as one, so that the list is short whatever lies in a folder.
        """
        counts = self.excluded["reason"].value_counts()
        reason = self.excluded["reason"].where(self.excluded["reason"].isin(counts.index[:NAMED]), "other reasons")
        return [
            {"data": self.name, "reason": why, "files": len(paths), "first": ", ".join(paths.head(named))}
            for why, paths in self.excluded["path"].groupby(reason, sort=False)
        ]

    def file(self, path: str) -> Path:
        """The absolute place of one row's `path` (or `mask`)."""
        return self.root / path

    def subset(self, rows: pd.DataFrame) -> Catalogue:
        """The same data set with only these rows of its frame."""
        return replace(self, frame=rows.reset_index(drop=True))

    def seen_from(self, root: Path) -> Catalogue:
        """The same data set with its paths relative to a folder above its own."""
        inner = self.root.resolve().relative_to(root.resolve()).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        frame, excluded = (rows.assign(path=prefix + rows["path"].astype(str)) for rows in (self.frame, self.excluded))
        return replace(self, root=root, frame=frame, excluded=excluded)

    def fingerprint(self) -> str:
        """16 hex digits that change when any image, label, patient or split does."""
        columns = ["image_id", "label", "patient_id", "published_split", "digest"]
        text = self.frame[columns].sort_values("image_id").to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sizes_of(catalogue: Catalogue) -> str:
    """How many images there are to train and to test on, for a sentence."""
    test = int((catalogue.frame["published_split"] == "test").sum())
    return f"{len(catalogue) - test:,} training and {test:,} test images"


def phantoms_described(catalogue: Catalogue) -> tuple[bool, str]:
    """What a wing's `describe` answers for phantoms: not comparable with a paper, and a sentence with their number."""
    return False, f"Phantoms: {sizes_of(catalogue)}, made from formulas; no evidence about the paper."


def read_table(path: Path, columns: Collection[str], **how: Any) -> pd.DataFrame:
    """A CSV of a data set, as text unless `how` (of `pandas.read_csv`) says otherwise; cells are stripped.

    `columns` are found whatever their case ("Patientid") and come out as they are spelt here. Raises FileNotFoundError
    where there is no file, and `CatalogueError` for one that cannot be read (see `_read_csv`) or lacks a column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    table = _read_csv(path, CatalogueError, **how)
    found = {name.lower(): name for name in reversed(table.columns)}
    table = table.rename(columns={found.get(name.lower(), name): name for name in columns if name not in table})
    if missing := [name for name in columns if name not in table]:
        raise CatalogueError(f"{path}: no column {', '.join(missing)}; the header is '{','.join(table):.200}'")
    return table.apply(lambda column: column if pd.api.types.is_numeric_dtype(column) else column.str.strip())


def _read_csv(path: Path, refuse: type[ValueError], **how: Any) -> pd.DataFrame:
    """A CSV as spreadsheets of any country save it: separated by commas, semicolons or tabs, in UTF-8, UTF-16 or
    Windows' own letters (as which any other file of bytes is read, and said). Raises `refuse`, with a remedy.
    """
    as_text = {"dtype": str, "keep_default_na": False, "index_col": False}  # "NA" is a text
    try:
        text = _decoded(path)
        header = text.lstrip().split("\n", 1)[0]
        separator = max(",;\t", key=header.count)  # of several as frequent ones the comma
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):  # cells would be lost
            text = re.sub(rf"(?<=\n)(.*?){separator}+(?=\r?$)", r"\1", text, flags=re.MULTILINE)  # empty last cells
            decimal = "," if separator == ";" else "."
            table = pd.read_csv(io.StringIO(text), sep=separator, decimal=decimal, **as_text | how)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        why = "a line is longer than the header" if isinstance(error, pd.errors.ParserWarning) else str(error).strip()
        remedy = "Save it as 'CSV UTF-8', a header first and then one line per row"
        raise refuse(f"{path}: not a CSV that can be read: {why}. {remedy}") from None
    return table.rename(columns=lambda name: str(name).strip())


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("it is not text (a workbook or an archive, or UTF-16 without its mark)")
    try:  # utf-8-sig also takes the mark that spreadsheets put first
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        warnings.warn(f"{path}: not UTF-8 from byte {error.start} on, read as Windows-1252", UserWarning, stacklevel=4)
        return data.decode("cp1252", errors="replace")


def join_findings(found: pd.DataFrame) -> pd.Series:
    """Texts such as "Effusion|Mass", "No Finding" for none, from one bool column per finding."""
    names = pd.Series(FINDINGS)
    rows = found[list(FINDINGS)].to_numpy(bool)
    return pd.Series(["|".join(names[row]) or NO_FINDING for row in rows], index=found.index, dtype=object)


def split_findings(joined: pd.Series) -> pd.DataFrame:
    """One bool column per finding, from texts such as "Effusion|Mass". Raises `CatalogueError` for an unknown one."""
    # Looked at before each becomes a column, of which a wrong table has as many as rows.
    unknown = sorted({*"|".join(joined.unique()).split("|")} - {*FINDINGS, NO_FINDING, ""})
    if unknown:
        raise CatalogueError(f"{len(unknown):,} unknown findings, such as {', '.join(unknown[:3]):.200}")
    found = joined.str.get_dummies("|").astype(bool)
    return found.reindex(columns=list(FINDINGS), fill_value=False)


def any_finding(joined: pd.Series) -> pd.Series:
    """The one label of `FINDING_CLASSES`: whether there is any finding."""
    return joined.ne(NO_FINDING).map({True: "Finding", False: NO_FINDING})


class UserTableError(ValueError):
    """A CSV of the user's that cannot be used; the message names the file, the line and what is wrong there."""


def read_user_table(
    path: str | Path, columns: Sequence[str], catalogue: Catalogue, optional: Sequence[str] = ()
) -> pd.DataFrame:
    """A CSV of the user's about a catalogue's images: `columns` and `optional` as stripped text, indexed by its lines.

    The file has a header (see `_read_csv`); other columns and blank lines are left out, an `optional` column may be
    missing or empty (""). `image` is an image_id of the catalogue, or its file's name without folder and ending where
    no other image has that name; the image_id is returned. Raises `UserTableError` for a missing file or column, an
    empty cell and an unknown image.
    """
    path = Path(path)
    if not path.is_file():
        raise UserTableError(f"there is no file {path}")
    table = _read_csv(path, UserTableError, skip_blank_lines=False).fillna("")
    table.columns = [column.lower() for column in table.columns]
    table = table.loc[:, ~table.columns.duplicated()]  # of "Image" and "image" the first, as of "image" twice
    if missing := [column for column in columns if column not in table]:
        expected = f"the header is '{','.join(table):.200}', expected {','.join([*columns, *optional])}"
        raise UserTableError(f"{path}: no column {', '.join(missing)}; {expected}")
    table = table.reindex(columns=[*columns, *optional], fill_value="").apply(lambda column: column.str.strip())
    table = table.set_index(table.index + 2)[(table != "").any(axis=1).to_numpy()]
    if table.empty:
        raise UserTableError(f"{path}: it has a header and nothing else")
    for column in columns:
        refuse_rows(path, table, table[column] == "", f"{column} is empty")
    names = catalogue.frame.set_index("image_id")["path"].map(lambda name: Path(name).stem)
    names = names[~names.duplicated(keep=False)]  # a name that two files share means neither
    known, named = list(catalogue.frame["image_id"]), pd.Series(names.index, index=names)
    table["image"] = table["image"].where(table["image"].isin(known), table["image"].map(named).fillna(table["image"]))
    unknown = ~table["image"].isin(known)
    hint = nearest(table.loc[unknown.idxmax(), "image"], known) if unknown.any() else ""  # of one: it takes a second
    hinted = table.assign(hint=hint if hint.startswith("; did") else "")
    refuse_rows(path, hinted, unknown, "image '{image}' is not in the data set{hint}")
    return table


def refuse_rows(path: str | Path, table: pd.DataFrame, bad: pd.Series, problem: str) -> None:
    """Raise `UserTableError` for the first `bad` line of the file; `problem` may name its cells in braces."""
    if bad.any():
        line = bad.idxmax()
        raise UserTableError(f"{path}: line {line}: {problem.format(**table.loc[line])}")
