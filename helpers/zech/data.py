"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients, with up to 14 findings each.

Citation: Wang, Peng, Lu, Lu, Bagheri, Summers, "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR
    2017. Data: the NIH Clinical Center's public box folder.
Licence: no restriction on use; link to the page, cite the paper, and acknowledge the NIH Clinical Center.
Size: 45 GB in 12 archives, 1024 x 1024 PNG.
How to get it: by hand; the images into DATA_DIR/nih-chestxray14/images (or images_001/images and so on), beside
    Data_Entry_2017_v2020.csv and the split lists.
Images: PA and AP, grey (a few are stored as RGBA), of adults and children; the follow-ups of one patient are many.
Labels: found in the reports by a program, several an image, with "|" between them; "No Finding" is none of the 14. By
    its authors' account more than 90 % are right; radiologists who looked again were less sure.
Patients: the number that begins the file's name, and the column Patient ID.
Split: two lists by patient circulate under one name. The publisher's has 86,524 images in train_val_list.txt and 25,596
    in test_list.txt; the one that Zech's reproduction published has train_list.txt, val_list.txt and test_list.txt
    (78,468, 11,219 and 22,433). Whatever lies there is read; validation counts as training here, since
    `splits.split` draws its own.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.scan import scan

FINDINGS = (  # in the order of Zech's table
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NONE = "No Finding"
CLASSES = (NONE, "Finding")  # of a catalogue's one label; its column `labels` has the 14, joined by "|"
IMAGES = 112_120  # as published
SHARES = (0.7, 0.1, 0.2)  # of the patients: "70% train, 10% tune, 20% test"
LABEL_NOISE = 0.05  # share of the phantoms' findings that their labels miss
LAYOUT = "nih-chestxray14"
ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS = {"train_list.txt": "train", "val_list.txt": "train", "train_val_list.txt": "train", "test_list.txt": "test"}
COLUMNS = ["image_id", "path", "label", "labels", "patient_id", "published_split", "digest", "view", "width", "height"]


def load(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The images that lie there, labelled "Finding" where they have any of the 14; which ones, says `labels`.

    `excluded` lists images without an entry or a split, unreadable ones, and entries whose file is absent. Raises
    FileNotFoundError where there is no such data, `CatalogueError` for a table or lists that cannot be read.
    """
    root = find_root(data_dir)
    entries = read_entries(root)
    frame, unreadable = scan(root, cache, workers, under=_folders(root))
    frame = frame.assign(image_id=frame["path"].str.rsplit("/", n=1).str[-1])
    frame = frame.drop_duplicates("image_id").merge(entries, on="image_id", how="left")
    frame["published_split"] = frame["image_id"].map(read_lists(root))
    reason = pd.Series("", index=frame.index)
    reason[frame["published_split"].isna()] = "in no split list"
    reason[frame["patient_id"].isna()] = f"not in {_table(root).name}"
    aside = frame.assign(reason=reason).loc[reason != "", ["path", "reason"]]
    here = set(frame["image_id"]) | {path.rsplit("/", 1)[-1] for path in unreadable["path"]}
    absent = entries.loc[~entries["image_id"].isin(here), ["image_id"]]
    absent = pd.DataFrame({"path": "images/" + absent["image_id"], "reason": "the file is absent"})
    excluded = pd.concat([unreadable, aside, absent]).sort_values("path", ignore_index=True)
    usable = frame[reason == ""].sort_values("path", ignore_index=True)
    if usable.empty:
        raise CatalogueError(f"nih: no usable image under {root}")
    every = joined(usable[list(FINDINGS)].astype(bool))
    usable = usable.assign(label=label_of(every), labels=every)
    present = tuple(c for c in CLASSES if c in set(usable["label"]))
    return Catalogue("nih", root, usable[[*COLUMNS, "average_hash"]], present, excluded)


def labels(catalogue: Catalogue) -> pd.DataFrame:
    """The 14 findings of a catalogue's images: image_id and a bool column each, in the catalogue's order.

    They are read from its column `labels`, which the phantoms have too. Raises `CatalogueError` where there is none.
    """
    if "labels" not in catalogue.frame:
        raise CatalogueError(f"{catalogue.name}: no column labels, so its images have one label each, not several")
    return pd.concat([catalogue.frame[["image_id"]], split_labels(catalogue.frame["labels"])], axis=1)


def split_labels(joined_labels: pd.Series) -> pd.DataFrame:
    """A bool column a finding, from texts like "Effusion|Mass". Raises `CatalogueError` for what is none of the 14."""
    found = joined_labels.str.get_dummies("|").astype(bool)
    unknown = set(found) - {*FINDINGS, NONE}
    if unknown:
        raise CatalogueError(f"unknown findings {', '.join(sorted(unknown))}")
    return found.reindex(columns=list(FINDINGS), fill_value=False)


def joined(found: pd.DataFrame) -> pd.Series:
    """The other way: texts such as "Effusion|Mass", "No Finding" for none, of a bool column a finding."""
    names = pd.Series(list(FINDINGS))
    rows = found[list(FINDINGS)].to_numpy(bool)
    return pd.Series(["|".join(names[row]) or NONE for row in rows], index=found.index, dtype=object)


def label_of(joined_labels: pd.Series) -> pd.Series:
    """The one label of a catalogue's `CLASSES`: whether there is any finding."""
    return joined_labels.ne(NONE).map({True: "Finding", False: NONE})


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these are all of the talk's "112,120 NIH chest x-rays", and a sentence that says what they are."""
    test = int((catalogue.frame["published_split"] == "test").sum())
    said = f"{len(catalogue):,} of the {IMAGES:,} images of ChestX-ray14, {test:,} of them test images"
    return len(catalogue) == IMAGES, f"The published images: {said}." if len(
        catalogue
    ) == IMAGES else f"A subset: {said}."


def find_root(data_dir: Path) -> Path:
    """The folder that holds the table of entries: `data_dir` itself, or `LAYOUT` in it."""
    for root in (data_dir, data_dir / LAYOUT):
        if any((root / name).is_file() for name in ENTRIES):
            return root
    state = "" if data_dir.is_dir() else ", which does not exist"
    raise FileNotFoundError(
        f"no ChestX-ray14 in {data_dir}{state}: looked there and in {LAYOUT} for {ENTRIES[0]}. See data/datasets.toml"
    )


def read_entries(root: Path) -> pd.DataFrame:
    """All entries, with or without a file: image_id, patient_id, view (PA or AP), and a bool column a finding.

    Raises `CatalogueError` for a table without its columns, or a finding that is none of the 14.
    """
    path = _table(root)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = {"Image Index": "image_id", "Patient ID": "patient_id", "View Position": "view", "Finding Labels": "found"}
    missing = [name for name in names if name not in table]
    if missing:
        raise CatalogueError(f"{path}: no column {', '.join(missing)}")
    table = table[list(names)].rename(columns=names)
    try:
        found = split_labels(table.pop("found"))
    except CatalogueError as error:
        raise CatalogueError(f"{path}: {error}") from None
    return pd.concat([table, found], axis=1)


def read_lists(root: Path) -> dict[str, str]:
    """image_id: train or test. Raises `CatalogueError` where a list is missing or an image is in both."""
    of: dict[str, str] = {}
    for name, split in LISTS.items():
        if (root / name).is_file():
            for image in (root / name).read_text().split():
                if of.setdefault(image, split) != split:
                    raise CatalogueError(f"{root}: {image} is in a training list and in a test list")
    if set(of.values()) != {"train", "test"}:
        raise CatalogueError(f"{root}: needs test_list.txt, and train_val_list.txt or train_list.txt")
    return of


def _table(root: Path) -> Path:
    return next(root / name for name in ENTRIES if (root / name).is_file())


def _folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and p.name.startswith("images"))
